//! Blocks of each type as numbers, bit-equal to ggml's reference code (no fused multiply-add).

/// What the nibbles of `IQ4_NL` and `IQ4_XS` stand for.
pub const IQ4_VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Numbers in a block of the 256-wide types.
const SUPER: usize = 256;

/// Work on stored numbers, which is compiled for each type.
pub(crate) trait BlockWork {
    /// What it results in.
    type Output;

    /// Works with `dequantize`, which turns whole blocks into numbers. It is inlined, so that it is
    /// compiled for the instructions of whoever calls it.
    fn run(self, dequantize: impl Fn(&[u8], &mut [f32]) + Copy) -> Self::Output;
}

/// `block`, for one block after the other.
#[inline(always)]
pub(super) fn each<const BYTES: usize, const LEN: usize>(
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]) + Copy,
) -> impl Fn(&[u8], &mut [f32]) + Copy {
    #[inline(always)]
    move |bytes, numbers| {
        let (blocks, rest) = bytes.as_chunks();
        let (runs, _) = numbers.as_chunks_mut();
        debug_assert!(rest.is_empty() && runs.len() == blocks.len());
        for (bytes, numbers) in blocks.iter().zip(runs) {
            block(bytes, numbers);
        }
    }
}

/// Without branches, so that it is compiled to vectors; `half` asks for an instruction of the
/// processor at each number.
#[inline(always)]
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    let bits = u32::from(u16::from_le_bytes([block[at], block[at + 1]]));
    let magnitude = match bits & 0x7c00 {
        0 => (bits & 0x3ff) as f32 * (1. / 16_777_216.),
        0x7c00 => f32::from_bits(0x7f80_0000 | (bits & 0x3ff) << 13),
        _ => f32::from_bits(((bits & 0x7fff) << 13) + (112 << 23)),
    };
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

#[inline(always)]
fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

#[inline(always)]
pub(super) fn q4_0(b: &[u8; 18], y: &mut [f32; 32]) {
    let d = half_at(b, 0);
    for (i, q) in b[2..].iter().enumerate() {
        y[i] = ((q & 15) as i32 - 8) as f32 * d;
        y[i + 16] = ((q >> 4) as i32 - 8) as f32 * d;
    }
}

