//! What every type's encoder is.

/// Numbers that are searched at once: a block of the 256-wide types, or eight blocks.
pub const SUPER: usize = 256;

/// Makes `BYTES` of `NUMBERS`.
pub trait Encoder<const NUMBERS: usize, const BYTES: usize> {
    /// Writes all of `b`, which is zeros before. `importance` is how much each number matters, for
    /// what is searched. It has to be inlined, so that it is compiled for the instructions of
    /// whoever calls it.
    fn encode(x: &[f32; NUMBERS], importance: Option<&[f32; NUMBERS]>, b: &mut [u8; BYTES]);
}
