//! Blocks of each type as vectors of numbers, bit-equal to ggml's reference code. Where a number
//! is a product and a minimum, the product is exact in f32, so that it does not matter whether
//! both are rounded or their sum alone.

use crate::simd::{LANES, Simd};

/// What the nibbles of `IQ4_NL` and `IQ4_XS` stand for.
pub const IQ4_VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Numbers in a block of the 256-wide types.
const SUPER: usize = 256;

/// How numbers of one type are read.
pub(crate) trait Blocks {
    /// Numbers of a block, or [`LANES`] for types without blocks: of those, rows of any length are
    /// read by filling the last bytes up.
    const LEN: usize;
    /// Bytes of so many numbers.
    const BYTES: usize;

    /// Hands the numbers of a block to `take`, sixteen at a time, with how many sixteens came
    /// before them.
    fn sixteens<S: Simd>(simd: S, block: &[u8], take: impl FnMut(usize, S::F32s));
}

/// Work on stored numbers, which is compiled for each type and each set of instructions.
pub(crate) trait BlockWork {
    /// What it results in.
    type Output;

    /// Works with numbers of this type. It has to inline all that it calls.
    fn run<B: Blocks, S: Simd>(self, simd: S) -> Self::Output;
}

/// Hands the numbers of a row to `take`, sixteen at a time, with how many sixteens came before
/// them. Behind the last number of a row without blocks there may be zeros.
#[inline(always)]
pub(crate) fn row_sixteens<B: Blocks, S: Simd>(
    simd: S,
    row: &[u8],
    mut take: impl FnMut(usize, S::F32s),
) {
    let blocks = row.chunks_exact(B::BYTES);
    let (rest, count) = (blocks.remainder(), blocks.len());
    for (i, block) in blocks.enumerate() {
        B::sixteens(
            simd,
            block,
            #[inline(always)]
            |j, x| take(i * (B::LEN / LANES) + j, x),
        );
    }
    if B::LEN == LANES && !rest.is_empty() {
        let mut block = [0; 4 * LANES];
        block[..rest.len()].copy_from_slice(rest);
        B::sixteens(
            simd,
            &block[..B::BYTES],
            #[inline(always)]
            |_, x| take(count, x),
        );
    }
}

/// `N` bytes from `at` on.
#[inline(always)]
fn bytes_at<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..at + N]
        .try_into()
        .expect("a slice of this many bytes")
}

pub(super) struct F32;

impl Blocks for F32 {
    const LEN: usize = LANES;
    const BYTES: usize = 4 * LANES;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, block: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let bytes = bytes_at::<{ 4 * LANES }>(block, 0).as_chunks().0;
        take(
            0,
            simd.load(&std::array::from_fn(|i| f32::from_le_bytes(bytes[i]))),
        );
    }
}

pub(super) struct F16;

impl Blocks for F16 {
    const LEN: usize = LANES;
    const BYTES: usize = 2 * LANES;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, block: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        take(0, simd.halves(bytes_at(block, 0)));
    }
}

pub(super) struct Bf16;

impl Blocks for Bf16 {
    const LEN: usize = LANES;
    const BYTES: usize = 2 * LANES;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, block: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        take(0, simd.brain_floats(bytes_at(block, 0)));
    }
}

/// A scale, which is a half at `at`.
#[inline(always)]
fn scale<S: Simd>(simd: S, block: &[u8], at: usize) -> f32 {
    simd.half(*bytes_at(block, at))
}

/// Sixteen bytes at `at`.
#[inline(always)]
fn quants<S: Simd>(simd: S, block: &[u8], at: usize) -> S::Bytes {
    simd.bytes(bytes_at(block, at))
}

/// `x * scale` of signed bytes.
#[inline(always)]
fn scaled<S: Simd>(simd: S, x: S::Bytes, scale: f32) -> S::F32s {
    simd.mul(simd.widen(x), simd.splat(scale))
}

/// `x * scale + minimum` of unsigned bytes.
#[inline(always)]
fn scaled_from<S: Simd>(simd: S, x: S::Bytes, scale: f32, minimum: f32) -> S::F32s {
    simd.mul_add(
        simd.widen_unsigned(x),
        simd.splat(scale),
        simd.splat(minimum),
    )
}

/// The shifts of the low and of the high nibble, which hold the first sixteen and the last sixteen
/// numbers of 32.
const NIBBLES: [u32; 2] = [0, 4];

pub(super) struct Q4_0;

