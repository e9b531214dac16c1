//! A file that is being made, tensor by tensor.

use sha2::{Digest, Sha256};
use univi::{Error, Result};
use univi_convert::{PlannedFile, checkpoint::TensorReader};
use univi_web_bindings::{object, thrown};
use wasm_bindgen::prelude::*;

/// A file that is being made: its head, then tensor after tensor.
///
/// ```text
/// head() or resume(), hash(..)
/// while next_tensor() { push(..), push(..), .., end() }
/// sha256()
/// ```
#[wasm_bindgen]
pub struct Making {
    file: PlannedFile,
    /// The next tensor, or the one under way.
    tensor: usize,
    reader: Option<TensorReader>,
    hash: Sha256,
}

impl Making {
    /// Begins at the first byte of `file`.
    pub fn new(file: PlannedFile) -> Making {
        Making {
            file,
            tensor: 0,
            reader: None,
            hash: Sha256::new(),
        }
    }

    fn push_rows(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let (Some(planned), Some(reader)) = (self.file.tensors.get(self.tensor), &mut self.reader)
        else {
            return Err(no_tensor());
        };
        let mut blocks = Vec::new();
        reader.push(bytes, &mut |rows| {
            let encoded = planned.encode(rows.rows, &rows.bytes)?;
            self.hash.update(&encoded);
            blocks.extend_from_slice(&encoded);
            Ok(())
        })?;
        Ok(blocks)
    }

    fn end_tensor(&mut self) -> Result<Vec<u8>> {
        let (Some(planned), Some(reader)) =
            (self.file.tensors.get(self.tensor), self.reader.take())
        else {
            return Err(no_tensor());
        };
        reader.finish()?;
        let padding = vec![0; planned.padding as usize];
        self.hash.update(&padding);
        self.tensor += 1;
        Ok(padding)
    }
}

#[wasm_bindgen]
impl Making {
    /// The bytes before the first tensor.
    pub fn head(&mut self) -> Vec<u8> {
        self.hash.update(&self.file.head);
        self.file.head.clone()
    }

    /// Goes on behind `bytes` that are there, which have to be given to [`Making::hash`]: the bytes
    /// that need not be fetched, or `undefined` where no tensor ends there.
    pub fn resume(&mut self, bytes: f64) -> Option<f64> {
        let bytes = bytes as u64;
        let before = |file: &PlannedFile| {
            let ends = file.tensors.iter().map(|t| t.offset + t.bytes + t.padding);
            ends.take_while(|&end| end <= bytes).count()
        };
        let done = before(&self.file);
        let end = match done.checked_sub(1) {
            Some(last) => {
                let last = &self.file.tensors[last];
                last.offset + last.bytes + last.padding
            }
            None => self.file.head.len() as u64,
        };
        if end != bytes {
            return None;
        }
        self.tensor = done;
        let spans = self.file.tensors[..done]
            .iter()
            .map(|t| t.tensor.span().len);
        Some(spans.sum::<u64>() as f64)
    }

    /// Hashes bytes that are there.
    pub fn hash(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// Begins the next tensor: the bytes to fetch for it; `undefined` where there is none.
    #[wasm_bindgen(
        js_name = nextTensor,
        unchecked_return_type = "{ place: \"checkpoint\" | \"tower\"; file: string; offset: number; bytes: number } | undefined"
    )]
    pub fn next_tensor(&mut self) -> JsValue {
        let Some(planned) = self.file.tensors.get(self.tensor) else {
            return JsValue::UNDEFINED;
        };
        let reader = self.reader.insert(planned.tensor.reader());
        let span = reader.span();
        let place = match planned.tensor.is_beside {
            true => "tower",
            false => "checkpoint",
        };
        object([
            ("place", place.into()),
            ("file", (&*span.file).into()),
            ("offset", (span.offset as f64).into()),
            ("bytes", (span.len as f64).into()),
        ])
    }

    /// Takes the next bytes of the tensor: the bytes of the file that they complete.
    ///
    /// # Errors
    /// `bad-file` for a damaged checkpoint, or numbers that can't be stored as is asked.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, JsValue> {
        self.push_rows(bytes).map_err(thrown)
    }

    /// Ends the tensor: the bytes of the file behind it.
    ///
    /// # Errors
    /// `bad-file` for a wrong checksum, `io` where bytes are missing.
    pub fn end(&mut self) -> Result<Vec<u8>, JsValue> {
        self.end_tensor().map_err(thrown)
    }

    /// The SHA-256 of all bytes so far, in hexadecimal digits.
    pub fn sha256(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }
}

fn no_tensor() -> Error {
    Error::BadRequest {
        reason: "no tensor is under way".into(),
    }
}
