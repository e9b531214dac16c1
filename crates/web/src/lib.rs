//! The wasm-bindgen surface of univi: what the npm package calls, and no model logic.
//!
//! ```text
//! Transfer -> Loader -> Engine -> Visual, Session -> answers
//! ```
//!
//! What crosses the border are numbers, strings, byte arrays and plain objects. What is thrown is
//! an `Error` with the `code` of [`univi::Error`].

mod engine;
mod load;
mod object;
mod on;
mod pipelines;
mod transfer;
mod visual;

use wasm_bindgen::prelude::*;

/// Makes a panic say on the console what and where it was.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}
