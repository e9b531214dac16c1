//! The kernels: each shader beside the function that records it, by the operation's own name.

mod activate;
mod add;
mod append;
mod attention;
pub(super) mod cache;
mod ceilings;
mod choose;
mod copy;
mod dpc_knn;
mod embed;
mod gather;
mod layer_norm;
mod matmul;
mod mean;
mod merge;
pub(super) mod quant;
mod rms_norm;
mod rope;
mod rope_append;
mod silu_mul;
#[cfg(test)]
mod tests;
mod tile;

use super::kernel::{Constants, Kernel};
use crate::{backend::KvType, gguf::GgmlType};

pub(super) use self::{
    activate::activate,
    add::add,
    append::append,
    attention::{attention, attention_causal},
    ceilings::exert,
    choose::choose,
    copy::copy,
    dpc_knn::dpc_knn,
    embed::embed,
    gather::gather,
    layer_norm::layer_norm,
    matmul::{add_matmul, matmul, normed_matmul, swiglu},
    mean::mean,
    merge::merge,
    rms_norm::rms_norm,
    rope::rope,
    rope_append::rope_append,
    silu_mul::silu_mul,
};

/// Every kernel that works on neither stored weights nor a cache; attention without a cache reads
/// tensors as if they were one of f32.
pub(super) const PLAIN: [Kernel; 19] = [
    activate::QUICK_GELU,
    activate::GELU,
    add::KERNEL,
    attention::FULL.over_cache(KvType::F32),
    attention::JOIN,
    choose::KERNEL,
    copy::WORDS,
    copy::ROWS,
    dpc_knn::DISTANCE,
    dpc_knn::DENSITY,
    dpc_knn::SEPARATION,
    dpc_knn::RANK,
    dpc_knn::NEAREST,
    gather::KERNEL,
    layer_norm::KERNEL,
    mean::KERNEL,
    merge::KERNEL,
    rms_norm::KERNEL,
    silu_mul::KERNEL,
];

/// Every kernel that reads weights of type `ty`.
pub(super) fn over(ty: GgmlType) -> [Kernel; 6] {
    [
        embed::KERNEL,
        matmul::VECTOR,
        matmul::VECTOR_NORMED,
        matmul::VECTOR_ADDED,
        matmul::VECTOR_GATED,
        matmul::TILE,
    ]
    .map(|kernel| kernel.over(ty))
}

/// Those of [`over`] that a device of these constants will run; where nothing decodes, only that
/// for many rows.
pub(super) fn needed(ty: GgmlType, decodes: bool, constants: Constants) -> Vec<Kernel> {
    let mut kernels = vec![matmul::TILE];
    if decodes {
        kernels.extend([
            embed::KERNEL,
            matmul::VECTOR,
            matmul::VECTOR_ADDED,
            matmul::VECTOR_GATED,
        ]);
        if constants.products_norm {
            kernels.push(matmul::VECTOR_NORMED);
        }
    }
    kernels.into_iter().map(|kernel| kernel.over(ty)).collect()
}

/// Every kernel of a model that works on a cache of type `ty`.
pub(super) fn over_cache(ty: KvType) -> [Kernel; 3] {
    [rope_append::KERNEL, attention::FULL, attention::SPLIT].map(|kernel| kernel.over_cache(ty))
}

/// Those that no model runs, since another one does their work with that of others: operations by
/// themselves, which kernels are compared with.
fn unfused() -> [Kernel; 3] {
    let [f32, q8] = [KvType::F32, KvType::Q8].map(|ty| append::KERNEL.over_cache(ty));
    [rope::KERNEL, f32, q8]
}

/// Those that measure a device, which no model needs.
const CEILINGS: [Kernel; 2] = [ceilings::READ, ceilings::MULTIPLY];

/// Every kernel over everything that it works on.
pub(super) fn all() -> impl Iterator<Item = Kernel> {
    let weights = GgmlType::ALL.into_iter().flat_map(over);
    let caches = [KvType::F32, KvType::Q8].into_iter().flat_map(over_cache);
    PLAIN
        .into_iter()
        .filter(|kernel| kernel.name != "attention") // Among those over caches.
        .chain(weights)
        .chain(caches)
        .chain(unfused())
        .chain(CEILINGS)
}
