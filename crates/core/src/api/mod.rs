//! The public interface: types that hide which backend computes.
//!
//! ```text
//! Device ──open──▶ OpenDevice ──▶ Model ──▶ Session ──ask──▶ StreamedAnswer
//!                                   └────▶ VisionEncoder ──▶ Visual ──▶ TokenMap
//! ```

pub(crate) mod device;
mod loader;
mod model;
#[cfg(not(target_arch = "wasm32"))]
mod open;
mod question;
mod session;
mod visual;

pub use device::{BackendWork, Device, OpenDevice};
pub use loader::ModelLoader;
pub use model::Model;
#[cfg(not(target_arch = "wasm32"))]
pub use open::ModelFiles;
pub use question::{Part, Question};
pub use session::{Session, StreamedAnswer};
pub use visual::{EncodedFrame, StoredTokenMap, TokenMap, VisionEncoder, Visual, VisualOptions};
