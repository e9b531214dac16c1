//! `Q2_K`, `Q4_K`, `Q5_K`: a number is `scale * q - minimum`, with `q` from 0 to a few.

use super::{
    encoder::{Encoder, SUPER},
    lanes::{LANES, Lanes, gather, scatter, weigh},
    pack::{put_half, put_nibbles, put_scales_and_minima, put_two_bits},
};

/// How many stretches of a group's range are tried, from one step less to one step more than all
/// integers, and how often the best of them is refined.
const STRETCHES: usize = 11;
const REFINEMENTS: usize = 1;

/// Integers for a block of 256 numbers.
struct Quantized {
    /// Of each group, in multiples of the block's scale.
    scales: [u8; 16],
    /// Of each group, in multiples of the block's minimum.
    minima: [u8; 16],
    quants: [u8; SUPER],
}

#[derive(Clone, Copy)]
pub struct Q2K;

impl Encoder<SUPER, 84> for Q2K {
    #[inline(always)]
    fn encode(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, b: &mut [u8; 84]) {
        let block = quantize::<16, 2>(x, importance, 3., 15., &mut b[80..84]);
        for (b, (scale, minimum)) in b.iter_mut().zip(block.scales.iter().zip(block.minima)) {
            *b = scale | minimum << 4;
        }
        put_two_bits(&mut b[16..80], &block.quants);
    }
}

#[derive(Clone, Copy)]
pub struct Q4K;

impl Encoder<SUPER, 144> for Q4K {
    #[inline(always)]
    fn encode(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, b: &mut [u8; 144]) {
        let block = quantize::<32, 1>(x, importance, 15., 63., &mut b[..4]);
        put_scales_and_minima(&mut b[4..16], &block.scales, &block.minima);
        put_nibbles(&mut b[16..], &block.quants);
    }
}

#[derive(Clone, Copy)]
pub struct Q5K;

impl Encoder<SUPER, 176> for Q5K {
    #[inline(always)]
    fn encode(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, b: &mut [u8; 176]) {
        let block = quantize::<32, 1>(x, importance, 31., 63., &mut b[..4]);
        put_scales_and_minima(&mut b[4..16], &block.scales, &block.minima);
        for (i, q) in block.quants.iter().enumerate() {
            b[16 + i % 32] |= q >> 4 << (i / 32);
        }
        put_nibbles(&mut b[48..], &block.quants);
    }
}

/// Eight groups, and what was found for them.
#[derive(Clone, Copy)]
struct Groups<const N: usize> {
    x: [Lanes; N],
    weights: [Lanes; N],
    scale: Lanes,
    minimum: Lanes,
}

/// Quantizes a block of `SETS` times eight groups of `N` numbers: to integers up to `top`, with
/// scales and minima that are integers up to `levels`. The block's own scale and minimum go to
/// `halves`.
#[inline(always)]
fn quantize<const N: usize, const SETS: usize>(
    x: &[f32; SUPER],
    importance: Option<&[f32; SUPER]>,
    top: f32,
    levels: f32,
    halves: &mut [u8],
) -> Quantized {
    let set = N * LANES;
    let mut sets = [Groups {
        x: [Lanes::ZERO; N],
        weights: [Lanes::ZERO; N],
        scale: Lanes::ZERO,
        minimum: Lanes::ZERO,
    }; SETS];
    let (mut scale, mut minimum) = (Lanes::ZERO, Lanes::ZERO);
    for (i, groups) in sets.iter_mut().enumerate() {
        let numbers = i * set..(i + 1) * set;
        groups.x = gather(&x[numbers.clone()]);
        let importance = importance.map(|importance| gather(&importance[numbers]));
        groups.weights = weigh(&groups.x, importance.as_ref());
        (groups.scale, groups.minimum) = fit(&groups.x, &groups.weights, top);
        scale = scale.max(groups.scale);
        minimum = minimum.max(groups.minimum);
    }
    let largest = |x: Lanes| x.0.into_iter().fold(0f32, f32::max);
    let d = Lanes::splat(put_half(halves, 0, largest(scale) / levels));
    let dmin = Lanes::splat(put_half(halves, 2, largest(minimum) / levels));

    let mut out = Quantized {
        scales: [0; 16],
        minima: [0; 16],
        quants: [0; SUPER],
    };
    let whole = |x: Lanes| x.round().max(Lanes::ZERO).min(Lanes::splat(levels));
    for (i, groups) in sets.iter().enumerate() {
        let scale = whole(groups.scale * d.inverse());
        let minimum = whole(groups.minimum * dmin.inverse());
        // Both are off by up to half a step. Another pair of integers may fit better.
        let (mut best, mut least) = ((scale, minimum), Lanes::splat(f32::INFINITY));
        for (more_scale, more_minimum) in [(0., 0.), (-1., 0.), (1., 0.), (0., -1.), (0., 1.)] {
            let scale = whole(scale + Lanes::splat(more_scale));
            let minimum = whole(minimum + Lanes::splat(more_minimum));
            let error = error(groups, scale * d, minimum * dmin, top);
            best.0 = error.less(least, scale, best.0);
            best.1 = error.less(least, minimum, best.1);
            least = error.min(least);
        }
        let (scale, minimum) = best;
        out.scales[i * LANES..][..LANES].copy_from_slice(&scale.bytes());
        out.minima[i * LANES..][..LANES].copy_from_slice(&minimum.bytes());
        let rounding = Rounding::new(scale * d, minimum * dmin, top);
        let mut quants = groups.x;
        for q in &mut quants {
            *q = rounding.apply(*q);
        }
        scatter(&quants, &mut out.quants[i * set..][..set]);
    }
    out
}

