//! The largest of each row.

use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    tensor::{Ids, Tensor},
};

pub(super) const KERNEL: Kernel =
    Kernel::new::<Params>("argmax", include_str!("argmax.wgsl"), 1, 1);

params! {
    struct Params {
        rows: u32,
        cols: u32,
    }
}

/// See [`crate::backend::Backend::argmax`].
pub fn argmax(gpu: &Gpu, x: &Tensor) -> Ids {
    assert!(x.cols > 0);
    let ids = gpu.alloc_ids(x.rows);
    let params = Params {
        rows: x.rows as u32,
        cols: x.cols as u32,
    };
    gpu.run(
        KERNEL,
        &[x.binding(), ids.binding()],
        &params,
        fold(x.rows),
        work(&[x.len()]),
    );
    ids
}
