//! Rows of a stored table, dequantized.

use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    matrix::Matrix,
    tensor::{Ids, Tensor},
};

pub(super) const KERNEL: Kernel = Kernel::new::<Params>("embed", include_str!("embed.wgsl"), 2, 1);

params! {
    struct Params {
        count: u32,
        cols: u32,
        blocks: u32,
        row_bytes: u32,
        first: u32,
        rows: u32,
        table_rows: u32,
    }
}

/// See [`crate::backend::Backend::embed`].
pub fn embed(gpu: &Gpu, table: &Matrix, ids: &Ids) -> Tensor {
    let y = gpu.alloc(ids.len, table.cols);
    let blocks = table.cols.div_ceil(32);
    let count = ids.len * blocks;
    for part in &table.parts {
        let params = Params {
            count: count as u32,
            cols: table.cols as u32,
            blocks: blocks as u32,
            row_bytes: table.row_bytes as u32,
            first: part.first as u32,
            rows: part.rows as u32,
            table_rows: table.rows as u32,
        };
        let buffers = [part.buffer.binding(), ids.binding(), y.binding()];
        gpu.run(
            KERNEL.over(table.ty),
            &buffers,
            &params,
            fold(count.div_ceil(64)),
            work(&[y.len()]),
        );
    }
    y
}
