//! The wasm-bindgen surface of univi: what the npm package calls, and no model logic.
//!
//! ```text
//! Transfer -> Loader -> Engine -> Visual, Session -> answers
//! ```
//!
//! What crosses the border are numbers, strings, byte arrays and plain objects. What is thrown is
//! an `Error` with the `code` of [`univi::Error`].

mod callback;
mod encode;
mod engine;
mod load;
mod pipelines;
mod session;
mod visual;

use wasm_bindgen::prelude::*;

pub use univi_web_bindings::Transfer;

/// Prepares the instance.
#[wasm_bindgen(start)]
pub fn start() {
    univi_web_bindings::throw_panics();
}
