//! The wasm-bindgen surface of univi.
