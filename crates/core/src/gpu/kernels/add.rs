//! Sums of matrices.

use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    tensor::Tensor,
};

pub(super) const KERNEL: Kernel = Kernel::new::<Params>("add", include_str!("add.wgsl"), 2, 1);

params! {
    struct Params {
        count: u32,
        repeat: u32,
    }
}

/// See [`crate::backend::Backend::add`].
pub fn add(gpu: &Gpu, x: &Tensor, y: &Tensor) -> Tensor {
    assert!(
        x.cols == y.cols && y.rows > 0 && x.rows.is_multiple_of(y.rows),
        "add {:?} to {:?}",
        y.shape(),
        x.shape()
    );
    let z = gpu.alloc(x.rows, x.cols);
    let params = Params {
        count: x.len() as u32,
        repeat: y.len() as u32,
    };
    let groups = fold(x.len().div_ceil(256));
    gpu.run(
        KERNEL,
        &[x.binding(), y.binding(), z.binding()],
        &params,
        groups,
        work(&[x.len()]),
    );
    z
}
