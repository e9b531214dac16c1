//! Products with stored weights: one kernel for few rows, one for many.

use super::{
    copy::widen,
    tile::{PLACE, PRODUCTS},
};
use crate::gpu::{
    device::Gpu,
    kernel::{Constant, Kernel, fold, params, work},
    matrix::Matrix,
    tensor::Tensor,
};

pub(super) const VECTOR: Kernel =
    Kernel::new::<VectorParams>("matvec", include_str!("matvec.wgsl"), 2, 1)
        .constants(&[Constant::RowThreads]);
pub(super) const TILE: Kernel =
    Kernel::new::<TileParams>("matmul", include_str!("matmul.wgsl"), 2, 1)
        .with(&[PLACE, PRODUCTS])
        .constants(&[Constant::TileSide]);

/// Up to this many rows of x the weights are read once per row: reading them is what takes the
/// time.
const VECTOR_ROWS: usize = 8;
/// Rows of W whose sums a thread of [`VECTOR`] computes: together with all of its workgroup, or
/// alone.
const VECTOR_W_ROWS: usize = 4;
/// Threads of a workgroup of [`VECTOR`] that share their rows.
const SHARING: u32 = 64;
/// Rows of x that a workgroup of [`TILE`] covers.
const TILE_ROWS: usize = 64;
/// A dispatch takes at most 65,535 workgroups per dimension.
const MAX_TILES: u64 = 65_535;

params! {
    struct VectorParams {
        part_rows: u32,
        row_bytes: u32,
        blocks: u32,
        first: u32,
        y_cols: u32,
    }
}

params! {
    struct TileParams {
        rows: u32,
        part_rows: u32,
        row_bytes: u32,
        blocks: u32,
        first: u32,
        y_cols: u32,
        x_first: u32,
    }
}

/// See [`crate::backend::Backend::matmul`].
pub fn matmul(gpu: &Gpu, x: &Tensor, w: &Matrix) -> Tensor {
    assert_eq!(
        x.cols,
        w.cols,
        "matmul of {:?} by {:?}",
        x.shape(),
        [w.rows, w.cols]
    );
    let blocks = w.cols.div_ceil(32);
    // Weights are read 32 at a time. Past the end of a row come those of the next, or the zeros
    // behind the last; the zeros of x make nothing of them.
    let x = &widen(gpu, x, blocks * 32);
    let y = gpu.alloc(x.rows, w.rows);
    let w_rows = match gpu.constants().row_threads {
        SHARING => VECTOR_W_ROWS,
        alone => VECTOR_W_ROWS * alone as usize,
    };
    for part in &w.parts {
        let buffers = [part.buffer.binding(), x.binding(), y.binding()];
        let row_work = work(&[2, part.rows, blocks, 32]);
        if x.rows <= VECTOR_ROWS {
            let params = VectorParams {
                part_rows: part.rows as u32,
                row_bytes: w.row_bytes as u32,
                blocks: blocks as u32,
                first: part.first as u32,
                y_cols: w.rows as u32,
            };
            let [folded, layers, _] = fold(part.rows.div_ceil(w_rows));
            let groups = [folded, x.rows as u32, layers];
            gpu.run(
                VECTOR.over(w.ty),
                &buffers,
                &params,
                groups,
                x.rows as u64 * row_work,
            );
            continue;
        }
        // As many rows of x at once as may run without a pause.
        let tiles = (gpu.max_work() / row_work.max(1) / TILE_ROWS as u64).clamp(1, MAX_TILES);
        let step = tiles as usize * TILE_ROWS;
        for x_first in (0..x.rows).step_by(step) {
            let rows = step.min(x.rows - x_first);
            let params = TileParams {
                rows: (x_first + rows) as u32,
                part_rows: part.rows as u32,
                row_bytes: w.row_bytes as u32,
                blocks: blocks as u32,
                first: part.first as u32,
                y_cols: w.rows as u32,
                x_first: x_first as u32,
            };
            let groups = [
                part.rows.div_ceil(64) as u32,
                rows.div_ceil(TILE_ROWS) as u32,
                1,
            ];
            gpu.run(
                TILE.over(w.ty),
                &buffers,
                &params,
                groups,
                rows as u64 * row_work,
            );
        }
    }
    y
}
