//! Pointwise functions.

use bytemuck::{Pod, Zeroable};

use super::{Kernel, fold, work};
use crate::{
    backend::Activation,
    gpu::{Gpu, Tensor},
};

const SOURCE: &str = include_str!("activate.wgsl");
pub(super) const QUICK_GELU: Kernel = Kernel {
    entry: "quick_gelu",
    ..Kernel::new("quick_gelu", SOURCE, 1, 1)
};
pub(super) const GELU: Kernel = Kernel {
    entry: "gelu",
    ..Kernel::new("gelu", SOURCE, 1, 1)
};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Params {
    count: u32,
}

impl Gpu {
    /// See [`crate::backend::Backend::activate`].
    pub(in crate::gpu) fn apply(&self, x: &Tensor, f: Activation) -> Tensor {
        let kernel = match f {
            Activation::QuickGelu => QUICK_GELU,
            Activation::Gelu => GELU,
        };
        let y = self.alloc(x.rows, x.cols);
        let params = Params {
            count: x.len() as u32,
        };
        self.run(
            kernel,
            &[x.binding(), y.binding()],
            &params,
            fold(x.len().div_ceil(256)),
            work(&[x.len(), 8]),
        );
        y
    }
}
