//! Pointwise functions.

use crate::{
    backend::Activation,
    gpu::{
        device::Gpu,
        kernel::{Kernel, fold, params, work},
        tensor::Tensor,
    },
};

const SOURCE: &str = include_str!("activate.wgsl");
pub(super) const QUICK_GELU: Kernel = Kernel {
    entry: "quick_gelu",
    ..Kernel::new::<Params>("quick_gelu", SOURCE, 1, 1)
};
pub(super) const GELU: Kernel = Kernel {
    entry: "gelu",
    ..Kernel::new::<Params>("gelu", SOURCE, 1, 1)
};

params! {
    struct Params {
        count: u32,
    }
}

/// See [`crate::backend::Backend::activate`].
pub fn activate(gpu: &Gpu, x: &Tensor, f: Activation) -> Tensor {
    let kernel = match f {
        Activation::QuickGelu => QUICK_GELU,
        Activation::Gelu => GELU,
    };
    let y = gpu.alloc(x.rows, x.cols);
    let params = Params {
        count: x.len() as u32,
    };
    gpu.run(
        kernel,
        &[x.binding(), y.binding()],
        &params,
        fold(x.len().div_ceil(256)),
        work(&[x.len(), 8]),
    );
    y
}
