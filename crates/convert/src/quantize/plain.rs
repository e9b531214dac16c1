//! The 32-wide types that are rounded without a search, as ggml's reference code rounds them.

use super::{
    encoder::Encoder,
    lanes::Lanes,
    pack::{put_five_bits, put_half, put_nibble_halves},
};

/// 1 / x, or 0 for 0: what has no scale becomes zeros.
#[inline(always)]
fn inverse(x: f32) -> f32 {
    if x == 0. { 0. } else { 1. / x }
}

/// The number farthest from zero, with its sign: the first of several. Of zeros alone it is 0,
/// whatever their signs, which the sign of the scale follows.
#[inline(always)]
fn extreme(x: &[f32; 32]) -> f32 {
    let (low, high) = bounds(x);
    let largest = high.max(-low);
    if largest == 0. {
        return 0.;
    }
    let at = x.iter().position(|x| x.abs() == largest);
    at.map_or(0., |at| x[at])
}

/// The lowest and the highest number. Zeros are equal, whatever their signs: the first one counts.
#[inline(always)]
fn range(x: &[f32; 32]) -> (f32, f32) {
    let (low, high) = bounds(x);
    let first = |bound: f32| match bound == 0. {
        true => x.iter().copied().find(|x| *x == 0.).unwrap_or(0.),
        false => bound,
    };
    (first(low), first(high))
}

