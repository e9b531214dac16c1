//! LayerNorm.

use bytemuck::{Pod, Zeroable};

use super::{Kernel, fold, work};
use crate::gpu::{Gpu, Tensor};

pub(super) const KERNEL: Kernel = Kernel::new("layer_norm", include_str!("layer_norm.wgsl"), 3, 1);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Params {
    rows: u32,
    cols: u32,
    eps: f32,
}

impl Gpu {
    /// See [`crate::backend::Backend::layer_norm`].
    pub(in crate::gpu) fn layer_normed(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        eps: f32,
    ) -> Tensor {
        assert_eq!(weight.shape(), [1, x.cols]);
        assert_eq!(bias.shape(), [1, x.cols]);
        let y = self.alloc(x.rows, x.cols);
        let params = Params {
            rows: x.rows as u32,
            cols: x.cols as u32,
            eps,
        };
        let buffers = [x.binding(), weight.binding(), bias.binding(), y.binding()];
        self.run(KERNEL, &buffers, &params, fold(x.rows), work(&[x.len(), 8]));
        y
    }
}
