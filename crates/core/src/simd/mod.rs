//! Vectors of sixteen numbers in the instructions of the processor that is there: what reads and
//! multiplies stored weights is written once over [`Simd`].

mod dispatch;
#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
mod portable;
#[cfg(test)]
mod tests;
mod vectors;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use dispatch::{SimdWork, dispatch};
pub(crate) use vectors::{LANES, Simd};
