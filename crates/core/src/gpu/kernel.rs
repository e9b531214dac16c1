//! What a kernel is: its WGSL, and what it is bound to.

use bytemuck::Pod;

use super::kernels::{cache, quant};
use crate::{backend::KvType, gguf::GgmlType};

/// Bytes of parameters that one dispatch may have: those of every kernel fit.
pub(super) const PARAMS_BYTES: u64 = 64;

/// What a pipeline is made of. Binding 0 is a uniform buffer with a dynamic offset, the others are
/// storage buffers.
#[derive(Debug, Clone, PartialEq)]
pub struct Shader {
    /// The kernel, and what it works on: `matvec/q4_0`.
    pub name: String,
    /// WGSL.
    pub source: String,
    /// The entry point.
    pub entry: &'static str,
    /// Storage buffers that are read only: bindings 1 and up.
    pub reads: usize,
    /// Storage buffers that are written, behind them.
    pub writes: usize,
    /// The size of binding 0.
    pub params_bytes: u64,
    /// The constants of the pipeline.
    pub constants: Vec<(&'static str, f64)>,
}

/// What a shader leaves to the device: its constants, of which there is one shader for all values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Constants {
    /// Whether `unpack2x16float` is exact.
    pub halves_are_exact: bool,
    /// Threads along a side of a tile of `matmul` and `attention`: 16, or 8 where reads count more
    /// than registers.
    pub tile_side: u32,
    /// Threads of a workgroup of `matvec`: 64 that share rows of weights, or 16 that share none.
    pub row_threads: u32,
    /// Whether products norm their rows themselves: a dispatch less, for arithmetic that each of
    /// their workgroups repeats.
    pub products_norm: bool,
}

impl Constants {
    /// What hardware gets.
    pub const HARDWARE: Constants = Constants {
        halves_are_exact: true,
        tile_side: 16,
        row_threads: 64,
        products_norm: true,
    };
    /// What a software adapter gets.
    pub const SOFTWARE: Constants = Constants {
        tile_side: 8,
        row_threads: 16,
        products_norm: false,
        ..Constants::HARDWARE
    };
}

/// A constant that a kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Constant {
    HalvesAreExact,
    TileSide,
    RowThreads,
    ProductsNorm,
}

impl Constant {
    /// Its name in WGSL, and its value.
    fn of(self, constants: Constants) -> (&'static str, f64) {
        match self {
            Constant::HalvesAreExact => ("HALVES_ARE_EXACT", f64::from(constants.halves_are_exact)),
            Constant::TileSide => ("SIDE", f64::from(constants.tile_side)),
            Constant::RowThreads => ("THREADS", f64::from(constants.row_threads)),
            Constant::ProductsNorm => ("NORMS", f64::from(constants.products_norm)),
        }
    }
}

/// The parameters of a kernel: the struct `Params` of its WGSL. Defined by [`params!`].
pub(super) trait KernelParams: Pod {
    /// Its fields, to be compared with the WGSL.
    #[cfg(test)]
    const FIELDS: &'static [Field];
}

/// A field of a kernel's parameters.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub name: &'static str,
    pub ty: &'static str,
    pub offset: usize,
}

/// Defines a struct of parameters, of `u32` and `f32`.
macro_rules! params {
    ($(#[$attribute:meta])* struct $name:ident { $($field:ident: $ty:ident,)+ }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        struct $name {
            $($field: $ty,)+
        }

        impl $crate::gpu::kernel::KernelParams for $name {
            #[cfg(test)]
            const FIELDS: &'static [$crate::gpu::kernel::Field] = &[$(
                $crate::gpu::kernel::Field {
                    name: stringify!($field),
                    ty: stringify!($ty),
                    offset: std::mem::offset_of!($name, $field),
                },
            )+];
        }
    };
}
pub(super) use params;

