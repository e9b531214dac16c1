//! RMSNorm.

use bytemuck::{Pod, Zeroable};

use super::{Kernel, fold, work};
use crate::gpu::{Gpu, Tensor};

pub(super) const KERNEL: Kernel = Kernel::new("rms_norm", include_str!("rms_norm.wgsl"), 2, 1);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Params {
    rows: u32,
    cols: u32,
    eps: f32,
}

impl Gpu {
    /// See [`crate::backend::Backend::rms_norm`].
    pub(in crate::gpu) fn rms_normed(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Tensor {
        assert_eq!(weight.shape(), [1, x.cols]);
        let y = self.alloc(x.rows, x.cols);
        let params = Params {
            rows: x.rows as u32,
            cols: x.cols as u32,
            eps,
        };
        self.run(
            KERNEL,
            &[x.binding(), weight.binding(), y.binding()],
            &params,
            fold(x.rows),
            work(&[x.len(), 4]),
        );
        y
    }
}
