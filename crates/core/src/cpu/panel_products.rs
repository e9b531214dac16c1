//! Products of many rows of activations with weights as they are stored: sixteen rows of weights
//! are dequantized to a panel, a piece at a time, and all activations multiplied with it while it
//! lies in the first-level cache.

use std::array::from_fn;

use super::{
    row_products::whole_vectors,
    threads::map,
    tile::{MOST_TILE_ROWS, TileWork, in_tiles, tile, tiles},
};
use crate::{
    gguf::{BlockWork, Blocks, GgmlType, row_sixteens},
    simd::{LANES, Simd},
};

/// Whether panels are faster than candle's products of what is dequantized: WebAssembly has too few
/// registers, and 256 rows take 1.6 times as long there (LOG.md).
pub(super) const PAY: bool = cfg!(not(target_arch = "wasm32"));

/// Numbers of a row that are dequantized at a time: whole blocks of every type.
const DEPTH: usize = 256;

/// Rows of weights that a thread takes at a time.
const TASK_ROWS: usize = 2 * LANES;

/// Multiplies `x [t, cols]`, of at least [`MOST_TILE_ROWS`] rows, with every row of `weights`, of
/// which each takes `row_bytes`: `[t, rows]`.
pub(super) fn panel_products(
    ty: GgmlType,
    weights: &[u8],
    row_bytes: usize,
    x: &[f32],
    cols: usize,
) -> Vec<f32> {
    let (t, rows) = (x.len() / cols, weights.len() / row_bytes);
    assert!(t >= MOST_TILE_ROWS, "{t} rows");
    let (x, cols) = whole_vectors(x, cols);
    let tasks = map(weights.chunks(TASK_ROWS * row_bytes), |weights| {
        let mut out = vec![[0.; TASK_ROWS]; t];
        ty.with_blocks(Task {
            weights,
            row_bytes,
            x: &x,
            cols,
            out: &mut out,
        });
        out
    });
    let mut out = vec![0.; t * rows];
    for (i, out) in out.chunks_exact_mut(rows).enumerate() {
        for (out, task) in out.chunks_mut(TASK_ROWS).zip(&tasks) {
            out.copy_from_slice(&task[i][..out.len()]);
        }
    }
    out
}

/// The products with some of the rows.
struct Task<'a> {
    weights: &'a [u8],
    row_bytes: usize,
    x: &'a [f32],
    cols: usize,
    out: &'a mut [[f32; TASK_ROWS]],
}

impl BlockWork for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<B: Blocks, S: Simd>(self, simd: S) {
        let Task {
            weights,
            row_bytes,
            x,
            cols,
            out,
        } = self;
        let mut numbers = [[[0.; LANES]; DEPTH / LANES]; LANES];
        let mut panel = [[0.; LANES]; DEPTH];
        for (i, rows) in weights.chunks(LANES * row_bytes).enumerate() {
            for start in (0..cols).step_by(DEPTH) {
                let depth = DEPTH.min(cols - start);
                for (row, numbers) in rows.chunks_exact(row_bytes).zip(&mut numbers) {
                    let end = ((start + depth) / B::LEN * B::BYTES).min(row_bytes);
                    row_sixteens::<B, S>(
                        simd,
                        &row[start / B::LEN * B::BYTES..end],
                        #[inline(always)]
                        |j, w| simd.store(w, &mut numbers[j]),
                    );
                }
                let (sixteens, _) = panel[..depth].as_chunks_mut::<LANES>();
                for (j, sixteen) in sixteens.iter_mut().enumerate() {
                    simd.transpose(&from_fn(|row| numbers[row][j]), sixteen);
                }
                in_tiles(
                    simd,
                    Panel {
                        panel: &panel[..depth],
                        x,
                        cols,
                        start,
                        out,
                        column: i * LANES,
                    },
                );
            }
        }
    }
}

/// The products of all activations with a panel, which are added to what the panels before it
/// brought.
struct Panel<'a> {
    panel: &'a [[f32; LANES]],
    x: &'a [f32],
    cols: usize,
    start: usize,
    out: &'a mut [[f32; TASK_ROWS]],
    column: usize,
}

impl TileWork for Panel<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        for (first, done) in tiles::<R>(self.out.len()) {
            let x = from_fn(|i| &self.x[(first + i) * self.cols + self.start..]);
            let out = &mut self.out[first..first + R];
            let mut sums = from_fn(|i| simd.load(columns(&mut out[i], self.column)));
            tile::<S, R>(simd, x, self.panel, &mut sums);
            for (sum, out) in sums.into_iter().zip(out).skip(done) {
                simd.store(sum, columns(out, self.column));
            }
        }
    }
}

/// Sixteen columns of a row of sums.
#[inline(always)]
fn columns(out: &mut [f32; TASK_ROWS], first: usize) -> &mut [f32; LANES] {
    out[first..]
        .first_chunk_mut()
        .expect("tasks of whole panels")
}
