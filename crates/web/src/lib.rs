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
mod object;
mod pipelines;
mod session;
mod transfer;
mod visual;

use wasm_bindgen::prelude::*;

/// Makes a panic leave the module as a JavaScript `Error` that says what and where it was, rather
/// than as a trap that says nothing. Nothing of the instance may be used afterwards.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        let panic = js_sys::Error::new(&info.to_string());
        panic.set_name("Panic");
        wasm_bindgen::throw_val(panic.into())
    }));
}
