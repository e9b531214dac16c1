//! Attention of many queries, where nothing differentiates: a few queries at a time see all keys,
//! so that scores stay in the first-level cache.

use std::{array::from_fn, ops::Range};

use super::{
    fused::softmax_row,
    threads::map,
    tile::{MOST_TILE_ROWS, TileWork, in_tiles, tile, tiles},
};
use crate::{
    backend::Heads,
    simd::{LANES, Simd, SimdWork, dispatch},
};

/// Fewest queries, in each run of rows.
pub(super) const LEAST_QUERIES: usize = MOST_TILE_ROWS;

/// Queries of a head that a thread takes at a time.
const TASK_QUERIES: usize = 48;

/// As [`attention`](super::fused::attention), of at least [`LEAST_QUERIES`] queries in each of
/// `batch` runs of rows.
pub(super) fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    heads: Heads,
    batch: usize,
    pos: Option<usize>,
) -> Vec<f32> {
    let Heads {
        heads,
        kv_heads,
        head_dim,
    } = heads;
    let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    let (t, len) = (q.len() / width / batch, k.len() / kv_width / batch);
    let packed = map(0..batch * kv_heads, |i| {
        let (run, head) = (i / kv_heads, i % kv_heads);
        let rows = |x| {
            let rows = <[f32]>::chunks_exact(x, kv_width).skip(run * len).take(len);
            rows.map(|row| &row[head * head_dim..][..head_dim])
        };
        PackedHead::new(rows(k), rows(v), len, head_dim)
    });
    let blocks = t.div_ceil(TASK_QUERIES);
    let tasks = map(0..batch * heads * blocks, |i| {
        let (run, head, block) = (i / blocks / heads, i / blocks % heads, i % blocks);
        let queries = task_queries(block, t);
        let mut out = vec![0.; queries.len() * head_dim];
        dispatch(Task {
            q: &q[(run * t + queries.start) * width + head * head_dim..],
            width,
            count: queries.len(),
            head: &packed[run * kv_heads + head / (heads / kv_heads)],
            len,
            pos: pos.map(|pos| pos + queries.start),
            out: &mut out,
        });
        out
    });
    let mut out = vec![0.; q.len()];
    for (i, out) in out.chunks_exact_mut(width).enumerate() {
        let (run, query) = (i / t, i % t);
        let block = query / TASK_QUERIES;
        let start = task_queries(block, t).start;
        for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
            let task = &tasks[(run * heads + head) * blocks + block];
            out.copy_from_slice(&task[(query - start) * head_dim..][..head_dim]);
        }
    }
    out
}

/// The queries of task `block`, of `t` in all: the last ones overlap those before where they are
/// too few for a tile.
fn task_queries(block: usize, t: usize) -> Range<usize> {
    let start = (block * TASK_QUERIES).min(t - LEAST_QUERIES);
    start..(start + TASK_QUERIES).min(t)
}

/// Keys and values of a head, as [`tile`] takes them.
struct PackedHead {
    /// `[len / 16, head_dim, 16]`: sixteen keys beside each other.
    keys: Vec<[f32; LANES]>,
    /// `[head_dim / 16, len, 16]`: sixteen columns of each value.
    values: Vec<[f32; LANES]>,
}

impl PackedHead {
    fn new<'a>(
        keys: impl Iterator<Item = &'a [f32]>,
        values: impl Iterator<Item = &'a [f32]>,
        len: usize,
        head_dim: usize,
    ) -> PackedHead {
        let mut packed = PackedHead {
            keys: vec![[0.; LANES]; len.div_ceil(LANES) * head_dim],
            values: vec![[0.; LANES]; head_dim.div_ceil(LANES) * len],
        };
        for (i, key) in keys.enumerate() {
            let panel = &mut packed.keys[i / LANES * head_dim..][..head_dim];
            for (column, x) in panel.iter_mut().zip(key) {
                column[i % LANES] = *x;
            }
        }
        for (i, value) in values.enumerate() {
            for (j, x) in value.chunks(LANES).enumerate() {
                packed.values[j * len + i][..x.len()].copy_from_slice(x);
            }
        }
        packed
    }
}

/// Some queries of a head.
struct Task<'a> {
    q: &'a [f32],
    width: usize,
    count: usize,
    head: &'a PackedHead,
    len: usize,
    pos: Option<usize>,
    out: &'a mut [f32],
}

impl SimdWork for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        in_tiles(simd, self);
    }
}

impl TileWork for Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let Task { head, len, .. } = self;
        let head_dim = self.out.len() / self.count;
        let padded = len.next_multiple_of(LANES);
        let mut scores = vec![0.; R * padded];
        for (first, _) in tiles::<R>(self.count) {
            let seen = |row: usize| self.pos.map_or(len, |pos| pos + first + row + 1);
            let most = seen(R - 1);
            let q: [&[f32]; R] = from_fn(|row| &self.q[(first + row) * self.width..][..head_dim]);
            for (i, keys) in head.keys.chunks_exact(head_dim).enumerate() {
                if i * LANES >= most {
                    break;
                }
                let mut sums = [simd.splat(0.); R];
                tile::<S, R>(simd, q, keys, &mut sums);
                for (row, sum) in sums.into_iter().enumerate() {
                    let scores = scores[row * padded + i * LANES..].first_chunk_mut();
                    simd.store(sum, scores.expect("whole vectors"));
                }
            }
            for (row, scores) in scores.chunks_exact_mut(padded).enumerate() {
                let (seen, unseen) = scores.split_at_mut(seen(row));
                softmax_row(seen, (head_dim as f32).sqrt().recip());
                unseen.fill(0.);
            }
            let scores: [&[f32]; R] = from_fn(|row| &scores[row * padded..][..most]);
            for (i, values) in head.values.chunks_exact(len).enumerate() {
                let mut sums = [simd.splat(0.); R];
                tile::<S, R>(simd, scores, &values[..most], &mut sums);
                for (row, sum) in sums.into_iter().enumerate() {
                    let mut values = [0.; LANES];
                    simd.store(sum, &mut values);
                    let out = &mut self.out[(first + row) * head_dim..][..head_dim];
                    let out = out.chunks_mut(LANES).nth(i).expect("columns of a head");
                    out.copy_from_slice(&values[..out.len()]);
                }
            }
        }
    }
}