/// From numbers to integers.
struct Rounding {
    stretch: Lanes,
    shift: Lanes,
    top: Lanes,
}

impl Rounding {
    #[inline(always)]
    fn new(scale: Lanes, minimum: Lanes, top: f32) -> Rounding {
        let stretch = scale.inverse();
        Rounding {
            stretch,
            shift: minimum * stretch,
            top: Lanes::splat(top),
        }
    }

    #[inline(always)]
    fn apply(&self, x: Lanes) -> Lanes {
        let q = x * self.stretch + self.shift;
        q.round().max(Lanes::ZERO).min(self.top)
    }
}

/// Returns the weighted squared errors with these scales and minima.
#[inline(always)]
fn error<const N: usize>(groups: &Groups<N>, scale: Lanes, minimum: Lanes, top: f32) -> Lanes {
    let rounding = Rounding::new(scale, minimum, top);
    let mut error = Lanes::ZERO;
    for (x, weight) in groups.x.iter().zip(&groups.weights) {
        let off = rounding.apply(*x) * scale - (*x + minimum);
        error = error + *weight * off * off;
    }
    error
}

/// Returns the scales and minima (none below 0) for which `scale * q - minimum` with integers `q`
/// up to `top` comes near to the numbers.
///
/// For each of several roundings the least-squares scale and minimum are solved, and those kept
/// that leave the least error.
#[inline(always)]
fn fit<const N: usize>(x: &[Lanes; N], weights: &[Lanes; N], top: f32) -> (Lanes, Lanes) {
    // Minima can't be negative: where all numbers are above 0, they are counted from 0.
    let (mut low, mut high) = (Lanes::ZERO, x[0]);
    for x in x {
        low = low.min(*x);
        high = high.max(*x);
    }
    let range = high - low;
    let unit = range.inverse();
    // From here on from 0 to 1: no product leaves what f32 can hold, and no sum cancels.
    let zero = -low * unit;
    let mut y = *x;
    let (mut w, mut wy) = (Lanes::ZERO, Lanes::ZERO);
    for (y, weight) in y.iter_mut().zip(weights) {
        *y = (*y - low) * unit;
        w = w + *weight;
        wy = wy + *weight * *y;
    }
    // Where no rounding is good for anything, the plain scale serves.
    let (mut scale, mut offset, mut most) = (Lanes::splat(1. / top), Lanes::ZERO, Lanes::ZERO);
    for attempt in 0..STRETCHES + REFINEMENTS {
        let (stretch, shift) = if attempt < STRETCHES {
            let more = 2. * attempt as f32 / (STRETCHES - 1) as f32 - 1.;
            (Lanes::splat(top + more), Lanes::ZERO)
        } else {
            let stretch = scale.inverse();
            (stretch, -offset * stretch)
        };
        let rounding = Rounding {
            stretch,
            shift,
            top: Lanes::splat(top),
        };
        let (mut wq, mut wqq, mut wqy) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
        for (y, weight) in y.iter().zip(weights) {
            let q = rounding.apply(*y);
            let weighted = *weight * q;
            wq = wq + weighted;
            wqq = wqq + weighted * q;
            wqy = wqy + weighted * *y;
        }
        let determinant = w * wqq - wq * wq;
        let free_scale = (w * wqy - wq * wy) / determinant;
        let free_offset = (wy - free_scale * wq) / w;
        // The minimum is 0 where it would be negative, and where (nearly) all integers are the
        // same, so that it can't be told from the scale.
        let held_scale = (wqy - zero * wq) / wqq;
        let alike = Lanes::splat(1e-4) * w * wqq;
        let pick = |held: Lanes, free: Lanes| {
            determinant.less(alike, held, zero.less(free_offset, held, free))
        };
        let (s, o) = (pick(held_scale, free_scale), pick(zero, free_offset));
        // What they take off the squared error of zeros. No number is more than none.
        let two = Lanes::splat(2.);
        let gain = s * (two * wqy - s * wqq - two * o * wq) + o * (two * wy - o * w);
        let gain = Lanes::ZERO.less(s, gain, Lanes::ZERO);
        scale = most.less(gain, s, scale);
        offset = most.less(gain, o, offset);
        most = gain.max(most);
    }
    (scale * range, -low - offset * range)
}
