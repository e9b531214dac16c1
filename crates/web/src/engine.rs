//! A loaded model.

use univi::{Model, VisionEncoder, VisualOptions};
use univi_web_bindings::{object, whole};
use wasm_bindgen::prelude::*;

/// A model that can be asked.
#[wasm_bindgen]
pub struct Engine {
    name: String,
    pub(crate) model: Model,
}

impl Engine {
    /// A model that is called `name`.
    pub fn new(name: String, model: Model) -> Engine {
        Engine { name, model }
    }

    /// Width and height of what the model encodes.
    pub fn image_px(&self) -> univi::Result<usize> {
        Ok(self.encoder(None)?.config().clip.image_px)
    }

    /// The encoder, with a budget of tokens for a picture or an event of a clip.
    pub fn encoder(&self, budget: Option<f64>) -> univi::Result<VisionEncoder> {
        let tokens = whole("visualTokens", budget)?.map(|n| n as usize);
        self.model.vision(&VisualOptions::default().tokens(tokens))
    }
}

#[wasm_bindgen]
impl Engine {
    /// What the model is, as a plain object.
    #[wasm_bindgen(
        unchecked_return_type = "{ name: string; vision: boolean; contextLength: number }"
    )]
    pub fn info(&self) -> JsValue {
        object([
            ("name", (&self.name).into()),
            ("vision", self.model.has_vision().into()),
            ("contextLength", self.model.context().into()),
        ])
    }

    /// Bytes of the GPU's memory that are taken, 0 on the CPU.
    #[wasm_bindgen(getter, js_name = gpuBytes)]
    pub fn gpu_bytes(&self) -> f64 {
        self.model.device().memory_bytes() as f64
    }

    /// Gives the device back at once, rather than when JavaScript collects its garbage.
    pub fn dispose(self) {
        self.model.device().close();
    }
}
