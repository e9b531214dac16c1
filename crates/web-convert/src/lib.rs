//! Conversion in a page, as a module of its own: what pages download to answer holds none of it.
//!
//! ```text
//! Planner: ranges of the checkpoint's files -> plan -> Making, one for each file -> its bytes
//! ```
//!
//! What crosses the border are numbers, strings, byte arrays and plain objects. What is thrown is
//! an `Error` with the `code` of [`univi::Error`].

mod making;
mod planner;
mod ranges;

use wasm_bindgen::prelude::*;

pub use making::Making;
pub use planner::Planner;
pub use univi_web_bindings::Transfer;

/// Prepares the instance.
#[wasm_bindgen(start)]
pub fn start() {
    univi_web_bindings::throw_panics();
}
