//! Keys and values on their way into a cache.

use super::cache;
use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    kv_cache::KvCache,
    tensor::Tensor,
};

pub(super) const KERNEL: Kernel =
    Kernel::new::<Params>("append", include_str!("append.wgsl"), 2, 2);

params! {
    struct Params {
        count: u32,
        blocks: u32,
        width4: u32,
        first: u32,
    }
}

/// See [`crate::backend::Backend::append`].
pub fn append(gpu: &Gpu, cache: &KvCache, pos: usize, k: &Tensor, v: &Tensor) {
    assert_eq!((k.cols, v.cols, v.rows), (cache.width, cache.width, k.rows));
    assert!(
        cache.width.is_multiple_of(4) && pos + k.rows <= cache.capacity,
        "{:?} at {pos} of {}",
        k.shape(),
        cache.capacity
    );
    let blocks = cache::blocks(cache.width);
    let count = k.rows * blocks;
    let params = Params {
        count: count as u32,
        blocks: blocks as u32,
        width4: (cache.width / 4) as u32,
        first: (pos * blocks) as u32,
    };
    let [keys, values] = cache.bindings();
    gpu.run(
        KERNEL.over_cache(cache.ty),
        &[k.binding(), v.binding(), keys, values],
        &params,
        fold((2 * count).div_ceil(64)),
        work(&[4, k.len()]),
    );
}
