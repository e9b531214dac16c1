//! Products with stored weights: one kernel for few rows, which can also do what stands before and
//! behind a product in a layer, and one for many.

use super::{
    copy::widen,
    rms_norm, silu_mul,
    tile::{PLACE, PRODUCTS},
};
use crate::{
    backend::Norm,
    gguf::GgmlType,
    gpu::{
        device::Gpu,
        kernel::{Constant, Kernel, fold, params, work},
        matrix::Matrix,
        memory::Buffer,
        tensor::Tensor,
    },
};

/// `x W'`.
pub(super) const VECTOR: Kernel =
    Kernel::new::<VectorParams>("matvec", include_str!("matvec.wgsl"), 3, 1)
        .constants(&[Constant::RowThreads])
        .variant("matvec", &[("NORMS", 0.0), ("ADDS", 0.0), ("GATES", 0.0)]);
/// `other + x W'`.
pub(super) const VECTOR_ADDED: Kernel = VECTOR.variant(
    "matvec_added",
    &[("NORMS", 0.0), ("ADDS", 1.0), ("GATES", 0.0)],
);
/// `RMSNorm(x) W'`, where products norm.
pub(super) const VECTOR_NORMED: Kernel = VECTOR.variant(
    "matvec_normed",
    &[("NORMS", 1.0), ("ADDS", 0.0), ("GATES", 0.0)],
);
/// `silu(h G') * (h U')` of `h = RMSNorm(x)`, or of `h = x` where products do not norm.
pub(super) const VECTOR_GATED: Kernel = VECTOR
    .constants(&[Constant::RowThreads, Constant::ProductsNorm])
    .variant("matvec_gated", &[("ADDS", 0.0), ("GATES", 1.0)]);
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
        w_first: u32,
        first: u32,
        y_cols: u32,
        eps: f32,
        halves: u32,
    }
}

params! {
    struct TileParams {
        rows: u32,
        part_rows: u32,
        row_bytes: u32,
        blocks: u32,
        w_first: u32,
        first: u32,
        y_cols: u32,
        x_first: u32,
    }
}

/// Rows of weights that follow each other in one buffer, and in the columns of the result.
struct Run<'a> {
    buffer: &'a Buffer,
    ty: GgmlType,
    row_bytes: usize,
    /// The first row in the buffer.
    w_first: usize,
    w_rows: usize,
    /// The columns of the result: fewer where two rows make one number.
    rows: usize,
    /// The first column of the result.
    first: usize,
}

/// See [`crate::backend::Backend::matmul`].
pub fn matmul(gpu: &Gpu, x: &Tensor, w: &Matrix) -> Tensor {
    check(x, w);
    let y = gpu.alloc(x.rows, w.rows);
    multiply(gpu, x, &[w], &y);
    y
}

/// See [`crate::backend::Backend::add_matmul`].
pub fn add_matmul(gpu: &Gpu, x: &Tensor, y: &Tensor, w: &Matrix) -> Tensor {
    check(y, w);
    if y.rows > VECTOR_ROWS || !w.cols.is_multiple_of(32) || !w.rows.is_multiple_of(4) {
        return super::add(gpu, x, &matmul(gpu, y, w));
    }
    assert_eq!(x.shape(), [y.rows, w.rows], "what is added to a product");
    let sum = gpu.alloc(y.rows, w.rows);
    for run in runs(&[w]) {
        vector(gpu, VECTOR_ADDED, y, x, 0.0, &run, &sum);
    }
    sum
}

/// Computes RMSNorm of `x`, times the transposes of `ws`: all their columns beside each other.
pub fn normed_matmul(gpu: &Gpu, x: &Tensor, norm: Norm<Tensor>, ws: &[&Matrix]) -> Tensor {
    ws.iter().for_each(|w| check(x, w));
    let y = gpu.alloc(x.rows, ws.iter().map(|w| w.rows).sum());
    let norms = gpu.constants().products_norm;
    if x.rows > VECTOR_ROWS || !x.cols.is_multiple_of(32) || !norms {
        multiply(gpu, &rms_norm(gpu, x, norm.weight, norm.eps), ws, &y);
        return y;
    }
    for run in runs(ws) {
        vector(gpu, VECTOR_NORMED, x, norm.weight, norm.eps, &run, &y);
    }
    y
}

