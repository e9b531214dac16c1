//! The gate of SwiGLU.

use bytemuck::{Pod, Zeroable};

use super::{Kernel, fold, work};
use crate::gpu::{Gpu, Tensor};

pub(super) const KERNEL: Kernel = Kernel::new("silu_mul", include_str!("silu_mul.wgsl"), 2, 1);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Params {
    count: u32,
}

impl Gpu {
    /// See [`crate::backend::Backend::silu_mul`].
    pub(in crate::gpu) fn silu_mul(&self, gate: &Tensor, up: &Tensor) -> Tensor {
        assert_eq!(gate.shape(), up.shape());
        let y = self.alloc(gate.rows, gate.cols);
        let params = Params {
            count: y.len() as u32,
        };
        let groups = fold(y.len().div_ceil(256));
        self.run(
            KERNEL,
            &[gate.binding(), up.binding(), y.binding()],
            &params,
            groups,
            work(&[y.len(), 8]),
        );
        y
    }
}
