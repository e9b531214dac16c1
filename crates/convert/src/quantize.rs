//! From numbers to blocks: the opposite of [`GgmlType::dequantize`].
//!
//! The 32-wide types round as ggml's reference code does. For the K types the scale of a group is
//! searched: several roundings are tried, and for each the least-squares scale (and minimum) is
//! solved. Candle has a quantizer too, but turns groups of equal positive numbers into zeros.

use half::{bf16, f16};

use univi::{Error, Result, gguf::GgmlType};

use crate::bad;

/// Numbers in a block of the K types.
const SUPER: usize = 256;

/// Stores whole rows of numbers as `ty`.
///
/// # Errors
/// [`Error::BadRequest`] for the types that nothing here can write (`IQ4_NL`, `IQ4_XS`) and for
/// rows that are not whole blocks; [`Error::BadFile`] for numbers that the type can't hold (NaN,
/// infinity, too large).
pub fn quantize(ty: GgmlType, values: &[f32]) -> Result<Vec<u8>> {
    let mut bytes = vec![0; ty.row_bytes(values.len())?];
    if let Some(at) = values.iter().position(|x| !x.is_finite()) {
        return Err(bad(format!(
            "number {at} to be stored is {}: the checkpoint is damaged",
            values[at]
        )));
    }
    let each: fn(&[f32], &mut [u8]) = match ty {
        GgmlType::F32 => |x, b| b.copy_from_slice(&x[0].to_le_bytes()),
        GgmlType::F16 => |x, b| b.copy_from_slice(&f16::from_f32(x[0]).to_le_bytes()),
        GgmlType::BF16 => |x, b| b.copy_from_slice(&bf16::from_f32(x[0]).to_le_bytes()),
        GgmlType::Q4_0 => q4_0,
        GgmlType::Q4_1 => q4_1,
        GgmlType::Q5_0 => q5_0,
        GgmlType::Q5_1 => q5_1,
        GgmlType::Q8_0 => q8_0,
        GgmlType::Q2K => q2_k,
        GgmlType::Q3K => q3_k,
        GgmlType::Q4K => q4_k,
        GgmlType::Q5K => q5_k,
        GgmlType::Q6K => q6_k,
        GgmlType::Iq4Nl | GgmlType::Iq4Xs => {
            return Err(Error::BadRequest {
                reason: format!("{ty} is read, but not written: use q4_k_m"),
            });
        }
    };
    for (values, block) in values
        .chunks_exact(ty.block_len())
        .zip(bytes.chunks_exact_mut(ty.block_bytes()))
    {
        each(values, block);
    }
    match ty.first_not_finite(&bytes) {
        None => Ok(bytes),
        Some(block) => Err(bad(format!(
            "numbers near {} are too large for {ty}: use f32",
            block * ty.block_len()
        ))),
    }
}

