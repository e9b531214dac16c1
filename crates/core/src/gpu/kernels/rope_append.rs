//! Queries, keys and values between their product and attention.

use super::{cache, rope::TURNED};
use crate::{
    backend::{CachePlace, Rotation},
    gpu::{
        device::Gpu,
        kernel::{Kernel, fold, params, work},
        kv_cache::KvCache,
        tensor::Tensor,
    },
};

pub(super) const KERNEL: Kernel =
    Kernel::new::<Params>("rope_append", include_str!("rope_append.wgsl"), 2, 3).with(&[TURNED]);

params! {
    struct Params {
        rows: u32,
        q_width4: u32,
        q_blocks: u32,
        kv_width4: u32,
        kv_blocks: u32,
        first: u32,
        head_dim: u32,
        rotary: u32,
        pos: u32,
    }
}

/// Rotates the queries and keys of `qkv`, whose columns stand beside each other, puts keys and
/// values into the cache, and returns the queries.
pub fn rope_append(
    gpu: &Gpu,
    qkv: &Tensor,
    rotation: &Rotation<Tensor>,
    place: &CachePlace<KvCache>,
) -> Tensor {
    let Rotation { table, head_dim } = *rotation;
    let CachePlace { ref cache, pos } = *place;
    let (rows, kv_width) = (qkv.rows, cache.width);
    assert!(qkv.cols > 2 * kv_width, "{:?} without queries", qkv.shape());
    let q_width = qkv.cols - 2 * kv_width;
    assert!(
        head_dim.is_multiple_of(4)
            && q_width.is_multiple_of(head_dim)
            && kv_width.is_multiple_of(head_dim)
            && table.cols.is_multiple_of(2)
            && table.cols <= head_dim
            && pos + rows <= table.rows.min(cache.capacity),
        "{:?} in heads of {head_dim} at {pos} of {} by {:?}",
        qkv.shape(),
        cache.capacity,
        table.shape()
    );
    let q = gpu.alloc(rows, q_width);
    let (q_blocks, kv_blocks) = (cache::blocks(q_width), cache::blocks(kv_width));
    let params = Params {
        rows: rows as u32,
        q_width4: (q_width / 4) as u32,
        q_blocks: q_blocks as u32,
        kv_width4: (kv_width / 4) as u32,
        kv_blocks: kv_blocks as u32,
        first: (pos * kv_blocks) as u32,
        head_dim: head_dim as u32,
        rotary: table.cols as u32,
        pos: pos as u32,
    };
    let [keys, values] = cache.bindings();
    gpu.run(
        KERNEL.over_cache(cache.ty),
        &[qkv.binding(), table.binding(), q.binding(), keys, values],
        &params,
        fold((rows * (q_blocks + 2 * kv_blocks)).div_ceil(64)),
        work(&[4, qkv.len()]),
    );
    q
}
