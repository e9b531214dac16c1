//! What a processor has to be able to do.

/// Numbers of a vector, however many registers they fill.
pub(crate) const LANES: usize = 16;

/// A half (IEEE 754 binary16), without branches, so that loops over it become vectors.
#[inline(always)]
pub(super) fn half(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let magnitude = match bits & 0x7c00 {
        0 => (bits & 0x3ff) as f32 * (1. / 16_777_216.),
        0x7c00 => f32::from_bits(0x7f80_0000 | (bits & 0x3ff) << 13),
        _ => f32::from_bits(((bits & 0x7fff) << 13) + (112 << 23)),
    };
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

/// Vectors of sixteen f32 and of sixteen bytes. A value of a type that implements it proves that
/// the processor has the instructions; all methods are inlined into whoever was compiled for them.
pub(crate) trait Simd: Copy {
    /// Sixteen f32.
    type F32s: Copy;
    /// Sixteen bytes.
    type Bytes: Copy;

    /// Rows of a product that are computed together: as many vectors of sums as registers hold
    /// beside their factors.
    const TILE_ROWS: usize;

    /// Sixteen times `x`.
    fn splat(self, x: f32) -> Self::F32s;
    fn load(self, x: &[f32; LANES]) -> Self::F32s;
    fn store(self, x: Self::F32s, to: &mut [f32; LANES]);
    fn add(self, a: Self::F32s, b: Self::F32s) -> Self::F32s;
    fn mul(self, a: Self::F32s, b: Self::F32s) -> Self::F32s;
    /// `a * b + c`, rounded once or twice.
    fn mul_add(self, a: Self::F32s, b: Self::F32s, c: Self::F32s) -> Self::F32s;
    /// The sum of all sixteen, always in the same order.
    fn sum(self, x: Self::F32s) -> f32;
    /// Row `i` of `from` becomes column `i` of `to`.
    fn transpose(self, from: &[[f32; LANES]; LANES], to: &mut [[f32; LANES]; LANES]);

    /// A half, little-endian.
    #[inline(always)]
    fn half(self, bytes: [u8; 2]) -> f32 {
        half(u16::from_le_bytes(bytes))
    }
    /// Halves (IEEE 754 binary16, little-endian).
    fn halves(self, bytes: &[u8; 2 * LANES]) -> Self::F32s;
    /// Brain floats: upper halves of f32, little-endian.
    fn brain_floats(self, bytes: &[u8; 2 * LANES]) -> Self::F32s;

    fn bytes(self, bytes: &[u8; LANES]) -> Self::Bytes;
    /// `x >> shift & mask` of each byte, where `mask` has no bit that is shifted in.
    fn field(self, x: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes;
    /// `x << shift` of each byte, of which no bit that is set is shifted out.
    fn shift_left(self, x: Self::Bytes, shift: u32) -> Self::Bytes;
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Bytes less `y`, as signed ones.
    fn sub(self, x: Self::Bytes, y: u8) -> Self::Bytes;
    /// `value` where bit `i` of `bits` is set, for byte `i`; else 0.
    fn where_set(self, bits: u16, value: u8) -> Self::Bytes;
    /// `table[x]` of each byte; all are below 16.
    fn look_up(self, table: &[i8; LANES], x: Self::Bytes) -> Self::Bytes;
    /// Signed bytes as numbers.
    fn widen(self, x: Self::Bytes) -> Self::F32s;
    /// Unsigned bytes as numbers.
    fn widen_unsigned(self, x: Self::Bytes) -> Self::F32s;
}
