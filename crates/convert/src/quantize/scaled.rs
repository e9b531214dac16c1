//! `Q3_K`, `Q6_K`, `IQ4_NL`, `IQ4_XS`; `Q4_0` and `Q5_0` where it is known what matters.
//!
//! A number is a scale, of either sign, times a point of a grid.

use univi::gguf::IQ4_VALUES;

use super::{
    encoder::{Encoder, SUPER},
    lanes::{LANES, Lanes, gather, scatter, weigh},
    pack::{put_five_bits, put_half, put_nibble_halves, put_two_bits},
};

/// The points that a type's codes, from 0 on, stand for.
trait Grid: Copy {
    /// The lowest and the highest point.
    const ENDS: [f32; 2];

    /// Returns the points nearest to some numbers.
    fn points(self, x: Lanes) -> Lanes;

    /// Returns the codes of those points.
    fn codes(self, x: Lanes) -> Lanes;
}

/// The integers from `-HALF` to `HALF - 1`.
#[derive(Clone, Copy)]
struct Even<const HALF: i32>;

impl<const HALF: i32> Grid for Even<HALF> {
    const ENDS: [f32; 2] = [-HALF as f32, (HALF - 1) as f32];

    #[inline(always)]
    fn points(self, x: Lanes) -> Lanes {
        let [low, high] = Self::ENDS;
        x.round().max(Lanes::splat(low)).min(Lanes::splat(high))
    }

    #[inline(always)]
    fn codes(self, x: Lanes) -> Lanes {
        self.points(x) - Lanes::splat(Self::ENDS[0])
    }
}

/// The sixteen points of the `IQ4` types, which lie closer where most numbers are.
#[derive(Clone, Copy)]
struct Uneven;

impl Uneven {
    /// Returns what `of` makes of the codes of the nearest points: something that grows.
    #[inline(always)]
    fn nearest(x: Lanes, of: impl Fn(usize) -> f32) -> Lanes {
        let mut out = Lanes::splat(of(0));
        for code in 1..IQ4_VALUES.len() {
            let sum = f32::from(IQ4_VALUES[code - 1]) + f32::from(IQ4_VALUES[code]);
            out = Lanes::splat(sum / 2.).less(x, Lanes::splat(of(code)), out);
        }
        out
    }
}

impl Grid for Uneven {
    const ENDS: [f32; 2] = [IQ4_VALUES[0] as f32, IQ4_VALUES[15] as f32];

    #[inline(always)]
    fn points(self, x: Lanes) -> Lanes {
        Uneven::nearest(x, |code| f32::from(IQ4_VALUES[code]))
    }

    #[inline(always)]
    fn codes(self, x: Lanes) -> Lanes {
        Uneven::nearest(x, |code| code as f32)
    }
}

/// Which scales are tried: for each end of the grid those that take the number farthest from zero
/// near to it.
#[derive(Clone, Copy)]
struct Search {
    /// How many for each end.
    scales: i32,
    /// How far they lie apart, as a share of the end.
    apart: f32,
    /// How often the best one is refined.
    refinements: i32,
}

/// Integers for a block of 256 numbers.
struct Quantized {
    /// Of each group, in multiples of the block's scale, in two's complement.
    scales: [u8; 16],
    codes: [u8; SUPER],
}

#[derive(Clone, Copy)]
pub struct Q3K;

impl Encoder<SUPER, 110> for Q3K {
    #[inline(always)]
    fn encode(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, b: &mut [u8; 110]) {
        let search = Search {
            scales: 9,
            apart: 0.05,
            refinements: 1,
        };
        let Quantized { scales, codes } =
            quantize::<16, 2, _>(Even::<4>, search, x, importance, 32., &mut b[108..110]);
        for (i, q) in codes.iter().enumerate() {
            b[i % 32] |= q >> 2 << (i / 32);
        }
        put_two_bits(&mut b[32..96], &codes);
        for (i, scale) in scales.iter().enumerate() {
            let scale = scale.wrapping_add(32);
            b[96 + i % 8] |= (scale & 15) << (i / 8 * 4);
            b[104 + i % 4] |= scale >> 4 << (i / 4 * 2);
        }
    }
}

#[derive(Clone, Copy)]
pub struct Q6K;

impl Encoder<SUPER, 210> for Q6K {
    #[inline(always)]
    fn encode(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, b: &mut [u8; 210]) {
        let search = Search {
            scales: 9,
            apart: 0.007,
            refinements: 1,
        };
        let Quantized { scales, codes } =
            quantize::<16, 2, _>(Even::<32>, search, x, importance, 128., &mut b[208..210]);
        for half in 0..2 {
            let codes = &codes[half * 128..][..128];
            for i in 0..32 {
                let [q0, q1, q2, q3] = [0, 32, 64, 96].map(|run| codes[run + i]);
                b[half * 64 + i] = q0 & 15 | (q2 & 15) << 4;
                b[half * 64 + 32 + i] = q1 & 15 | (q3 & 15) << 4;
                b[128 + half * 32 + i] = q0 >> 4 | q1 >> 4 << 2 | q2 >> 4 << 4 | q3 >> 4 << 6;
            }
        }
        b[192..208].copy_from_slice(&scales);
    }
}

