//! The wasm-bindgen surface of univi.

use wasm_bindgen::prelude::*;

/// The version of the crates, as in `Cargo.toml`.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// The name of the GPU that WebGPU offers -> an empty string where the browser keeps it to itself.
///
/// # Errors
/// A sentence, where there is no adapter.
#[wasm_bindgen(js_name = adapterName)]
pub async fn adapter_name() -> Result<String, JsError> {
    let instance = wgpu::Instance::default();
    let adapter = instance
        .request_adapter(&wgpu::RequestAdapterOptions::default())
        .await?;
    Ok(adapter.get_info().name)
}
