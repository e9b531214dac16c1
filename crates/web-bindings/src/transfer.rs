//! The transfer of a file over HTTP: JavaScript fetches, [`univi::transfer`] decides.

use univi::transfer::{ResponseAction, ResponseHead, Transfer as CoreTransfer};
use wasm_bindgen::prelude::*;

use crate::object::{object, thrown};

#[wasm_bindgen]
extern "C" {
    /// The head of an answer.
    #[wasm_bindgen(
        typescript_type = "{ status: number; contentType: string | undefined; contentLength: number | undefined; mayBePacked: boolean; contentRange: string | undefined; validator: string | undefined; retryAfterMs: number | undefined }"
    )]
    pub type AnswerHead;

    #[wasm_bindgen(method, getter)]
    fn status(this: &AnswerHead) -> u16;
    #[wasm_bindgen(method, getter, js_name = contentType)]
    fn content_type(this: &AnswerHead) -> Option<String>;
    #[wasm_bindgen(method, getter, js_name = contentLength)]
    fn content_length(this: &AnswerHead) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = mayBePacked)]
    fn may_be_packed(this: &AnswerHead) -> bool;
    #[wasm_bindgen(method, getter, js_name = contentRange)]
    fn content_range(this: &AnswerHead) -> Option<String>;
    #[wasm_bindgen(method, getter)]
    fn validator(this: &AnswerHead) -> Option<String>;
    #[wasm_bindgen(method, getter, js_name = retryAfterMs)]
    fn retry_after_ms(this: &AnswerHead) -> Option<f64>;
}

/// A file on its way: what to ask for, and what to make of the answer.
#[wasm_bindgen]
pub struct Transfer(CoreTransfer);

#[wasm_bindgen]
impl Transfer {
    /// The transfer of a file of which `kept` bytes are there from earlier, of the version
    /// `validator`; where it is `pinned`, a hash guards it.
    #[wasm_bindgen(constructor)]
    pub fn new(
        name: String,
        bytes: Option<f64>,
        kept: f64,
        validator: Option<String>,
        pinned: bool,
        seed: f64,
    ) -> Transfer {
        let bytes = bytes.map(|bytes| bytes as u64);
        let seed = seed.to_bits();
        let transfer = CoreTransfer::new(name, bytes, kept as u64, validator, seed);
        Transfer(transfer.pinned(pinned))
    }

    /// The transfer of the bytes from `start` to before `end` of a file that has `file_bytes`,
    /// where that is known.
    #[wasm_bindgen(js_name = ofRange)]
    pub fn of_range(
        name: String,
        start: f64,
        end: f64,
        file_bytes: Option<f64>,
        seed: f64,
    ) -> Transfer {
        let range = start as u64..end as u64;
        let file_bytes = file_bytes.map(|bytes| bytes as u64);
        Transfer(CoreTransfer::of_range(
            name,
            range,
            file_bytes,
            seed.to_bits(),
        ))
    }

    /// The first byte to ask for.
    #[wasm_bindgen(getter)]
    pub fn from(&self) -> f64 {
        self.0.request().from as f64
    }

    /// The last byte to ask for, where a range is wanted.
    #[wasm_bindgen(getter)]
    pub fn to(&self) -> Option<f64> {
        self.0.request().to.map(|to| to as f64)
    }

    /// The header `If-Range` of the next request.
    #[wasm_bindgen(getter, js_name = ifRange)]
    pub fn if_range(&self) -> Option<String> {
        self.0.request().if_range
    }

    /// The version that the bytes belong to.
    #[wasm_bindgen(getter)]
    pub fn validator(&self) -> Option<String> {
        self.0.validator().map(str::to_string)
    }

    /// What to do with an answer; `bytes` of its body to skip, or `ms` to wait.
    ///
    /// # Errors
    /// `io`, `bad-file`.
    #[wasm_bindgen(
        unchecked_return_type = "{ kind: \"continues\" | \"restart\" | \"complete\" } | { kind: \"skip\"; bytes: number } | { kind: \"pause\"; ms: number }"
    )]
    pub fn answered(&mut self, head: &AnswerHead) -> Result<JsValue, JsValue> {
        let head = ResponseHead {
            status: head.status(),
            content_type: head.content_type(),
            content_length: head.content_length().map(|bytes| bytes as u64),
            may_be_packed: head.may_be_packed(),
            content_range: head.content_range(),
            validator: head.validator(),
            retry_after_ms: head.retry_after_ms().map(|ms| ms as u32),
        };
        Ok(match self.0.on_response(&head).map_err(thrown)? {
            ResponseAction::Continues => object([("kind", "continues".into())]),
            ResponseAction::Restart => object([("kind", "restart".into())]),
            ResponseAction::Complete => object([("kind", "complete".into())]),
            ResponseAction::Skip(bytes) => {
                object([("kind", "skip".into()), ("bytes", (bytes as f64).into())])
            }
            ResponseAction::Pause(ms) => object([("kind", "pause".into()), ("ms", ms.into())]),
        })
    }

    /// Counts bytes that were of use.
    ///
    /// # Errors
    /// `bad-file` for more than the file has.
    pub fn received(&mut self, bytes: f64) -> Result<(), JsValue> {
        self.0.received(bytes as u64).map_err(thrown)
    }

    /// That the body ended: the pause before the next request in milliseconds, `undefined` where
    /// the file is whole.
    ///
    /// # Errors
    /// `io`.
    pub fn ended(&mut self) -> Result<Option<u32>, JsValue> {
        self.0.ended().map_err(thrown)
    }

    /// That no answer came: the pause before the next request in milliseconds.
    ///
    /// # Errors
    /// `io`.
    pub fn unanswered(&mut self, why: &str) -> Result<u32, JsValue> {
        self.0.unanswered(why).map_err(thrown)
    }

    /// That an answer's body broke off: the pause before the next request in
    /// milliseconds.
    ///
    /// # Errors
    /// `io`.
    pub fn broke(&mut self, why: &str) -> Result<u32, JsValue> {
        self.0.broke(why, None).map_err(thrown)
    }
}
