//! The model, written once for every backend: CLIP sees, merging condenses, the projector
//! translates, LLaMA speaks.

mod chat_univi;
pub mod clip;
pub mod llama;
pub mod merge;
pub mod projector;
mod weights;

pub use weights::{ExpectedTensor, Weights, check_shape};

pub use chat_univi::{
    ChatUniVi, EngineFrame, EngineVisual, Language, MergeRecord, PromptToken, Vision, VisualKind,
    vision_tensors,
};
pub use llama::{CHUNK_ROWS, Llama, tensors as llama_tensors};
pub use merge::{Event, Stage};