fn put_half(block: &mut [u8], at: usize, x: f32) -> f32 {
    let half = f16::from_f32(x);
    block[at..at + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// 1 / x, or 0 for 0: what has no scale becomes zeros.
fn inverse(x: f32) -> f32 {
    if x == 0. { 0. } else { 1. / x }
}

/// The number farthest from zero, with its sign.
fn extreme(x: &[f32]) -> f32 {
    x.iter()
        .fold(0f32, |m, &v| if v.abs() > m.abs() { v } else { m })
}

fn range(x: &[f32]) -> (f32, f32) {
    x.iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| {
            (lo.min(v), hi.max(v))
        })
}

fn q4_0(x: &[f32], b: &mut [u8]) {
    let d = extreme(x) / -8.;
    let id = inverse(d);
    put_half(b, 0, d);
    let q = |x: f32| ((x * id + 8.5) as u8).min(15);
    for i in 0..16 {
        b[2 + i] = q(x[i]) | q(x[i + 16]) << 4;
    }
}

fn q4_1(x: &[f32], b: &mut [u8]) {
    let (lo, hi) = range(x);
    let d = (hi - lo) / 15.;
    let id = inverse(d);
    put_half(b, 0, d);
    put_half(b, 2, lo);
    let q = |x: f32| (((x - lo) * id + 0.5) as u8).min(15);
    for i in 0..16 {
        b[4 + i] = q(x[i]) | q(x[i + 16]) << 4;
    }
}

/// Writes 32 five-bit numbers: the fifth bits to `b[at..]`, then the nibbles.
fn put_five_bits(b: &mut [u8], at: usize, q: impl Fn(usize) -> u8) {
    let mut high = 0u32;
    for i in 0..16 {
        let (q0, q1) = (q(i), q(i + 16));
        b[at + 4 + i] = q0 & 15 | (q1 & 15) << 4;
        high |= u32::from(q0 >> 4) << i | u32::from(q1 >> 4) << (i + 16);
    }
    b[at..at + 4].copy_from_slice(&high.to_le_bytes());
}

fn q5_0(x: &[f32], b: &mut [u8]) {
    let d = extreme(x) / -16.;
    let id = inverse(d);
    put_half(b, 0, d);
    put_five_bits(b, 2, |i| ((x[i] * id + 16.5) as u8).min(31));
}

fn q5_1(x: &[f32], b: &mut [u8]) {
    let (lo, hi) = range(x);
    let d = (hi - lo) / 31.;
    let id = inverse(d);
    put_half(b, 0, d);
    put_half(b, 2, lo);
    put_five_bits(b, 4, |i| (((x[i] - lo) * id + 0.5) as u8).min(31));
}

fn q8_0(x: &[f32], b: &mut [u8]) {
    let d = extreme(x).abs() / 127.;
    let id = inverse(d);
    put_half(b, 0, d);
    for (b, x) in b[2..].iter_mut().zip(x) {
        *b = (x * id).round() as i8 as u8;
    }
}

/// Large numbers matter more, but no number matters nothing.
fn weigh<const N: usize>(x: &[f32]) -> [f32; N] {
    let rms = (x.iter().map(|x| x * x).sum::<f32>() / N as f32).sqrt();
    std::array::from_fn(|i| rms + x[i].abs())
}

/// The scale and the minimum (neither below 0) for which `scale * q - minimum` with `q` in
/// `0..=top` comes nearest to `x`.
fn fit_affine<const N: usize>(x: &[f32], top: f32) -> (f32, f32) {
    let weights: [f32; N] = weigh(x);
    let (lo, hi) = range(x);
    // Minima can't be negative: all numbers above 0 are counted from 0.
    let lo = lo.min(0.);
    if hi <= lo {
        return (0., -lo);
    }
    let (mut best, mut least) = ((0., 0.), f32::INFINITY);
    for step in 0..=20 {
        let stretch = (top - 1. + 0.1 * step as f32) / (hi - lo);
        let q: [f32; N] = std::array::from_fn(|i| ((x[i] - lo) * stretch).round().clamp(0., top));
        let (mut w, mut wq, mut wqq, mut wx, mut wqx) = (0., 0., 0., 0., 0.);
        for i in 0..N {
            w += weights[i];
            wq += weights[i] * q[i];
            wqq += weights[i] * q[i] * q[i];
            wx += weights[i] * x[i];
            wqx += weights[i] * q[i] * x[i];
        }
        if wqq == 0. {
            continue;
        }
        let determinant = w * wqq - wq * wq;
        let mut scale = (w * wqx - wq * wx) / determinant;
        let mut minimum = (wq * wqx - wqq * wx) / determinant;
        // Where (nearly) all integers are the same, a minimum can't be told from the scale.
        if determinant < 1e-4 * w * wqq || minimum < 0. {
            (scale, minimum) = (wqx / wqq, 0.);
        }
        let error: f32 = (0..N)
            .map(|i| weights[i] * (scale * q[i] - minimum - x[i]).powi(2))
            .sum();
        if scale > 0. && error < least {
            (best, least) = ((scale, minimum), error);
        }
    }
    // Numbers too small for f32 to square: the plain scale serves.
    if least.is_finite() {
        best
    } else {
        ((hi - lo) / top, -lo)
    }
}

/// The scale, of either sign, for which `scale * q` with `q` in `-half..half` comes nearest to `x`.
fn fit_symmetric<const N: usize>(x: &[f32], half: f32) -> f32 {
    let weights: [f32; N] = weigh(x);
    let extreme = extreme(x);
    if extreme == 0. {
        return 0.;
    }
    let (mut best, mut most) = (-extreme / half, 0.);
    // The plain rounding first: another one has to be better by more than the rounding of f32.
    for step in std::iter::once(0).chain(-9..=9) {
        let stretch = -(half + 0.1 * step as f32) / extreme;
        let (mut wqx, mut wqq) = (0., 0.);
        for i in 0..N {
            let q = (x[i] * stretch).round().clamp(-half, half - 1.);
            wqx += weights[i] * q * x[i];
            wqq += weights[i] * q * q;
        }
        // What the best scale for these `q` takes off the squared error.
        if wqq > 0. && wqx * wqx > most * wqq * 1.000_001 {
            (best, most) = (wqx / wqq, wqx * wqx / wqq);
        }
    }
    best
}

/// Fits all groups of `N` numbers and rounds their scales and minima to `0..=levels` multiples of
/// two super-scales, which go to `b[at..at + 4]` -> (scales, minima, numbers as integers in
/// `0..=top`).
fn affine_block<const N: usize>(
    x: &[f32],
    b: &mut [u8],
    at: usize,
    levels: f32,
    top: f32,
) -> ([u8; 16], [u8; 16], [u8; SUPER]) {
    let mut fits = [(0., 0.); 16];
    for (fit, x) in fits.iter_mut().zip(x.chunks_exact(N)) {
        *fit = fit_affine::<N>(x, top);
    }
    let largest = |part: fn(&(f32, f32)) -> f32| fits.iter().map(part).fold(0f32, f32::max);
    let d = put_half(b, at, largest(|f| f.0) / levels);
    let dmin = put_half(b, at + 2, largest(|f| f.1) / levels);
    let steps = |x: f32, d: f32| (x * inverse(d)).round().clamp(0., levels);
    let (mut scales, mut minima, mut quants) = ([0; 16], [0; 16], [0; SUPER]);
    for (group, x) in x.chunks_exact(N).enumerate() {
        let (scale, minimum) = (steps(fits[group].0, d), steps(fits[group].1, dmin));
        (scales[group], minima[group]) = (scale as u8, minimum as u8);
        let stretch = inverse(d * scale);
        for (i, x) in x.iter().enumerate() {
            quants[group * N + i] = ((x + dmin * minimum) * stretch).round().clamp(0., top) as u8;
        }
    }
    (scales, minima, quants)
}

/// As [`affine_block`] for numbers around 0: 16 signed scales in `-levels..levels`, one super-scale
/// at `b[at..at + 2]`, numbers as integers in `0..2 * half` of which `half` stands for 0.
fn symmetric_block(
    x: &[f32],
    b: &mut [u8],
    at: usize,
    levels: f32,
    half: f32,
) -> ([i8; 16], [u8; SUPER]) {
    let mut fits = [0f32; 16];
    for (fit, x) in fits.iter_mut().zip(x.chunks_exact(16)) {
        *fit = fit_symmetric::<16>(x, half);
    }
    let d = put_half(b, at, -extreme(&fits) / levels);
    let (mut scales, mut quants) = ([0; 16], [0; SUPER]);
    for (group, x) in x.chunks_exact(16).enumerate() {
        let scale = (fits[group] * inverse(d))
            .round()
            .clamp(-levels, levels - 1.);
        scales[group] = scale as i8;
        let stretch = inverse(d * scale);
        for (i, x) in x.iter().enumerate() {
            quants[group * 16 + i] = ((x * stretch).round().clamp(-half, half - 1.) + half) as u8;
        }
    }
    (scales, quants)
}

/// The two low bits of 256 numbers: four numbers that lie 32 apart share a byte.
fn put_two_bits(b: &mut [u8], quants: &[u8; SUPER]) {
    for (i, q) in quants.iter().enumerate() {
        b[i / 128 * 32 + i % 32] |= (q & 3) << (i % 128 / 32 * 2);
    }
}

/// The four low bits of 256 numbers: two groups of 32 share 32 bytes.
fn put_nibbles(b: &mut [u8], quants: &[u8; SUPER]) {
    for (i, q) in quants.iter().enumerate() {
        b[i / 64 * 32 + i % 32] |= (q & 15) << (i % 64 / 32 * 4);
    }
}

/// Eight scales and eight minima of six bits in 12 bytes.
fn put_scales_and_minima(b: &mut [u8], scales: &[u8; 16], minima: &[u8; 16]) {
    for i in 0..4 {
        b[i] = scales[i] | scales[i + 4] >> 4 << 6;
        b[i + 4] = minima[i] | minima[i + 4] >> 4 << 6;
        b[i + 8] = scales[i + 4] & 15 | (minima[i + 4] & 15) << 4;
    }
}

fn q2_k(x: &[f32], b: &mut [u8]) {
    let (scales, minima, quants) = affine_block::<16>(x, b, 80, 15., 3.);
    for i in 0..16 {
        b[i] = scales[i] | minima[i] << 4;
    }
    put_two_bits(&mut b[16..80], &quants);
}

fn q3_k(x: &[f32], b: &mut [u8]) {
    let (scales, quants) = symmetric_block(x, b, 108, 32., 4.);
    for (i, q) in quants.iter().enumerate() {
        b[i % 32] |= q >> 2 << (i / 32);
    }
    put_two_bits(&mut b[32..96], &quants);
    for (i, scale) in scales.iter().enumerate() {
        let scale = (scale + 32) as u8;
        b[96 + i % 8] |= (scale & 15) << (i / 8 * 4);
        b[104 + i % 4] |= scale >> 4 << (i / 4 * 2);
    }
}

fn q4_k(x: &[f32], b: &mut [u8]) {
    let (scales, minima, quants) = affine_block::<32>(x, b, 0, 63., 15.);
    put_scales_and_minima(&mut b[4..16], &scales, &minima);
    put_nibbles(&mut b[16..], &quants);
}

fn q5_k(x: &[f32], b: &mut [u8]) {
    let (scales, minima, quants) = affine_block::<32>(x, b, 0, 63., 31.);
    put_scales_and_minima(&mut b[4..16], &scales, &minima);
    for (i, q) in quants.iter().enumerate() {
        b[16 + i % 32] |= q >> 4 << (i / 32);
    }
    put_nibbles(&mut b[48..], &quants);
}

fn q6_k(x: &[f32], b: &mut [u8]) {
    let (scales, quants) = symmetric_block(x, b, 208, 128., 32.);
    for (i, q) in quants.iter().enumerate() {
        let (half, run, column) = (i / 128, i % 128 / 32, i % 32);
        b[half * 64 + run % 2 * 32 + column] |= (q & 15) << (run / 2 * 4);
        b[128 + half * 32 + column] |= q >> 4 << (run * 2);
    }
    for (b, scale) in b[192..208].iter_mut().zip(scales) {
        *b = scale as u8;
    }
}
