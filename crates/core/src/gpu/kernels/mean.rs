//! Means of runs of rows.

use bytemuck::{Pod, Zeroable};

use super::{Kernel, fold, work};
use crate::gpu::{Gpu, Tensor};

pub(super) const KERNEL: Kernel = Kernel::new("mean", include_str!("mean.wgsl"), 1, 1);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Params {
    count: u32,
    cols: u32,
    run: u32,
}

impl Gpu {
    /// See [`crate::backend::Backend::mean`].
    pub(in crate::gpu) fn mean_of_runs(&self, x: &Tensor, run: usize) -> Tensor {
        assert!(
            run > 0 && x.rows.is_multiple_of(run),
            "mean of {:?} in runs of {run}",
            x.shape()
        );
        let y = self.alloc(x.rows / run, x.cols);
        let params = Params {
            count: y.len() as u32,
            cols: x.cols as u32,
            run: run as u32,
        };
        self.run(
            KERNEL,
            &[x.binding(), y.binding()],
            &params,
            fold(y.len().div_ceil(256)),
            work(&[x.len()]),
        );
        y
    }
}
