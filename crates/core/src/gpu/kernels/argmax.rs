//! The largest of each row.

use bytemuck::{Pod, Zeroable};

use super::{Kernel, fold, work};
use crate::gpu::{Gpu, Ids, Tensor};

pub(super) const KERNEL: Kernel = Kernel::new("argmax", include_str!("argmax.wgsl"), 1, 1);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Params {
    rows: u32,
    cols: u32,
}

impl Gpu {
    /// See [`crate::backend::Backend::argmax`].
    pub(in crate::gpu) fn argmax(&self, x: &Tensor) -> Ids {
        assert!(x.cols > 0);
        let ids = self.alloc_ids(x.rows);
        let params = Params {
            rows: x.rows as u32,
            cols: x.cols as u32,
        };
        self.run(
            KERNEL,
            &[x.binding(), ids.binding()],
            &params,
            fold(x.rows),
            work(&[x.len()]),
        );
        ids
    }
}
