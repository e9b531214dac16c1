//! The model, written once for every backend: CLIP sees, merging condenses, the projector
//! translates, LLaMA speaks.

mod chat_univi;
pub mod clip;
mod engine_visual;
pub mod llama;
pub mod merge;
pub mod projector;
mod vision;
mod weights;

pub use weights::{ExpectedTensor, Weights, check_shape};

pub use chat_univi::{ChatUniVi, Language, PromptToken};
pub use engine_visual::{EngineVisual, MergeRecord, VisualKind};
pub use llama::{CHUNK_ROWS, KvPlace, Llama, tensors as llama_tensors};
pub use vision::{EngineFrame, Vision, vision_tensors};
