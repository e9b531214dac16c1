//! The gate of SwiGLU.

use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    tensor::Tensor,
};

pub(super) const KERNEL: Kernel =
    Kernel::new::<Params>("silu_mul", include_str!("silu_mul.wgsl"), 2, 1);

params! {
    struct Params {
        count: u32,
    }
}

/// See [`crate::backend::Backend::silu_mul`].
pub fn silu_mul(gpu: &Gpu, gate: &Tensor, up: &Tensor) -> Tensor {
    assert_eq!(gate.shape(), up.shape());
    let y = gpu.alloc(gate.rows, gate.cols);
    let params = Params {
        count: y.len() as u32,
    };
    let groups = fold(y.len().div_ceil(256));
    gpu.run(
        KERNEL,
        &[gate.binding(), up.binding(), y.binding()],
        &params,
        groups,
        work(&[y.len(), 8]),
    );
    y
}
