//! The kernels: each shader beside the Rust that records it.

mod activate;
mod add;
mod append;
mod argmax;
mod attention;
mod cache;
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
mod silu_mul;

use super::{Shader, recorder::PARAMS_BYTES};
use crate::{backend::KvType, gguf::GgmlType};

/// A shader, the entry point that runs, and the storage buffers it is bound to.
///
/// Binding 0 holds the parameters, 1.. the buffers that are read, then those that are written.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// Unique; what a profiler shows.
    pub name: &'static str,
    pub source: &'static str,
    pub entry: &'static str,
    pub specialization: Specialization,
    pub reads: usize,
    pub writes: usize,
}

/// What a kernel works on besides plain tensors: the WGSL that stands before its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Specialization {
    Nothing,
    /// Weights of this type, whose `block32` it calls; they are binding 1.
    Weights(GgmlType),
    /// A KV cache of this type: buffers of `Stored`.
    Cache(KvType),
}

/// A kernel, and what it works on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PipelineKey {
    name: &'static str,
    specialization: Specialization,
}

impl Kernel {
    /// A kernel of one entry point, `main`.
    const fn new(name: &'static str, source: &'static str, reads: usize, writes: usize) -> Kernel {
        Kernel {
            name,
            source,
            entry: "main",
            specialization: Specialization::Nothing,
            reads,
            writes,
        }
    }

    /// What tells its pipeline from others.
    pub fn key(&self) -> PipelineKey {
        PipelineKey {
            name: self.name,
            specialization: self.specialization,
        }
    }

    /// What its pipeline is made of.
    pub fn shader(&self) -> Shader {
        let source = match self.specialization {
            Specialization::Nothing => self.source.to_owned(),
            Specialization::Weights(ty) => {
                [quant::WEIGHTS, quant::source(ty), self.source].concat()
            }
            Specialization::Cache(ty) => [cache::source(ty), self.source].concat(),
        };
        Shader {
            source,
            entry: self.entry,
            reads: self.reads,
            writes: self.writes,
            params_bytes: PARAMS_BYTES,
        }
    }

    /// This kernel over weights of type `ty`.
    const fn over(mut self, ty: GgmlType) -> Kernel {
        self.specialization = Specialization::Weights(ty);
        self
    }

    /// This kernel over a KV cache of type `ty`.
    const fn over_cache(mut self, ty: KvType) -> Kernel {
        self.specialization = Specialization::Cache(ty);
        self
    }
}

/// Every kernel that works on neither stored weights nor a cache; attention without a cache reads
/// tensors as if they were one of f32.
pub(super) const PLAIN: [Kernel; 20] = [
    activate::QUICK_GELU,
    activate::GELU,
    add::KERNEL,
    argmax::KERNEL,
    attention::FULL.over_cache(KvType::F32),
    attention::JOIN,
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
    rope::KERNEL,
    silu_mul::KERNEL,
];

/// Every kernel that reads weights of type `ty`.
pub(super) fn over(ty: GgmlType) -> [Kernel; 3] {
    [
        embed::KERNEL.over(ty),
        matmul::VECTOR.over(ty),
        matmul::TILE.over(ty),
    ]
}

/// Every kernel that works on a cache of type `ty`.
pub(super) fn over_cache(ty: KvType) -> [Kernel; 3] {
    [
        append::KERNEL.over_cache(ty),
        attention::FULL.over_cache(ty),
        attention::SPLIT.over_cache(ty),
    ]
}

/// `count` workgroups along x, folded into rows of 32,768, since a dispatch takes at most 65,535
/// per dimension. Kernels count them as `x + (y << 15)` and skip what is beyond their last.
fn fold(count: usize) -> [u32; 3] {
    const ROW: usize = 1 << 15;
    if count <= ROW {
        [count as u32, 1, 1]
    } else {
        [ROW as u32, count.div_ceil(ROW) as u32, 1]
    }
}

/// The floating-point operations of a dispatch, by the factors of their number: a product that does
/// not fit the 32-bit `usize` of WebAssembly.
fn work(factors: &[usize]) -> u64 {
    factors.iter().map(|&factor| factor as u64).product()
}
