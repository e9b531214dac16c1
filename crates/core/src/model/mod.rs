//! The model, written once for every backend: CLIP sees, merging condenses, the projector translates,
//! LLaMA speaks.

pub mod clip;
pub mod llama;
pub mod merge;
pub mod projector;
mod weights;

pub use weights::{Wanted, Weights, check_shape};
