//! JavaScript that is called while something goes on.

use js_sys::{Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// Passes a piece of text to JavaScript, with the log-probabilities of its tokens; returns whether
/// to go on.
pub async fn goes_on(
    on_piece: &Function,
    piece: &str,
    logprobs: &JsValue,
) -> Result<bool, JsValue> {
    let said = on_piece.call2(&JsValue::UNDEFINED, &piece.into(), logprobs)?;
    Ok(JsFuture::from(Promise::resolve(&said)).await?.is_truthy())
}
