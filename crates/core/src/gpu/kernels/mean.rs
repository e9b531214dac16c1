//! Means of runs of rows.

use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    tensor::Tensor,
};

pub(super) const KERNEL: Kernel = Kernel::new::<Params>("mean", include_str!("mean.wgsl"), 1, 1);

params! {
    struct Params {
        count: u32,
        cols: u32,
        run: u32,
    }
}

/// See [`crate::backend::Backend::mean`].
pub fn mean(gpu: &Gpu, x: &Tensor, run: usize) -> Tensor {
    assert!(
        run > 0 && x.rows.is_multiple_of(run),
        "mean of {:?} in runs of {run}",
        x.shape()
    );
    let y = gpu.alloc(x.rows / run, x.cols);
    let params = Params {
        count: y.len() as u32,
        cols: x.cols as u32,
        run: run as u32,
    };
    gpu.run(
        KERNEL,
        &[x.binding(), y.binding()],
        &params,
        fold(y.len().div_ceil(256)),
        work(&[x.len()]),
    );
    y
}
