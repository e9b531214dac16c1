//! Attention, over all keys or over a cache.

use bytemuck::Zeroable;

use super::{
    cache::{KEYS_VALUES, blocks},
    tile::PRODUCTS,
};
use crate::{
    backend::{Heads, KV_BLOCK, KvType},
    gpu::{
        device::Gpu,
        kernel::{Constant, Kernel, fold, params, work},
        kv_cache::KvCache,
        memory::Binding,
        tensor::Tensor,
    },
};

pub(super) const FULL: Kernel =
    Kernel::new::<FullParams>("attention", include_str!("attention.wgsl"), 3, 1)
        .with(&[KEYS_VALUES, PRODUCTS])
        .constants(&[Constant::TileSide]);
pub(super) const SPLIT: Kernel = Kernel::new::<SplitParams>(
    "attention_split",
    include_str!("attention_split.wgsl"),
    3,
    1,
)
.with(&[KEYS_VALUES]);
pub(super) const JOIN: Kernel =
    Kernel::new::<JoinParams>("attention_join", include_str!("attention_join.wgsl"), 1, 1);

/// Up to this many rows of q their keys are split among workgroups, else they are walked over in
/// tiles.
const SPLIT_ROWS: usize = 8;
/// Keys of one workgroup of [`SPLIT`].
const SPLIT_KEYS: usize = 64;
/// Rows of q of one workgroup of [`FULL`], and columns of its result.
const FULL_ROWS: u32 = 32;
const FULL_COLS: usize = 128;

params! {
    struct FullParams {
        n: u32,
        keys: u32,
        pos: u32,
        causal: u32,
        heads: u32,
        heads_per_kv: u32,
        dim4: u32,
        kv_stride: u32,
        scale: f32,
    }
}

params! {
    struct SplitParams {
        pos: u32,
        heads: u32,
        heads_per_kv: u32,
        dim4: u32,
        kv_stride: u32,
        splits: u32,
        scale: f32,
    }
}

params! {
    struct JoinParams {
        count: u32,
        dim4: u32,
        splits: u32,
    }
}

/// See [`crate::backend::Backend::attention`].
pub fn attention(
    gpu: &Gpu,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    batch: usize,
) -> Tensor {
    let width = heads.kv_heads * heads.head_dim;
    assert!(
        batch > 0 && q.rows.is_multiple_of(batch),
        "attention over {batch} sets of {:?}",
        q.shape()
    );
    assert_eq!((k.shape(), v.shape()), ([q.rows, width], [q.rows, width]));
    let n = q.rows / batch;
    attention_full(
        gpu,
        KvType::F32,
        q,
        [k.binding(), v.binding()],
        heads,
        batch,
        FullParams {
            n: n as u32,
            keys: n as u32,
            pos: 0,
            causal: 0,
            kv_stride: (width / 4) as u32,
            ..of(heads)
        },
    )
}

/// See [`crate::backend::Backend::attention_causal`].
pub fn attention_causal(
    gpu: &Gpu,
    q: &Tensor,
    cache: &KvCache,
    heads: Heads,
    pos: usize,
) -> Tensor {
    let keys = pos + q.rows;
    assert_eq!(cache.width, heads.kv_heads * heads.head_dim);
    assert!(
        keys <= cache.capacity,
        "{keys} keys in a cache of {}",
        cache.capacity
    );
    let kv = cache.bindings();
    let kv_stride = (blocks(cache.width) * KV_BLOCK / 4) as u32;
    if q.rows > SPLIT_ROWS {
        return attention_full(
            gpu,
            cache.ty,
            q,
            kv,
            heads,
            1,
            FullParams {
                n: q.rows as u32,
                keys: keys as u32,
                pos: pos as u32,
                causal: 1,
                kv_stride,
                ..of(heads)
            },
        );
    }
    check(q, heads);
    let FullParams {
        heads_per_kv,
        dim4,
        scale,
        ..
    } = of(heads);
    let splits = keys.div_ceil(SPLIT_KEYS);
    let parts = gpu.alloc(q.rows * heads.heads * splits, heads.head_dim + 4);
    let params = SplitParams {
        pos: pos as u32,
        heads: heads.heads as u32,
        heads_per_kv,
        dim4,
        kv_stride,
        splits: splits as u32,
        scale,
    };
    let groups = [splits as u32, heads.heads as u32, q.rows as u32];
    let work_split = work(&[4, q.len(), keys]);
    gpu.run(
        SPLIT.over_cache(cache.ty),
        &[q.binding(), kv[0], kv[1], parts.binding()],
        &params,
        groups,
        work_split,
    );
    let y = gpu.alloc(q.rows, q.cols);
    let params = JoinParams {
        count: (y.len() / 4) as u32,
        dim4,
        splits: splits as u32,
    };
    let groups = fold(y.len().div_ceil(4 * 64));
    gpu.run(
        JOIN,
        &[parts.binding(), y.binding()],
        &params,
        groups,
        work(&[parts.len()]),
    );
    y
}

fn attention_full(
    gpu: &Gpu,
    ty: KvType,
    q: &Tensor,
    [k, v]: [Binding; 2],
    heads: Heads,
    batch: usize,
    params: FullParams,
) -> Tensor {
    check(q, heads);
    let y = gpu.alloc(q.rows, q.cols);
    let slices = heads.head_dim.div_ceil(FULL_COLS);
    let groups = [
        params.n.div_ceil(FULL_ROWS),
        (heads.heads * slices) as u32,
        batch as u32,
    ];
    let buffers = [q.binding(), k, v, y.binding()];
    gpu.run(
        FULL.over_cache(ty),
        &buffers,
        &params,
        groups,
        work(&[4, q.len(), params.keys as usize]),
    );
    y
}

/// What the heads alone say.
fn of(heads: Heads) -> FullParams {
    FullParams {
        heads: heads.heads as u32,
        heads_per_kv: (heads.heads / heads.kv_heads) as u32,
        dim4: (heads.head_dim / 4) as u32,
        scale: 1.0 / (heads.head_dim as f32).sqrt(),
        ..FullParams::zeroed()
    }
}

fn check(q: &Tensor, heads: Heads) {
    assert_eq!(q.cols, heads.heads * heads.head_dim);
    assert!(
        heads.heads.is_multiple_of(heads.kv_heads) && heads.head_dim.is_multiple_of(4),
        "{heads:?}"
    );
}
