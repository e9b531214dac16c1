//! A loaded model.

use std::rc::Rc;

use crate::{Cpu, Gpu, Result, model::ChatUniVi, prompt::Template, tokenizer::Tokenizer};

use super::{
    VisionEncoder, VisualOptions,
    device::{OnBackend, OpenDevice, dispatch},
};

/// A model on a device. Clones share it. Not `Send`: it stays on the thread of its device.
#[derive(Clone)]
pub struct Model {
    pub(super) device: OpenDevice,
    pub(super) engine: OnBackend<Rc<ChatUniVi<Cpu>>, Rc<ChatUniVi<Gpu>>>,
}

impl Model {
    /// Returns the encoder of images and videos.
    ///
    /// # Errors
    /// `BadRequest` where the model has none; as
    /// [`MergeConfig::with_tokens`](crate::config::MergeConfig::with_tokens).
    pub fn vision(&self, options: &VisualOptions) -> Result<VisionEncoder> {
        Ok(VisionEncoder::new(
            dispatch!(map &self.engine, model => model.vision()?.merging_to(options.tokens, options.merge)?),
        ))
    }

    /// Returns whether the model takes images and videos.
    pub fn has_vision(&self) -> bool {
        dispatch!(&self.engine, model => model.has_vision())
    }

    /// Returns the most tokens that a conversation may have.
    pub fn context(&self) -> usize {
        dispatch!(&self.engine, model => model.llama().context())
    }

    /// Returns how conversations are written down, unless a session says otherwise.
    pub fn template(&self) -> &Template {
        dispatch!(&self.engine, model => model.template())
    }

    /// Returns whether the model was trained with marks around visuals.
    pub fn wraps_visuals(&self) -> bool {
        dispatch!(&self.engine, model => model.wraps_visuals())
    }

    /// Returns the vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        dispatch!(&self.engine, model => model.tokenizer())
    }

    /// Returns the bytes that the KV cache takes for a token.
    pub fn kv_bytes_per_token(&self) -> u64 {
        dispatch!(&self.engine, model => model.llama().kv_bytes_per_token())
    }

    /// Returns the device that the model is on.
    pub fn device(&self) -> &OpenDevice {
        &self.device
    }
}
