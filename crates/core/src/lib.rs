//! Chat-UniVi (arXiv 2311.08046): ask questions about images and videos, on WebGPU or the CPU,
//! natively and in the browser.

mod error;
pub mod gguf;

pub use error::{Error, Result};
