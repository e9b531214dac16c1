//! Fused operations on the CPU with their derivatives.
//!
//! candle differentiates compositions, each step with a tensor and a pass over memory of its own.
//! Each operation here reads its inputs once, forward and backward.

mod attention;
mod cross_entropy;
mod lanes;
mod matmul;
mod norms;
mod pointwise;
mod rope;
mod storage;

pub use attention::{AttentionPattern, attention};
pub use cross_entropy::cross_entropy;
pub use matmul::matmul;
pub(crate) use matmul::{Strided, product};
pub use norms::{layer_norm, rms_norm};
pub use pointwise::{add_rows, quick_gelu, silu_mul};
pub use rope::rope;