/// The lowest and the highest number; of a zero the sign is open.
#[inline(always)]
fn bounds(x: &[f32; 32]) -> (f32, f32) {
    let (eights, _) = x.as_chunks();
    let (mut low, mut high) = (Lanes(eights[0]), Lanes(eights[0]));
    for eight in eights {
        low = low.min(Lanes(*eight));
        high = high.max(Lanes(*eight));
    }
    let low = low.0.into_iter().fold(f32::INFINITY, f32::min);
    (low, high.0.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

/// The integers up to `top` for numbers that are `(x - low) * stretch`, with `half` added.
#[inline(always)]
fn integers(x: &[f32; 32], low: f32, stretch: f32, half: f32, top: i32) -> [u8; 32] {
    let mut out = [0; 32];
    for (out, x) in out.iter_mut().zip(x) {
        *out = (((x - low) * stretch + half) as i32).clamp(0, top) as u8;
    }
    out
}

#[derive(Clone, Copy)]
pub struct Q4_0;

impl Encoder<32, 18> for Q4_0 {
    #[inline(always)]
    fn encode(x: &[f32; 32], _: Option<&[f32; 32]>, b: &mut [u8; 18]) {
        let d = extreme(x) / -8.;
        put_half(b, 0, d);
        put_nibble_halves(&mut b[2..], &integers(x, 0., inverse(d), 8.5, 15));
    }
}

#[derive(Clone, Copy)]
pub struct Q4_1;

impl Encoder<32, 20> for Q4_1 {
    #[inline(always)]
    fn encode(x: &[f32; 32], _: Option<&[f32; 32]>, b: &mut [u8; 20]) {
        let (lo, hi) = range(x);
        let d = (hi - lo) / 15.;
        put_half(b, 0, d);
        put_half(b, 2, lo);
        put_nibble_halves(&mut b[4..], &integers(x, lo, inverse(d), 0.5, 15));
    }
}

#[derive(Clone, Copy)]
pub struct Q5_0;

impl Encoder<32, 22> for Q5_0 {
    #[inline(always)]
    fn encode(x: &[f32; 32], _: Option<&[f32; 32]>, b: &mut [u8; 22]) {
        let d = extreme(x) / -16.;
        put_half(b, 0, d);
        put_five_bits(&mut b[2..], &integers(x, 0., inverse(d), 16.5, 31));
    }
}

#[derive(Clone, Copy)]
pub struct Q5_1;

impl Encoder<32, 24> for Q5_1 {
    #[inline(always)]
    fn encode(x: &[f32; 32], _: Option<&[f32; 32]>, b: &mut [u8; 24]) {
        let (lo, hi) = range(x);
        let d = (hi - lo) / 31.;
        put_half(b, 0, d);
        put_half(b, 2, lo);
        put_five_bits(&mut b[4..], &integers(x, lo, inverse(d), 0.5, 31));
    }
}

#[derive(Clone, Copy)]
pub struct Q8_0;

impl Encoder<32, 34> for Q8_0 {
    #[inline(always)]
    fn encode(x: &[f32; 32], _: Option<&[f32; 32]>, b: &mut [u8; 34]) {
        let d = extreme(x).abs() / 127.;
        let id = inverse(d);
        put_half(b, 0, d);
        for (b, x) in b[2..].iter_mut().zip(x) {
            *b = rounded(x * id) as u8;
        }
    }
}

/// The nearest integer, the farther one from zero of two: as `f32::round`, which is a call for each
/// number where the processor has no such instruction.
#[inline(always)]
fn rounded(x: f32) -> i32 {
    // The largest number below a half: with a half itself, numbers just below one would round up.
    (x + 0.499_999_97_f32.copysign(x)) as i32
}

#[cfg(test)]
mod tests {
    use super::{Encoder as _, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, rounded};

    /// ggml goes through a block from its first number and keeps what is farther, lower or higher
    /// than all before it: a zero that comes later changes no sign.
    #[test]
    fn scales_of_zeros_have_the_signs_that_ggml_writes() {
        const PLUS: u8 = 0x00;
        const MINUS: u8 = 0x80;
        let zeros =
            |first: f32, others: f32| std::array::from_fn(|i| if i == 0 { first } else { others });
        for x in [
            zeros(0., 0.),
            zeros(-0., -0.),
            zeros(0., -0.),
            zeros(-0., 0.),
        ] {
            // 0 / -8 has the sign of -8.
            let (mut q4_0, mut q5_0, mut q8_0) = ([0; 18], [0; 22], [0; 34]);
            Q4_0::encode(&x, None, &mut q4_0);
            Q5_0::encode(&x, None, &mut q5_0);
            Q8_0::encode(&x, None, &mut q8_0);
            assert_eq!([q4_0[1], q5_0[1], q8_0[1]], [MINUS, MINUS, PLUS], "{x:?}");
            assert_eq!((q4_0[2], q5_0[6], q8_0[2]), (0x88, 0x00, 0), "{x:?}");
            let low = if x[0].is_sign_negative() { MINUS } else { PLUS };
            let (mut q4_1, mut q5_1) = ([0; 20], [0; 24]);
            Q4_1::encode(&x, None, &mut q4_1);
            Q5_1::encode(&x, None, &mut q5_1);
            assert_eq!([q4_1[1], q5_1[1]], [PLUS, PLUS], "{x:?}");
            assert_eq!([q4_1[3], q5_1[3]], [low, low], "{x:?}");
        }
        // The first zero is the minimum, wherever it stands.
        for (at, low) in [(3, MINUS), (30, PLUS)] {
            let mut x = [1.; 32];
            (x[at], x[17]) = (-0., 0.);
            let mut q4_1 = [0; 20];
            Q4_1::encode(&x, None, &mut q4_1);
            assert_eq!(q4_1[3], low, "-0 at {at}");
        }
    }

    #[test]
    fn rounding_is_that_of_the_standard_library() {
        let largest = 128f32.to_bits();
        for bits in (0..=largest).step_by(61) {
            let x = f32::from_bits(bits);
            assert_eq!(rounded(x), x.round() as i32, "{x}");
            assert_eq!(rounded(-x), (-x).round() as i32, "{x}");
        }
        for half in 0..256 {
            let x = half as f32 / 2.;
            for x in [x.next_down(), x, x.next_up()] {
                assert_eq!(rounded(x), x.round() as i32, "{x}");
                assert_eq!(rounded(-x), (-x).round() as i32, "{x}");
            }
        }
    }
}
