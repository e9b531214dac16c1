//! LayerNorm.

use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    tensor::Tensor,
};

pub(super) const KERNEL: Kernel =
    Kernel::new::<Params>("layer_norm", include_str!("layer_norm.wgsl"), 3, 1);

params! {
    struct Params {
        rows: u32,
        cols: u32,
        eps: f32,
    }
}

/// See [`crate::backend::Backend::layer_norm`].
pub fn layer_norm(gpu: &Gpu, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Tensor {
    assert_eq!(weight.shape(), [1, x.cols]);
    assert_eq!(bias.shape(), [1, x.cols]);
    let y = gpu.alloc(x.rows, x.cols);
    let params = Params {
        rows: x.rows as u32,
        cols: x.cols as u32,
        eps,
    };
    let buffers = [x.binding(), weight.binding(), bias.binding(), y.binding()];
    gpu.run(KERNEL, &buffers, &params, fold(x.rows), work(&[x.len(), 8]));
    y
}