/// A shader, the entry point that runs, and the storage buffers it is bound to.
///
/// Binding 0 holds the parameters, 1.. the buffers that are read, then those that are written.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// Unique; what a profiler shows.
    pub name: &'static str,
    pub source: &'static str,
    /// WGSL that other kernels call too, which stands before `source`.
    pub library: &'static [&'static str],
    pub entry: &'static str,
    /// Its constants, besides those of what it works on.
    pub constants: &'static [Constant],
    /// Constants that tell it from other kernels of the same source.
    pub variant: &'static [(&'static str, f64)],
    pub specialization: Specialization,
    pub reads: usize,
    pub writes: usize,
    #[cfg(test)]
    pub params: &'static [Field],
}

/// What a kernel works on besides plain tensors: the WGSL that stands before its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Specialization {
    Nothing,
    /// Weights of this type, whose `head` and `quants` it calls; they are binding 1.
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
    /// A kernel of one entry point, `main`, whose parameters are a `P`.
    pub const fn new<P: KernelParams>(
        name: &'static str,
        source: &'static str,
        reads: usize,
        writes: usize,
    ) -> Kernel {
        Kernel {
            name,
            source,
            library: &[],
            entry: "main",
            constants: &[],
            variant: &[],
            specialization: Specialization::Nothing,
            reads,
            writes,
            #[cfg(test)]
            params: P::FIELDS,
        }
    }

    /// This kernel with WGSL that others call too.
    pub const fn with(mut self, library: &'static [&'static str]) -> Kernel {
        self.library = library;
        self
    }

    /// This kernel, which has constants.
    pub const fn constants(mut self, constants: &'static [Constant]) -> Kernel {
        self.constants = constants;
        self
    }

    /// A kernel of the same source by another name: the constants that are given are true.
    pub const fn variant(
        mut self,
        name: &'static str,
        variant: &'static [(&'static str, f64)],
    ) -> Kernel {
        self.name = name;
        self.variant = variant;
        self
    }

    /// What tells its pipeline from others.
    pub fn key(&self) -> PipelineKey {
        PipelineKey {
            name: self.name,
            specialization: self.specialization,
        }
    }

    /// What its pipeline is made of on a device of these constants.
    pub fn shader(&self, constants: Constants) -> Shader {
        let of_weights: &[Constant] = match self.specialization {
            Specialization::Weights(_) => &[Constant::HalvesAreExact],
            Specialization::Nothing | Specialization::Cache(_) => &[],
        };
        let before = match self.specialization {
            Specialization::Nothing => String::new(),
            Specialization::Weights(ty) => quant::source(ty).concat(),
            Specialization::Cache(ty) => cache::source(ty).to_owned(),
        };
        let source = before + &self.library.concat() + self.source;
        let name = match self.specialization {
            Specialization::Nothing => self.name.to_owned(),
            Specialization::Weights(ty) => format!("{}/{}", self.name, ty.name().to_lowercase()),
            Specialization::Cache(ty) => format!("{}/{ty:?}", self.name).to_lowercase(),
        };
        Shader {
            name,
            source,
            entry: self.entry,
            reads: self.reads,
            writes: self.writes,
            params_bytes: PARAMS_BYTES,
            constants: (of_weights.iter().chain(self.constants))
                .map(|constant| constant.of(constants))
                .chain(self.variant.iter().copied())
                .collect(),
        }
    }

    /// This kernel over weights of type `ty`.
    pub const fn over(mut self, ty: GgmlType) -> Kernel {
        self.specialization = Specialization::Weights(ty);
        self
    }

    /// This kernel over a KV cache of type `ty`.
    pub const fn over_cache(mut self, ty: KvType) -> Kernel {
        self.specialization = Specialization::Cache(ty);
        self
    }
}

/// `count` workgroups along x, folded into rows of 32,768, since a dispatch takes at most 65,535
/// per dimension. Kernels count them as `x + (y << 15)` and skip what is beyond their last.
pub(super) fn fold(count: usize) -> [u32; 3] {
    const ROW: usize = 1 << 15;
    if count <= ROW {
        [count as u32, 1, 1]
    } else {
        [ROW as u32, count.div_ceil(ROW) as u32, 1]
    }
}

/// The floating-point operations of a dispatch, by the factors of their number: a product that does
/// not fit the 32-bit `usize` of WebAssembly.
pub(super) fn work(factors: &[usize]) -> u64 {
    factors.iter().map(|&factor| factor as u64).product()
}
