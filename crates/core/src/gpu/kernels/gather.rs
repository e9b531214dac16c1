//! Rows by their ids.

use bytemuck::{Pod, Zeroable};

use super::{Kernel, fold, work};
use crate::gpu::{Gpu, Ids, Tensor};

pub(super) const KERNEL: Kernel = Kernel::new("gather", include_str!("gather.wgsl"), 2, 1);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Params {
    count: u32,
    rows: u32,
    cols: u32,
    ids_per_set: u32,
}

impl Gpu {
    /// From each of `sets` equal runs of rows of `x` the rows that its share of `ids` names.
    pub(in crate::gpu) fn gather_in_sets(&self, x: &Tensor, ids: &Ids, sets: usize) -> Tensor {
        let y = self.alloc(ids.len, x.cols);
        let params = Params {
            count: y.len() as u32,
            rows: (x.rows / sets) as u32,
            cols: x.cols as u32,
            ids_per_set: (ids.len / sets) as u32,
        };
        let groups = fold(y.len().div_ceil(256));
        self.run(
            KERNEL,
            &[x.binding(), ids.binding(), y.binding()],
            &params,
            groups,
            work(&[y.len()]),
        );
        y
    }
}