#[inline(always)]
pub(super) fn q4_1(b: &[u8; 20], y: &mut [f32; 32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    for (i, q) in b[4..].iter().enumerate() {
        y[i] = (q & 15) as f32 * d + m;
        y[i + 16] = (q >> 4) as f32 * d + m;
    }
}

/// The five-bit numbers `i` and `i + 16` of a block.
#[inline(always)]
fn five_bits(q: u8, high: u32, i: usize) -> (i32, i32) {
    let low_half = (q & 15) as u32 | ((high >> i & 1) << 4);
    let high_half = (q >> 4) as u32 | ((high >> (i + 16) & 1) << 4);
    (low_half as i32, high_half as i32)
}

#[inline(always)]
pub(super) fn q5_0(b: &[u8; 22], y: &mut [f32; 32]) {
    let (d, high) = (half_at(b, 0), u32_at(b, 2));
    for (i, q) in b[6..].iter().enumerate() {
        let (q0, q1) = five_bits(*q, high, i);
        y[i] = (q0 - 16) as f32 * d;
        y[i + 16] = (q1 - 16) as f32 * d;
    }
}

#[inline(always)]
pub(super) fn q5_1(b: &[u8; 24], y: &mut [f32; 32]) {
    let (d, m, high) = (half_at(b, 0), half_at(b, 2), u32_at(b, 4));
    for (i, q) in b[8..].iter().enumerate() {
        let (q0, q1) = five_bits(*q, high, i);
        y[i] = q0 as f32 * d + m;
        y[i + 16] = q1 as f32 * d + m;
    }
}

#[inline(always)]
pub(super) fn q8_0(b: &[u8; 34], y: &mut [f32; 32]) {
    let d = half_at(b, 0);
    for (y, q) in y.iter_mut().zip(&b[2..]) {
        *y = *q as i8 as f32 * d;
    }
}

#[inline(always)]
pub(super) fn q2_k(b: &[u8; 84], y: &mut [f32; SUPER]) {
    let (scales, quants) = (&b[..16], &b[16..80]);
    let (d, dmin) = (half_at(b, 80), half_at(b, 82));
    // Sixteen groups of 16 numbers; a byte of `quants` holds four numbers that lie 32 apart.
    for (group, y) in y.chunks_exact_mut(16).enumerate() {
        let scale = d * (scales[group] & 15) as f32;
        let minimum = dmin * (scales[group] >> 4) as f32;
        let shift = group % 8 / 2 * 2;
        let first = group / 8 * 32 + group % 2 * 16;
        for (y, q) in y.iter_mut().zip(&quants[first..]) {
            *y = scale * (q >> shift & 3) as f32 - minimum;
        }
    }
}

#[inline(always)]
pub(super) fn q3_k(b: &[u8; 110], y: &mut [f32; SUPER]) {
    let (high, quants, packed) = (&b[..32], &b[32..96], &b[96..108]);
    let d = half_at(b, 108);
    for (group, y) in y.chunks_exact_mut(16).enumerate() {
        // Scale `group`: four low bits in the first eight bytes, two high bits in the last four.
        let low = packed[group % 8] >> (group / 8 * 4) & 15;
        let top = packed[8 + group % 4] >> (group / 4 * 2) & 3;
        let scale = d * ((low | top << 4) as i32 - 32) as f32;
        let shift = group % 8 / 2 * 2;
        let first = group / 8 * 32 + group % 2 * 16;
        let numbers = quants[first..first + 16].iter();
        let tops = &high[group % 2 * 16..group % 2 * 16 + 16];
        for ((y, q), high) in y.iter_mut().zip(numbers).zip(tops) {
            let q = i32::from(q >> shift & 3) + i32::from(high >> (group / 2) & 1) * 4;
            *y = scale * (q - 4) as f32;
        }
    }
}

/// The six-bit scale and minimum number `i` (of 8) of `Q4_K` and `Q5_K`.
#[inline(always)]
fn scale_and_minimum(packed: &[u8], i: usize) -> (f32, f32) {
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

#[inline(always)]
pub(super) fn q4_k(b: &[u8; 144], y: &mut [f32; SUPER]) {
    let (d, dmin, packed, quants) = (half_at(b, 0), half_at(b, 2), &b[4..16], &b[16..]);
    // Eight groups of 32 numbers; two groups share 32 bytes.
    for (group, y) in y.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(packed, group);
        let (scale, minimum) = (d * scale, dmin * minimum);
        let shift = group % 2 * 4;
        for (y, q) in y.iter_mut().zip(&quants[group / 2 * 32..]) {
            *y = scale * (q >> shift & 15) as f32 - minimum;
        }
    }
}

#[inline(always)]
pub(super) fn q5_k(b: &[u8; 176], y: &mut [f32; SUPER]) {
    let (d, dmin, packed) = (half_at(b, 0), half_at(b, 2), &b[4..16]);
    let (high, quants) = (&b[16..48], &b[48..]);
    for (group, y) in y.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(packed, group);
        let (scale, minimum) = (d * scale, dmin * minimum);
        let shift = group % 2 * 4;
        let low = &quants[group / 2 * 32..group / 2 * 32 + 32];
        for ((y, low), high) in y.iter_mut().zip(low).zip(high) {
            let q = low >> shift & 15 | (high >> group & 1) << 4;
            *y = scale * q as f32 - minimum;
        }
    }
}

#[inline(always)]
pub(super) fn q6_k(b: &[u8; 210], y: &mut [f32; SUPER]) {
    let (low, high, scales) = (&b[..128], &b[128..192], &b[192..208]);
    let d = half_at(b, 208);
    for (group, y) in y.chunks_exact_mut(16).enumerate() {
        let scale = d * scales[group] as i8 as f32;
        // Half a block is 128 numbers: four runs of 32 that share 64 low bytes and 32 high bytes.
        let (half, run, first) = (group / 8, group % 8 / 2, group % 2 * 16);
        let low = &low[half * 64 + run % 2 * 32 + first..][..16];
        let high = &high[half * 32 + first..][..16];
        for ((y, low), high) in y.iter_mut().zip(low).zip(high) {
            let q = low >> (run / 2 * 4) & 15 | (high >> (run * 2) & 3) << 4;
            *y = scale * (i32::from(q) - 32) as f32;
        }
    }
}

#[inline(always)]
pub(super) fn iq4_nl(b: &[u8; 18], y: &mut [f32; 32]) {
    let d = half_at(b, 0);
    for (i, q) in b[2..].iter().enumerate() {
        y[i] = d * IQ4_VALUES[(q & 15) as usize] as f32;
        y[i + 16] = d * IQ4_VALUES[(q >> 4) as usize] as f32;
    }
}

#[inline(always)]
pub(super) fn iq4_xs(b: &[u8; 136], y: &mut [f32; SUPER]) {
    let (d, high, low, quants) = (
        half_at(b, 0),
        u16::from_le_bytes([b[2], b[3]]),
        &b[4..8],
        &b[8..],
    );
    for (group, y) in y.chunks_exact_mut(32).enumerate() {
        let scale = (low[group / 2] >> (group % 2 * 4) & 15) as i32
            | ((high >> (group * 2) & 3) as i32) << 4;
        let scale = d * (scale - 32) as f32;
        for (i, q) in quants[group * 16..group * 16 + 16].iter().enumerate() {
            y[i] = scale * IQ4_VALUES[(q & 15) as usize] as f32;
            y[i + 16] = scale * IQ4_VALUES[(q >> 4) as usize] as f32;
        }
    }
}
