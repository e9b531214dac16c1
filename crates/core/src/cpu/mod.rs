//! [`Backend`](crate::Backend) on candle: the executable specification of what the GPU computes,
//! the fallback where there is none, and what the trainer's fused operations and their derivatives
//! are compared with.
//!
//! Every operation on floats is composed of candle's differentiable operations, except that a KV
//! cache keeps gradients only for what was appended at position 0 last: a trainer runs each
//! sequence in one piece. What nothing differentiates takes the shorter way of `fused`,
//! `attention`, `row_products` and `panel_products`, which tests hold to the compositions.
//!
//! Types of candle appear in public signatures here and in no other module: a tensor of [`Cpu`] is
//! a [`candle_core::Tensor`].

mod attention;
mod backend;
mod ceilings;
mod dpc_knn;
mod fused;
mod kv_cache;
mod matrix;
mod panel_products;
mod row_products;
#[cfg(test)]
mod tests;
mod threads;
mod tile;
mod values;

pub use backend::{Cpu, MEMBERS_EPS};
pub use kv_cache::KvCache;
pub use matrix::{Matrix, Stored};
