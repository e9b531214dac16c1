//! RMSNorm.

use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    tensor::Tensor,
};

pub(super) const KERNEL: Kernel =
    Kernel::new::<Params>("rms_norm", include_str!("rms_norm.wgsl"), 2, 1);

params! {
    struct Params {
        rows: u32,
        cols: u32,
        eps: f32,
    }
}

/// See [`crate::backend::Backend::rms_norm`].
pub fn rms_norm(gpu: &Gpu, x: &Tensor, weight: &Tensor, eps: f32) -> Tensor {
    assert_eq!(weight.shape(), [1, x.cols]);
    let y = gpu.alloc(x.rows, x.cols);
    let params = Params {
        rows: x.rows as u32,
        cols: x.cols as u32,
        eps,
    };
    gpu.run(
        KERNEL,
        &[x.binding(), weight.binding(), y.binding()],
        &params,
        fold(x.rows),
        work(&[x.len(), 4]),
    );
    y
}