const IQ4_SEARCH: Search = Search {
    scales: 7,
    apart: 0.02,
    refinements: 1,
};

#[derive(Clone, Copy)]
pub struct Iq4Xs;

impl Encoder<SUPER, 136> for Iq4Xs {
    #[inline(always)]
    fn encode(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, b: &mut [u8; 136]) {
        let Quantized { scales, codes } =
            quantize::<32, 1, _>(Uneven, IQ4_SEARCH, x, importance, 32., &mut b[..2]);
        let mut high = 0u16;
        for (i, scale) in scales[..8].iter().enumerate() {
            let scale = scale.wrapping_add(32);
            high |= u16::from(scale >> 4) << (2 * i);
            b[4 + i / 2] |= (scale & 15) << (i % 2 * 4);
        }
        b[2..4].copy_from_slice(&high.to_le_bytes());
        for (codes, b) in codes.as_chunks().0.iter().zip(b[8..].chunks_exact_mut(16)) {
            put_nibble_halves(b, codes);
        }
    }
}

/// Eight blocks.
#[derive(Clone, Copy)]
pub struct Iq4Nl;

impl Encoder<SUPER, 144> for Iq4Nl {
    #[inline(always)]
    fn encode(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, b: &mut [u8; 144]) {
        let (blocks, _) = b.as_chunks_mut::<18>();
        let codes = quantize_blocks(Uneven, IQ4_SEARCH, x, importance, blocks);
        for (codes, b) in codes.as_chunks().0.iter().zip(blocks) {
            put_nibble_halves(&mut b[2..], codes);
        }
    }
}

/// Eight blocks, searched.
#[derive(Clone, Copy)]
pub struct Q4_0;

impl Encoder<SUPER, 144> for Q4_0 {
    #[inline(always)]
    fn encode(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, b: &mut [u8; 144]) {
        let search = Search {
            scales: 9,
            apart: 0.03,
            refinements: 1,
        };
        let (blocks, _) = b.as_chunks_mut::<18>();
        let codes = quantize_blocks(Even::<8>, search, x, importance, blocks);
        for (codes, b) in codes.as_chunks().0.iter().zip(blocks) {
            put_nibble_halves(&mut b[2..], codes);
        }
    }
}

/// Eight blocks, searched.
#[derive(Clone, Copy)]
pub struct Q5_0;

impl Encoder<SUPER, 176> for Q5_0 {
    #[inline(always)]
    fn encode(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, b: &mut [u8; 176]) {
        let search = Search {
            scales: 9,
            apart: 0.015,
            refinements: 1,
        };
        let (blocks, _) = b.as_chunks_mut::<22>();
        let codes = quantize_blocks(Even::<16>, search, x, importance, blocks);
        for (codes, b) in codes.as_chunks().0.iter().zip(blocks) {
            put_five_bits(&mut b[2..], codes);
        }
    }
}

/// Writes the scales of eight blocks of 32 numbers, at the beginning of each -> the codes.
#[inline(always)]
fn quantize_blocks<G: Grid, const BYTES: usize>(
    grid: G,
    search: Search,
    x: &[f32; SUPER],
    importance: Option<&[f32; SUPER]>,
    blocks: &mut [[u8; BYTES]],
) -> [u8; SUPER] {
    let mut x: [Lanes; 32] = gather(x);
    let importance = importance.map(|importance| gather(importance));
    let weights = weigh(&x, importance.as_ref());
    let scale = fit(grid, search, &x, &weights);
    let mut halves = Lanes::ZERO;
    for (lane, b) in blocks.iter_mut().enumerate() {
        halves.0[lane] = put_half(b, 0, scale.0[lane]);
    }
    let stretch = halves.inverse();
    for x in &mut x {
        *x = grid.codes(*x * stretch);
    }
    let mut codes = [0; SUPER];
    scatter(&x, &mut codes);
    codes
}

/// Eight groups, and what was found for them.
#[derive(Clone, Copy)]
struct Groups<const N: usize> {
    x: [Lanes; N],
    weights: [Lanes; N],
    scale: Lanes,
}

