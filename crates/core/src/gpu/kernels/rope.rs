//! Rotary positions.

use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    tensor::Tensor,
};

/// `turned`.
pub(super) const TURNED: &str = include_str!("turned.wgsl");

pub(super) const KERNEL: Kernel =
    Kernel::new::<Params>("rope", include_str!("rope.wgsl"), 2, 1).with(&[TURNED]);

params! {
    struct Params {
        pairs: u32,
        pairs_per_row: u32,
        head_dim: u32,
        rotary: u32,
        pos: u32,
    }
}

/// See [`crate::backend::Backend::rope`].
pub fn rope(gpu: &Gpu, x: &Tensor, table: &Tensor, head_dim: usize, pos: usize) -> Tensor {
    assert!(
        head_dim.is_multiple_of(2)
            && x.cols.is_multiple_of(head_dim)
            && table.cols.is_multiple_of(2)
            && table.cols <= head_dim
            && pos + x.rows <= table.rows,
        "rope of {:?} in heads of {head_dim} at {pos} by {:?}",
        x.shape(),
        table.shape()
    );
    let y = gpu.alloc(x.rows, x.cols);
    let pairs = x.len() / 2;
    let params = Params {
        pairs: pairs as u32,
        pairs_per_row: (x.cols / 2) as u32,
        head_dim: head_dim as u32,
        rotary: table.cols as u32,
        pos: pos as u32,
    };
    let buffers = [x.binding(), table.binding(), y.binding()];
    gpu.run(
        KERNEL,
        &buffers,
        &params,
        fold(pairs.div_ceil(256)),
        work(&[x.len(), 4]),
    );
    y
}
