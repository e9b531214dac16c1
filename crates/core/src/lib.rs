//! Chat-UniVi (arXiv 2311.08046): ask questions about images and videos, on WebGPU or the CPU,
//! natively and in the browser.
//!
//! ```
//! # let model = "../../models/univi-nano";
//! # let image = "../../www/public/samples/penguin-cookie.png";
//! use univi::{Device, GenerateOptions, LoadOptions, Model, Part, SessionOptions};
//!
//! # pollster::block_on(async {
//! let device = Device::Auto.open().await?;
//! let model = Model::open(&device, model, &LoadOptions::default()).await?;
//! let mut session = model.session(SessionOptions::default());
//! let question = [Part::image_file(image)?, "Can you see a penguin?".into()];
//! let mut answer = session.ask(question, &GenerateOptions::greedy()).await?;
//! let mut text = String::new();
//! while let Some(next) = answer.next().await? {
//!     text += &next;
//! }
//! assert_eq!(text, "yes");
//! # Ok::<(), univi::Error>(())
//! # }).unwrap();
//! ```
//!
//! Longer answers, sampling, stop texts and JSON schemas are [`GenerateOptions`], the system text
//! and the template [`SessionOptions`], the context and how keys and values are stored
//! [`LoadOptions`], the tokens of a picture [`VisualOptions`].
//!
//! [`Model`] and [`Session`] hide which backend computes. Nothing of a model is `Send`: it stays on
//! the thread of its [`Device`]. All errors are [`Error`] with a stable
//! [`code`](Error::code).
//!
//! Below lies the generic engine, for other backends and for experiments: [`Backend`], the models
//! in [`model`], [`session::EngineSession`]. Types of candle appear in public signatures in
//! [`cpu`] alone, types of wgpu in [`gpu`] alone.

mod api;
pub mod backend;
mod chat_template;
pub mod config;
pub mod constraint;
pub mod cpu;
mod engine_session;
mod error;
pub mod frames;
mod generation;
pub mod gguf;
pub mod gpu;
pub mod image;
pub mod loader;
mod logprobs;
pub mod manifest;
pub mod model;
pub mod prompt;
mod run_ahead;
pub mod sampler;
pub mod session;
pub mod signature;
mod simd;
pub mod stop_buffer;
pub mod tokenizer;
pub mod transfer;

#[cfg(not(target_arch = "wasm32"))]
pub use api::ModelFiles;
pub use api::{
    BackendWork, Device, EncodedFrame, Model, ModelLoader, OpenDevice, Part, Question, Session,
    StoredTokenMap, StreamedAnswer, TokenMap, VisionEncoder, Visual, VisualOptions,
};
pub use backend::{Backend, KvType, Load};
pub use cpu::Cpu;
pub use error::{Error, Result};
pub use gpu::Gpu;
pub use image::Rgb8;
pub use loader::LoadOptions;
pub use model::{
    VisualKind,
    merge::{MergeStage, VideoEvent},
};
pub use sampler::Sampling;
pub use session::{Answer, ContextUsage, Finish, GenerateOptions, Overflow, SessionOptions, Usage};

/// Compiles what the crate's page on crates.io shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
