//! Sums of matrices.

use bytemuck::{Pod, Zeroable};

use super::{Kernel, fold, work};
use crate::gpu::{Gpu, Tensor};

pub(super) const KERNEL: Kernel = Kernel::new("add", include_str!("add.wgsl"), 2, 1);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Params {
    count: u32,
    repeat: u32,
}

impl Gpu {
    /// See [`crate::backend::Backend::add`].
    pub(in crate::gpu) fn add_repeated(&self, x: &Tensor, y: &Tensor) -> Tensor {
        assert!(
            x.cols == y.cols && y.rows > 0 && x.rows.is_multiple_of(y.rows),
            "add {:?} to {:?}",
            y.shape(),
            x.shape()
        );
        let z = self.alloc(x.rows, x.cols);
        let params = Params {
            count: x.len() as u32,
            repeat: y.len() as u32,
        };
        let groups = fold(x.len().div_ceil(256));
        self.run(
            KERNEL,
            &[x.binding(), y.binding(), z.binding()],
            &params,
            groups,
            work(&[x.len()]),
        );
        z
    }
}
