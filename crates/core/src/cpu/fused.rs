//! Operations that take one pass over their rows, where a composition of candle's operations takes
//! one for each step: for what nothing differentiates.

use super::threads::map;
use crate::backend::Heads;

/// Numbers that are added up side by side: a few vectors of any processor.
const LANES: usize = 16;

/// Products that a thread takes at a time: some ten microseconds of work.
const TASK_PRODUCTS: usize = 64 * 1024;

/// Most queries that go through [`attention`]: as many as rows that are multiplied with weights as
/// they are stored. More are products of matrices.
pub(super) const MOST_QUERIES: usize = 8;

/// Divides each row of `x` by its root mean square, and multiplies it with `weight`.
pub(super) fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
    vectorized(
        #[inline(always)]
        || {
            for row in x.chunks_exact_mut(weight.len()) {
                let squares = sum(row, |x| x * x);
                let scale = (squares / row.len() as f32 + eps).sqrt().recip();
                for (x, weight) in row.iter_mut().zip(weight) {
                    *x = *x * scale * weight;
                }
            }
        },
    );
}

/// Brings each row of `x` to mean 0 and variance 1, then to `weight` and `bias`.
pub(super) fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    vectorized(
        #[inline(always)]
        || {
            for row in x.chunks_exact_mut(weight.len()) {
                let mean = sum(row, |x| x) / row.len() as f32;
                let variance = sum(row, |x| (x - mean) * (x - mean)) / row.len() as f32;
                let scale = (variance + eps).sqrt().recip();
                for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                    *x = (*x - mean) * scale * weight + bias;
                }
            }
        },
    );
}

/// Turns the rotary pairs of each head of `x [t, width]` by the angles of `table [t, rotary]`:
/// cosines, then sines.
pub(super) fn rope(x: &mut [f32], width: usize, table: &[f32], rotary: usize, head_dim: usize) {
    vectorized(
        #[inline(always)]
        || {
            for (row, angles) in x.chunks_exact_mut(width).zip(table.chunks_exact(rotary)) {
                let (cos, sin) = angles.split_at(rotary / 2);
                for head in row.chunks_exact_mut(head_dim) {
                    let (pairs, _) = head[..rotary].as_chunks_mut::<2>();
                    for (([a, b], cos), sin) in pairs.iter_mut().zip(cos).zip(sin) {
                        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                    }
                }
            }
        },
    );
}

/// Replaces `gate` by `silu(gate) * up`.
pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            for (gate, up) in gate.iter_mut().zip(up) {
                *gate = *gate / (1. + exp(-*gate)) * up;
            }
        },
    );
}

/// Replaces `x` by `x * sigmoid(1.702 x)`.
pub(super) fn quick_gelu(x: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || {
            for x in x {
                *x /= 1. + exp(-1.702 * *x);
            }
        },
    );
}

/// Computes softmax of `q k' / sqrt(head_dim)`, times `v`, in each head: `q [t, heads * head_dim]`
/// over `k` and `v [len, kv_heads * head_dim]`. Where `pos` is there, `q` are the positions from
/// `pos` on, and each sees itself and what is before it.
pub(super) fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    heads: Heads,
    pos: Option<usize>,
) -> Vec<f32> {
    let Heads {
        heads,
        kv_heads,
        head_dim,
    } = heads;
    let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    let (t, len) = (q.len() / width, k.len() / kv_width);
    let group = heads / kv_heads;
    let one_head = |head: usize| {
        let kv_head = head / group * head_dim..(head / group + 1) * head_dim;
        let mut out = vec![0.; t * head_dim];
        vectorized(
            #[inline(always)]
            || {
                let mut scores = vec![0.; len];
                for (i, out) in out.chunks_exact_mut(head_dim).enumerate() {
                    let q = &q[i * width + head * head_dim..][..head_dim];
                    let seen = pos.map_or(len, |pos| pos + i + 1);
                    let scores = &mut scores[..seen];
                    for (score, k) in scores.iter_mut().zip(k.chunks_exact(kv_width)) {
                        *score = dot(q, &k[kv_head.clone()]);
                    }
                    softmax_row(scores, (head_dim as f32).sqrt().recip());
                    for (score, v) in scores.iter().zip(v.chunks_exact(kv_width)) {
                        for (out, v) in out.iter_mut().zip(&v[kv_head.clone()]) {
                            *out += score * v;
                        }
                    }
                }
            },
        );
        out
    };
    let task_heads = (TASK_PRODUCTS / (t * len * head_dim).max(1)).max(1);
    let tasks = (0..heads).step_by(task_heads);
    let by_task = map(tasks, |first| -> Vec<Vec<f32>> {
        let some = first..(first + task_heads).min(heads);
        some.map(one_head).collect()
    });
    let mut out = vec![0.; q.len()];
    for (head, found) in by_task.iter().flatten().enumerate() {
        for (row, found) in out
            .chunks_exact_mut(width)
            .zip(found.chunks_exact(head_dim))
        {
            row[head * head_dim..][..head_dim].copy_from_slice(found);
        }
    }
    out
}

/// Replaces `scores` by the softmax of `scale` times them.
#[inline(always)]
pub(super) fn softmax_row(scores: &mut [f32], scale: f32) {
    let largest = largest(scores);
    for score in &mut *scores {
        *score = exp((*score - largest) * scale);
    }
    let share = sum(scores, |x| x).recip();
    for score in scores {
        *score *= share;
    }
}

/// `e^x`, off by a few units in the last place, without branches, so that loops over it become
/// vectors. What would be below the smallest normal number or above the largest is that number.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Added to a number, it leaves no bits for a fraction: those below hold the integer.
    const TO_INTEGER: f32 = (3 << 22) as f32;
    /// `ln 2` in two parts, of which the first has few bits: times an integer, it is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = x.clamp(-87.3, 88.7);
    // e^x = 2^n e^y, with y as small as can be.
    let shifted = x * std::f32::consts::LOG2_E + TO_INTEGER;
    let n = shifted - TO_INTEGER;
    let y = x - n * LN_2[0] - n * LN_2[1];
    // The first terms of the exponential series.
    let terms = [
        1.,
        1.,
        1. / 2.,
        1. / 6.,
        1. / 24.,
        1. / 120.,
        1. / 720.,
        1. / 5040.,
    ];
    let power = terms.iter().rev().fold(0., |sum, term| sum * y + term);
    f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut largest = [f32::MIN; LANES];
    for chunk in chunks {
        for (largest, x) in largest.iter_mut().zip(chunk) {
            *largest = largest.max(*x);
        }
    }
    let all = largest.iter().chain(rest);
    all.fold(f32::MIN, |largest, x| largest.max(*x))
}

#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.; LANES];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += f(*x);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|x| f(*x)).sum::<f32>()
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b);
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

/// Runs `work` in the instructions of the processor that is there. It has to be inlined, with all
/// that it calls: what is called is compiled for any processor.
#[inline(always)]
fn vectorized<T>(work: impl FnOnce() -> T) -> T {
    pulp::Arch::new().dispatch(work)
}
