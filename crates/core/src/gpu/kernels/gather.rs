//! Rows by their ids.

use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    tensor::{Ids, Tensor},
};

pub(super) const KERNEL: Kernel =
    Kernel::new::<Params>("gather", include_str!("gather.wgsl"), 2, 1);

params! {
    struct Params {
        count: u32,
        rows: u32,
        cols: u32,
        ids_per_set: u32,
    }
}

/// From each of `sets` equal runs of rows of `x` the rows that its share of `ids` names.
pub fn gather(gpu: &Gpu, x: &Tensor, ids: &Ids, sets: usize) -> Tensor {
    let y = gpu.alloc(ids.len, x.cols);
    let params = Params {
        count: y.len() as u32,
        rows: (x.rows / sets) as u32,
        cols: x.cols as u32,
        ids_per_set: (ids.len / sets) as u32,
    };
    let groups = fold(y.len().div_ceil(256));
    gpu.run(
        KERNEL,
        &[x.binding(), ids.binding(), y.binding()],
        &params,
        groups,
        work(&[y.len()]),
    );
    y
}