impl Blocks for Q4_0 {
    const LEN: usize = 32;
    const BYTES: usize = 18;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let (d, q) = (scale(simd, b, 0), quants(simd, b, 2));
        for (i, shift) in NIBBLES.into_iter().enumerate() {
            let x = simd.sub(simd.field(q, shift, 15), 8);
            take(i, scaled(simd, x, d));
        }
    }
}

pub(super) struct Q4_1;

impl Blocks for Q4_1 {
    const LEN: usize = 32;
    const BYTES: usize = 20;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let (d, m, q) = (scale(simd, b, 0), scale(simd, b, 2), quants(simd, b, 4));
        for (i, shift) in NIBBLES.into_iter().enumerate() {
            take(i, scaled_from(simd, simd.field(q, shift, 15), d, m));
        }
    }
}

/// The five-bit numbers of half a block: nibbles, and bits that are their highest.
#[inline(always)]
fn five_bits<S: Simd>(simd: S, q: S::Bytes, high: &[u8; 4], half: usize) -> S::Bytes {
    let high = u16::from_le_bytes([high[2 * half], high[2 * half + 1]]);
    simd.or(simd.field(q, NIBBLES[half], 15), simd.where_set(high, 16))
}

pub(super) struct Q5_0;

impl Blocks for Q5_0 {
    const LEN: usize = 32;
    const BYTES: usize = 22;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let (d, high, q) = (scale(simd, b, 0), bytes_at(b, 2), quants(simd, b, 6));
        for i in 0..2 {
            let x = simd.sub(five_bits(simd, q, high, i), 16);
            take(i, scaled(simd, x, d));
        }
    }
}

pub(super) struct Q5_1;

impl Blocks for Q5_1 {
    const LEN: usize = 32;
    const BYTES: usize = 24;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let (d, m) = (scale(simd, b, 0), scale(simd, b, 2));
        let (high, q) = (bytes_at(b, 4), quants(simd, b, 8));
        for i in 0..2 {
            take(i, scaled_from(simd, five_bits(simd, q, high, i), d, m));
        }
    }
}

pub(super) struct Q8_0;

impl Blocks for Q8_0 {
    const LEN: usize = 32;
    const BYTES: usize = 34;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let d = scale(simd, b, 0);
        for i in 0..2 {
            take(i, scaled(simd, quants(simd, b, 2 + 16 * i), d));
        }
    }
}

/// Where sixteen numbers of two bits lie in `Q2_K` and `Q3_K`: the first of their bytes, and the
/// shift. A byte holds four numbers that lie 32 apart.
#[inline(always)]
fn two_bits(group: usize) -> (usize, u32) {
    (group / 8 * 32 + group % 2 * 16, (group % 8 / 2 * 2) as u32)
}

pub(super) struct Q2K;

impl Blocks for Q2K {
    const LEN: usize = SUPER;
    const BYTES: usize = 84;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let b: &[u8; 84] = bytes_at(b, 0);
        let (d, dmin) = (scale(simd, b, 80), scale(simd, b, 82));
        for group in 0..16 {
            let (first, shift) = two_bits(group);
            let scales = b[group];
            let x = simd.field(quants(simd, b, 16 + first), shift, 3);
            let minimum = -(dmin * (scales >> 4) as f32);
            take(
                group,
                scaled_from(simd, x, d * (scales & 15) as f32, minimum),
            );
        }
    }
}

pub(super) struct Q3K;

impl Blocks for Q3K {
    const LEN: usize = SUPER;
    const BYTES: usize = 110;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let b: &[u8; 110] = bytes_at(b, 0);
        let (packed, d): (&[u8; 12], f32) = (bytes_at(b, 96), scale(simd, b, 108));
        for group in 0..16 {
            // Scale `group`: four low bits in the first eight bytes, two high bits in the others.
            let low = packed[group % 8] >> (group / 8 * 4) & 15;
            let top = packed[8 + group % 4] >> (group / 4 * 2) & 3;
            let scale = d * ((low | top << 4) as i32 - 32) as f32;
            let (first, shift) = two_bits(group);
            let low = simd.field(quants(simd, b, 32 + first), shift, 3);
            let high = quants(simd, b, group % 2 * 16);
            let high = simd.shift_left(simd.field(high, group as u32 / 2, 1), 2);
            take(group, scaled(simd, simd.sub(simd.or(low, high), 4), scale));
        }
    }
}