/// Quantizes a block of `SETS` times eight groups of `N` numbers, with scales that are integers
/// from `-levels` to `levels - 1`. The block's own scale goes to `half`.
#[inline(always)]
fn quantize<const N: usize, const SETS: usize, G: Grid>(
    grid: G,
    search: Search,
    x: &[f32; SUPER],
    importance: Option<&[f32; SUPER]>,
    levels: f32,
    half: &mut [u8],
) -> Quantized {
    let set = N * LANES;
    let mut sets = [Groups {
        x: [Lanes::ZERO; N],
        weights: [Lanes::ZERO; N],
        scale: Lanes::ZERO,
    }; SETS];
    let mut extreme = Lanes::ZERO;
    for (i, groups) in sets.iter_mut().enumerate() {
        let numbers = i * set..(i + 1) * set;
        groups.x = gather(&x[numbers.clone()]);
        let importance = importance.map(|importance| gather(&importance[numbers]));
        groups.weights = weigh(&groups.x, importance.as_ref());
        groups.scale = fit(grid, search, &groups.x, &groups.weights);
        extreme = farther(extreme, groups.scale);
    }
    let extreme = extreme.0.into_iter();
    let extreme = extreme.fold(0f32, |m, x| if m.abs() < x.abs() { x } else { m });
    let d = Lanes::splat(put_half(half, 0, -extreme / levels));

    let mut out = Quantized {
        scales: [0; 16],
        codes: [0; SUPER],
    };
    let (least, most) = (Lanes::splat(-levels), Lanes::splat(levels - 1.));
    let whole = |x: Lanes| x.round().max(least).min(most);
    for (i, groups) in sets.iter().enumerate() {
        let scale = whole(groups.scale * d.inverse());
        // It is off by up to half a step. Another integer may fit better.
        let (mut best, mut least) = (scale, Lanes::splat(f32::INFINITY));
        for more in [0., -1., 1.] {
            let scale = whole(scale + Lanes::splat(more));
            let error = error(grid, groups, scale * d);
            best = error.less(least, scale, best);
            least = error.min(least);
        }
        out.scales[i * LANES..][..LANES].copy_from_slice(&best.bytes());
        let stretch = (best * d).inverse();
        let mut codes = groups.x;
        for x in &mut codes {
            *x = grid.codes(*x * stretch);
        }
        scatter(&codes, &mut out.codes[i * set..][..set]);
    }
    out
}

/// Returns the numbers that are farther from zero.
#[inline(always)]
fn farther(a: Lanes, b: Lanes) -> Lanes {
    a.abs().less(b.abs(), b, a)
}

/// Returns the weighted squared errors with these scales.
#[inline(always)]
fn error<const N: usize>(grid: impl Grid, groups: &Groups<N>, scale: Lanes) -> Lanes {
    let stretch = scale.inverse();
    let mut error = Lanes::ZERO;
    for (x, weight) in groups.x.iter().zip(&groups.weights) {
        let off = grid.points(*x * stretch) * scale - *x;
        error = error + *weight * off * off;
    }
    error
}

/// Returns the scales, of either sign, for which points of the grid come near to the numbers.
///
/// For each of several roundings the least-squares scale is solved, and the one kept that leaves
/// the least error.
#[inline(always)]
fn fit<const N: usize, G: Grid>(
    grid: G,
    search: Search,
    x: &[Lanes; N],
    weights: &[Lanes; N],
) -> Lanes {
    let extreme = x.iter().fold(Lanes::ZERO, |m, x| farther(m, *x));
    let unit = extreme.inverse();
    // From here on from -1 to 1: no product leaves what f32 can hold.
    let mut y = *x;
    for y in &mut y {
        *y = *y * unit;
    }
    let (mut scale, mut most) = (Lanes::splat(1. / G::ENDS[0]), Lanes::ZERO);
    for attempt in 0..2 * search.scales + search.refinements {
        let stretch = if attempt < 2 * search.scales {
            // The plain rounding comes first, then those around it.
            let (end, i) = (G::ENDS[(attempt & 1) as usize], attempt / 2);
            let side = if i % 2 == 0 { 1. } else { -1. };
            let more = side * ((i + 1) / 2) as f32 * search.apart;
            Lanes::splat(end * (1. + more))
        } else {
            scale.inverse()
        };
        let (mut wpp, mut wpy) = (Lanes::ZERO, Lanes::ZERO);
        for (y, weight) in y.iter().zip(weights) {
            let p = grid.points(*y * stretch);
            let weighted = *weight * p;
            wpp = wpp + weighted * p;
            wpy = wpy + weighted * *y;
        }
        // What the best scale for these points takes off the squared error of zeros. Another one
        // has to be better by more than the rounding of f32. No number is more than none.
        let best = wpy / wpp;
        let gain = best * wpy;
        let enough = most * Lanes::splat(1.000_001);
        scale = enough.less(gain, best, scale);
        most = enough.less(gain, gain, most);
    }
    scale * extreme
}
