//! Merged tokens.

use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    tensor::{Ids, Tensor},
};

pub(super) const KERNEL: Kernel = Kernel::new::<Params>("merge", include_str!("merge.wgsl"), 2, 1);

params! {
    struct Params {
        count: u32,
        n: u32,
        cols: u32,
        clusters: u32,
    }
}

/// See [`crate::backend::Backend::merge`].
pub fn merge(gpu: &Gpu, x: &Tensor, groups: &Ids, batch: usize, clusters: usize) -> Tensor {
    assert!(batch > 0 && x.rows.is_multiple_of(batch) && groups.len == x.rows);
    let y = gpu.alloc(batch * clusters, x.cols);
    let params = Params {
        count: y.len() as u32,
        n: (x.rows / batch) as u32,
        cols: x.cols as u32,
        clusters: clusters as u32,
    };
    let buffers = [x.binding(), groups.binding(), y.binding()];
    gpu.run(
        KERNEL,
        &buffers,
        &params,
        fold(y.len().div_ceil(64)),
        work(&[clusters, x.len()]),
    );
    y
}
