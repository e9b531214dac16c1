//! JavaScript that is called while something goes on.

use js_sys::{Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// Passes a piece of text to JavaScript; returns whether to go on.
pub async fn goes_on(on_piece: &Function, piece: &str) -> Result<bool, JsValue> {
    let said = on_piece.call1(&JsValue::UNDEFINED, &piece.into())?;
    Ok(JsFuture::from(Promise::resolve(&said)).await?.is_truthy())
}