/// See [`crate::backend::Backend::swiglu`].
pub fn swiglu(gpu: &Gpu, x: &Tensor, norm: Norm<Tensor>, gate: &Matrix, up: &Matrix) -> Tensor {
    check(x, gate);
    check(x, up);
    let found = runs(&[gate, up]);
    let ([both], true) = (
        found.as_slice(),
        x.rows <= VECTOR_ROWS && x.cols.is_multiple_of(32) && gate.rows == up.rows,
    ) else {
        let h = rms_norm(gpu, x, norm.weight, norm.eps);
        return silu_mul(gpu, &matmul(gpu, &h, gate), &matmul(gpu, &h, up));
    };
    let x = &match gpu.constants().products_norm {
        true => x.clone(),
        false => rms_norm(gpu, x, norm.weight, norm.eps),
    };
    let y = gpu.alloc(x.rows, gate.rows);
    let gates = Run {
        rows: gate.rows,
        ..*both
    };
    vector(gpu, VECTOR_GATED, x, norm.weight, norm.eps, &gates, &y);
    y
}

fn check(x: &Tensor, w: &Matrix) {
    assert_eq!(
        x.cols,
        w.cols,
        "matmul of {:?} by {:?}",
        x.shape(),
        [w.rows, w.cols]
    );
}

/// The rows of `ws` in as few runs as there can be.
fn runs<'a>(ws: &[&'a Matrix]) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    let mut first = 0;
    for w in ws {
        for part in &w.parts {
            match runs.last_mut() {
                Some(last)
                    if last.buffer.id() == part.buffer.id()
                        && last.w_first + last.rows == part.buffer_row =>
                {
                    last.w_rows += part.rows;
                    last.rows += part.rows;
                }
                _ => runs.push(Run {
                    buffer: &part.buffer,
                    ty: w.ty,
                    row_bytes: w.row_bytes,
                    w_first: part.buffer_row,
                    w_rows: part.rows,
                    rows: part.rows,
                    first,
                }),
            }
            first += part.rows;
        }
    }
    runs
}

/// Puts `x` times the transposes of `ws` into `y`.
fn multiply(gpu: &Gpu, x: &Tensor, ws: &[&Matrix], y: &Tensor) {
    // Weights are read 32 at a time. Past the end of a row come those of the next, or the zeros
    // behind the last; the zeros of x make nothing of them.
    let x = &widen(gpu, x, x.cols.next_multiple_of(32));
    for run in runs(ws) {
        if x.rows <= VECTOR_ROWS {
            vector(gpu, VECTOR, x, x, 0.0, &run, y);
        } else {
            tiles(gpu, x, &run, y);
        }
    }
}

/// `x [.., 32 blocks]` by one of the kernels for few rows; `other` as that kernel wants it.
fn vector(gpu: &Gpu, kernel: Kernel, x: &Tensor, other: &Tensor, eps: f32, run: &Run, y: &Tensor) {
    let params = VectorParams {
        part_rows: run.rows as u32,
        row_bytes: run.row_bytes as u32,
        blocks: (x.cols / 32) as u32,
        w_first: run.w_first as u32,
        first: run.first as u32,
        y_cols: y.cols as u32,
        eps,
        halves: 2,
    };
    let group_rows = match gpu.constants().row_threads {
        SHARING => VECTOR_W_ROWS,
        alone => VECTOR_W_ROWS * alone as usize,
    };
    let [folded, layers, _] = fold(run.w_rows.div_ceil(group_rows));
    gpu.run(
        kernel.over(run.ty),
        &[
            run.buffer.binding(),
            x.binding(),
            other.binding(),
            y.binding(),
        ],
        &params,
        [folded, x.rows as u32, layers],
        work(&[2, run.w_rows, x.cols, x.rows]),
    );
}

/// `x [.., 32 blocks]` by the kernel for many rows.
fn tiles(gpu: &Gpu, x: &Tensor, run: &Run, y: &Tensor) {
    let row_work = work(&[2, run.rows, x.cols]);
    // As many rows of x at once as may run without a pause.
    let tiles = (gpu.max_work() / row_work.max(1) / TILE_ROWS as u64).clamp(1, MAX_TILES);
    let step = tiles as usize * TILE_ROWS;
    for x_first in (0..x.rows).step_by(step) {
        let rows = step.min(x.rows - x_first);
        let params = TileParams {
            rows: (x_first + rows) as u32,
            part_rows: run.rows as u32,
            row_bytes: run.row_bytes as u32,
            blocks: (x.cols / 32) as u32,
            w_first: run.w_first as u32,
            first: run.first as u32,
            y_cols: y.cols as u32,
            x_first: x_first as u32,
        };
        let groups = [
            run.rows.div_ceil(64) as u32,
            rows.div_ceil(TILE_ROWS) as u32,
            1,
        ];
        gpu.run(
            TILE.over(run.ty),
            &[run.buffer.binding(), x.binding(), y.binding()],
            &params,
            groups,
            rows as u64 * row_work,
        );
    }
}