/// The six-bit scale and minimum number `i` (of 8) of `Q4_K` and `Q5_K`.
#[inline(always)]
fn scale_and_minimum(packed: &[u8; 12], i: usize) -> (f32, f32) {
    let (scale, minimum) = if i < 4 {
        (packed[i] & 63, packed[i + 4] & 63)
    } else {
        (
            packed[i + 4] & 15 | packed[i - 4] >> 6 << 4,
            packed[i + 4] >> 4 | packed[i] >> 6 << 4,
        )
    };
    (scale as f32, minimum as f32)
}

pub(super) struct Q4K;

impl Blocks for Q4K {
    const LEN: usize = SUPER;
    const BYTES: usize = 144;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let b: &[u8; 144] = bytes_at(b, 0);
        let (d, dmin) = (scale(simd, b, 0), scale(simd, b, 2));
        // Eight groups of 32 numbers; two groups share 32 bytes.
        for group in 0..8 {
            let (scale, minimum) = scale_and_minimum(bytes_at(b, 4), group);
            let (scale, minimum) = (d * scale, -(dmin * minimum));
            for half in 0..2 {
                let q = quants(simd, b, 16 + group / 2 * 32 + half * 16);
                let x = simd.field(q, NIBBLES[group % 2], 15);
                take(2 * group + half, scaled_from(simd, x, scale, minimum));
            }
        }
    }
}

pub(super) struct Q5K;

impl Blocks for Q5K {
    const LEN: usize = SUPER;
    const BYTES: usize = 176;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let b: &[u8; 176] = bytes_at(b, 0);
        let (d, dmin) = (scale(simd, b, 0), scale(simd, b, 2));
        let high = [quants(simd, b, 16), quants(simd, b, 32)];
        for group in 0..8 {
            let (scale, minimum) = scale_and_minimum(bytes_at(b, 4), group);
            let (scale, minimum) = (d * scale, -(dmin * minimum));
            for half in 0..2 {
                let q = quants(simd, b, 48 + group / 2 * 32 + half * 16);
                let low = simd.field(q, NIBBLES[group % 2], 15);
                let high = simd.shift_left(simd.field(high[half], group as u32, 1), 4);
                let x = simd.or(low, high);
                take(2 * group + half, scaled_from(simd, x, scale, minimum));
            }
        }
    }
}

pub(super) struct Q6K;

impl Blocks for Q6K {
    const LEN: usize = SUPER;
    const BYTES: usize = 210;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let b: &[u8; 210] = bytes_at(b, 0);
        let d = scale(simd, b, 208);
        for group in 0..16 {
            let scale = d * b[192 + group] as i8 as f32;
            // Half a block is 128 numbers: four runs of 32 that share 64 low bytes and 32 high
            // bytes.
            let (half, run, first) = (group / 8, group % 8 / 2, group % 2 * 16);
            let low = quants(simd, b, half * 64 + run % 2 * 32 + first);
            let high = quants(simd, b, 128 + half * 32 + first);
            let low = simd.field(low, NIBBLES[run / 2], 15);
            let high = simd.shift_left(simd.field(high, 2 * run as u32, 3), 4);
            take(group, scaled(simd, simd.sub(simd.or(low, high), 32), scale));
        }
    }
}

pub(super) struct Iq4Nl;

impl Blocks for Iq4Nl {
    const LEN: usize = 32;
    const BYTES: usize = 18;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let (d, q) = (scale(simd, b, 0), quants(simd, b, 2));
        for (i, shift) in NIBBLES.into_iter().enumerate() {
            let x = simd.look_up(&IQ4_VALUES, simd.field(q, shift, 15));
            take(i, scaled(simd, x, d));
        }
    }
}

pub(super) struct Iq4Xs;

impl Blocks for Iq4Xs {
    const LEN: usize = SUPER;
    const BYTES: usize = 136;

    #[inline(always)]
    fn sixteens<S: Simd>(simd: S, b: &[u8], mut take: impl FnMut(usize, S::F32s)) {
        let b: &[u8; 136] = bytes_at(b, 0);
        let (d, high) = (scale(simd, b, 0), u16::from_le_bytes([b[2], b[3]]));
        for group in 0..8 {
            let low = b[4 + group / 2] >> (group % 2 * 4) & 15;
            let scale = i32::from(low) | ((high >> (group * 2) & 3) as i32) << 4;
            let scale = d * (scale - 32) as f32;
            let q = quants(simd, b, 8 + group * 16);
            for (i, shift) in NIBBLES.into_iter().enumerate() {
                let x = simd.look_up(&IQ4_VALUES, simd.field(q, shift, 15));
                take(2 * group + i, scaled(simd, x, scale));
            }
        }
    }
}
