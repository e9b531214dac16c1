//! Chat-UniVi (arXiv 2311.08046): ask questions about images and videos, on WebGPU or the CPU,
//! natively and in the browser.

mod api;
pub mod backend;
pub mod config;
pub mod constraint;
pub mod cpu;
mod engine_session;
mod error;
pub mod frames;
pub mod gguf;
pub mod gpu;
pub mod image;
pub mod loader;
pub mod manifest;
pub mod model;
pub mod prompt;
pub mod sampler;
pub mod session;
pub mod tokenizer;
pub mod transfer;

#[cfg(not(target_arch = "wasm32"))]
pub use api::ModelFiles;
pub use api::{
    BackendWork, Device, EncodedFrame, Model, ModelLoader, OpenDevice, Part, Question, Session,
    StreamedAnswer, TokenMap, VisionEncoder, Visual, VisualOptions,
};
pub use backend::Backend;
pub use cpu::Cpu;
pub use error::{Error, Result};
pub use gpu::Gpu;
