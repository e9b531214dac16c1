//! A loaded model.

use std::{io::Read, rc::Rc};

use crate::{
    Cpu, Error, Gpu, Result,
    loader::{LoadOptions, ModelFile},
    model::ChatUniVi,
    session::SessionOptions,
};

use super::{
    Session, VisionEncoder, VisualOptions,
    device::{OnBackend, OpenDevice, dispatch},
    loader::ModelLoader,
};

/// Bytes that are read at a time: much per call, little in memory.
pub(super) const CHUNK_BYTES: usize = 4 << 20;

/// A model on a device. Clones share it. Not `Send`: it stays on the thread of its device.
#[derive(Clone)]
pub struct Model {
    pub(super) device: OpenDevice,
    pub(super) engine: OnBackend<Rc<ChatUniVi<Cpu>>, Rc<ChatUniVi<Gpu>>>,
}

impl Model {
    /// Loads a model from readers, one for each file, in the order of [`ModelLoader::files`].
    ///
    /// # Errors
    /// `Io` where a reader fails; as [`ModelLoader::push`] and [`ModelLoader::finish`].
    pub async fn from_readers<R: Read>(
        device: &OpenDevice,
        files: impl IntoIterator<Item = (ModelFile, R)>,
        options: &LoadOptions,
    ) -> Result<Model> {
        let (files, readers): (Vec<ModelFile>, Vec<R>) = files.into_iter().unzip();
        let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let mut loader = ModelLoader::new(device, files)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        for (name, mut reader) in names.into_iter().zip(readers) {
            loop {
                let read = reader.read(&mut chunk).map_err(|error| {
                    Error::Io {
                        reason: error.to_string(),
                    }
                    .in_file(&*name)
                })?;
                match read {
                    0 => break,
                    n => loader.push(&chunk[..n])?,
                }
            }
            loader.end_file()?;
        }
        loader.finish(options).await
    }

    /// Begins an empty conversation.
    pub fn session(&self, options: SessionOptions) -> Session {
        Session::new(self.clone(), options)
    }

    /// Returns the encoder of images and videos.
    ///
    /// # Errors
    /// `BadRequest` where the model has none; as
    /// [`MergeConfig::with_tokens`](crate::config::MergeConfig::with_tokens).
    pub fn vision(&self, options: &VisualOptions) -> Result<VisionEncoder> {
        Ok(VisionEncoder::new(
            dispatch!(map &self.engine, model => model.vision()?.merging_to(options.tokens)?),
        ))
    }

    /// Whether the model takes images and videos.
    pub fn has_vision(&self) -> bool {
        dispatch!(&self.engine, model => model.has_vision())
    }

    /// Returns the most tokens that a conversation may have.
    pub fn context(&self) -> usize {
        dispatch!(&self.engine, model => model.llama().context())
    }

    /// Returns the device that the model is on.
    pub fn device(&self) -> &OpenDevice {
        &self.device
    }
}
