//! Which instructions the processor has.

use super::vectors::Simd;

/// Work that is compiled for each set of instructions.
pub(crate) trait SimdWork {
    /// What it results in.
    type Output;

    /// Works. It is inlined, and has to inline all that it calls: what is called is compiled for
    /// any processor.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Does `work` in the best instructions that there are.
#[cfg(target_arch = "x86_64")]
pub(crate) fn dispatch<W: SimdWork>(work: W) -> W::Output {
    use super::x86::{Avx2, Avx512};

    if let Some(simd) = Avx512::try_new() {
        return simd.vectorize(
            #[inline(always)]
            || work.run(simd),
        );
    }
    if let Some(simd) = Avx2::try_new() {
        return simd.vectorize(
            #[inline(always)]
            || work.run(simd),
        );
    }
    work.run(super::portable::Portable)
}

/// Does `work` in the instructions that this module was compiled for.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) fn dispatch<W: SimdWork>(work: W) -> W::Output {
    work.run(super::wasm::Simd128)
}

/// Does `work` in what the compiler makes of loops.
#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "wasm32", target_feature = "simd128")
)))]
pub(crate) fn dispatch<W: SimdWork>(work: W) -> W::Output {
    work.run(super::portable::Portable)
}
