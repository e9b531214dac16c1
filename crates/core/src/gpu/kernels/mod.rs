//! The kernels: each shader beside the Rust that records it.

mod activate;
mod add;
mod argmax;
mod attention;
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
use crate::gguf::GgmlType;

/// A shader, the entry point that runs, and the storage buffers it is bound to.
///
/// Binding 0 holds the parameters, 1.. the buffers that are read, then those that are written.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// Unique; what a profiler shows.
    pub name: &'static str,
    pub source: &'static str,
    pub entry: &'static str,
    /// The stored type whose `block32` it calls; binding 1 is then the weights.
    pub weights: Option<GgmlType>,
    pub reads: usize,
    pub writes: usize,
}

/// A kernel, and what it reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PipelineKey {
    name: &'static str,
    weights: Option<GgmlType>,
}

impl Kernel {
    /// A kernel of one entry point, `main`.
    const fn new(name: &'static str, source: &'static str, reads: usize, writes: usize) -> Kernel {
        Kernel {
            name,
            source,
            entry: "main",
            weights: None,
            reads,
            writes,
        }
    }

    /// What tells its pipeline from others.
    pub fn key(&self) -> PipelineKey {
        PipelineKey {
            name: self.name,
            weights: self.weights,
        }
    }

    /// What its pipeline is made of.
    pub fn shader(&self) -> Shader {
        let source = match self.weights {
            None => self.source.to_owned(),
            Some(ty) => [quant::WEIGHTS, quant::source(ty), self.source].concat(),
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
        self.weights = Some(ty);
        self
    }
}

/// Every kernel that does not read stored weights.
pub(super) const PLAIN: [Kernel; 21] = [
    activate::QUICK_GELU,
    activate::GELU,
    add::KERNEL,
    argmax::KERNEL,
    attention::FULL,
    attention::SPLIT,
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

/// `count` workgroups along x, folded into rows of 32,768, since a dispatch takes at most 65,535 per
/// dimension. Kernels count them as `x + (y << 15)` and skip what is beyond their last.
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
