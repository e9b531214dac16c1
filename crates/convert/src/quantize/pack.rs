//! Where the bits of a block go.

use half::f16;

use super::encoder::SUPER;

/// Writes a half float at `b[at..]` and returns what it stands for.
pub fn put_half(b: &mut [u8], at: usize, x: f32) -> f32 {
    let half = f16::from_f32(x);
    b[at..at + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// Writes 32 four-bit numbers.
#[inline(always)]
pub fn put_nibble_halves(b: &mut [u8], quants: &[u8; 32]) {
    let (low, high) = quants.split_at(16);
    for (b, (low, high)) in b.iter_mut().zip(low.iter().zip(high)) {
        *b = low | high << 4;
    }
}

/// Writes 32 five-bit numbers: the fifth bits to `b[..4]`, then the nibbles.
#[inline(always)]
pub fn put_five_bits(b: &mut [u8], quants: &[u8; 32]) {
    let mut high = 0u32;
    for i in 0..16 {
        let (q0, q1) = (quants[i], quants[i + 16]);
        b[4 + i] = q0 & 15 | (q1 & 15) << 4;
        high |= u32::from(q0 >> 4) << i | u32::from(q1 >> 4) << (i + 16);
    }
    b[..4].copy_from_slice(&high.to_le_bytes());
}

/// Adds the two low bits of 256 numbers: four numbers that lie 32 apart share a byte.
#[inline(always)]
pub fn put_two_bits(b: &mut [u8], quants: &[u8; SUPER]) {
    for (b, quants) in b.chunks_exact_mut(32).zip(quants.chunks_exact(128)) {
        for (i, b) in b.iter_mut().enumerate() {
            *b = (quants[i] & 3)
                | (quants[i + 32] & 3) << 2
                | (quants[i + 64] & 3) << 4
                | (quants[i + 96] & 3) << 6;
        }
    }
}

/// Adds the four low bits of 256 numbers: two groups of 32 share 32 bytes.
#[inline(always)]
pub fn put_nibbles(b: &mut [u8], quants: &[u8; SUPER]) {
    for (b, quants) in b.chunks_exact_mut(32).zip(quants.chunks_exact(64)) {
        let (low, high) = quants.split_at(32);
        for (b, (low, high)) in b.iter_mut().zip(low.iter().zip(high)) {
            *b = low & 15 | (high & 15) << 4;
        }
    }
}

/// Writes eight scales and eight minima of six bits to 12 bytes.
#[inline(always)]
pub fn put_scales_and_minima(b: &mut [u8], scales: &[u8; 16], minima: &[u8; 16]) {
    for i in 0..4 {
        b[i] = scales[i] | scales[i + 4] >> 4 << 6;
        b[i + 4] = minima[i] | minima[i + 4] >> 4 << 6;
        b[i + 8] = scales[i + 4] & 15 | (minima[i + 4] & 15) << 4;
    }
}
