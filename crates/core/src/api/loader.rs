//! A model whose bytes are pushed.

use std::{io::Read, rc::Rc};

use crate::{
    Cpu, Error, Gpu, Result,
    gguf::QuantizationPlan,
    loader::{LoadOptions, Loader, ModelFile, Needs, Progress},
};

use super::{
    Model, VisionEncoder,
    device::{OnBackend, OpenDevice, dispatch},
};

/// Bytes that are read at a time: much per call, little in memory.
pub(super) const CHUNK_BYTES: usize = 4 << 20;

/// Takes the files of a model, one after the other, chunk by chunk; weights go straight to the
/// device. Not `Send`: it stays on the thread of its device.
///
/// ```text
/// while let Some(file) = loader.next_file() { .. loader.push(chunk)? ..; loader.end_file()? }
/// let model = loader.finish(&options).await?;
/// ```
pub struct ModelLoader {
    device: OpenDevice,
    loader: OnBackend<Loader<Cpu>, Loader<Gpu>>,
}

impl ModelLoader {
    /// Returns a loader for these files: each GGUF file, in the order of its set.
    ///
    /// # Errors
    /// `BadRequest` without files.
    pub fn new(device: &OpenDevice, files: Vec<ModelFile>) -> Result<ModelLoader> {
        Ok(ModelLoader {
            device: device.clone(),
            loader: dispatch!(map &device.backend, b => Loader::new(Clone::clone(b), files)?),
        })
    }

    /// Asks the device, before any byte is fetched, whether it can hold the model and one
    /// conversation of full length.
    ///
    /// # Errors
    /// As [`Needs::check`].
    pub async fn check_memory(device: &OpenDevice, needs: &Needs) -> Result<()> {
        dispatch!(&device.backend, backend => needs.check(backend).await)
    }

    /// Has [`ModelLoader::finish`] read every `every`-th matrix of each file back from the device,
    /// and compare it with what was pushed.
    pub fn check_upload(&mut self, every: usize) {
        dispatch!(&mut self.loader, loader => loader.check_upload(every));
    }

    /// Hints how the language model is probably quantized, so that pipelines can be compiled
    /// early.
    pub fn expect(&self, plan: QuantizationPlan) {
        dispatch!(&self.loader, loader => loader.expect(plan));
    }

    /// Hints which options [`ModelLoader::finish`] will be given, so that pipelines can be compiled
    /// early.
    pub fn expect_options(&self, options: &LoadOptions) {
        dispatch!(&self.loader, loader => loader.expect_options(options));
    }

    /// Returns all files, in the order in which they are expected.
    pub fn files(&self) -> &[ModelFile] {
        dispatch!(&self.loader, loader => loader.files())
    }

    /// Returns the file whose bytes are expected next, from its start; `None` when all are there.
    pub fn next_file(&self) -> Option<&ModelFile> {
        dispatch!(&self.loader, loader => loader.next_file())
    }

    /// Returns how much was pushed.
    pub fn progress(&self) -> Progress {
        dispatch!(&self.loader, loader => loader.progress())
    }

    /// Takes the next bytes of [`ModelLoader::next_file`].
    ///
    /// # Errors
    /// Whatever is wrong with them, named with the file.
    ///
    /// # Panics
    /// When all files are there.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        dispatch!(&mut self.loader, loader => loader.push(bytes))
    }

    /// Leaves the SHA-256 of [`ModelLoader::next_file`] to the caller, where the platform computes
    /// it faster: before the file's first byte. [`ModelLoader::set_hash`] is due before its end.
    pub fn use_external_hash(&mut self) {
        dispatch!(&mut self.loader, loader => loader.use_external_hash());
    }

    /// Sets the SHA-256, in hexadecimal, of all that was pushed of [`ModelLoader::next_file`],
    /// after [`ModelLoader::use_external_hash`].
    pub fn set_hash(&mut self, sha256: String) {
        dispatch!(&mut self.loader, loader => loader.set_hash(sha256));
    }

    /// Forgets what was pushed of [`ModelLoader::next_file`]: it begins anew.
    pub fn restart_file(&mut self) {
        dispatch!(&mut self.loader, loader => loader.restart_file());
    }

    /// Ends [`ModelLoader::next_file`].
    ///
    /// # Errors
    /// `BadFile` where it breaks off, `WrongHash`; named with the file, which then still is the
    /// next one: [`ModelLoader::restart_file`] lets it come again. `BadRequest` where the hash that
    /// was left to the caller is not there.
    pub fn end_file(&mut self) -> Result<()> {
        dispatch!(&mut self.loader, loader => loader.end_file())
    }

    /// Returns the model.
    ///
    /// # Errors
    /// `BadRequest` before all files are there or for a context that is too long; `BadFile` without
    /// a language model; what the parts themselves refuse, named with the file; or what the device
    /// reports.
    pub async fn finish(self, options: &LoadOptions) -> Result<Model> {
        Ok(Model {
            device: self.device,
            engine: dispatch!(map self.loader, loader => Rc::new(loader.finish(options).await?)),
        })
    }

    /// Returns the vision encoder of a loader without other files.
    ///
    /// # Errors
    /// As [`ModelLoader::finish`]; `BadFile` without a vision encoder.
    pub async fn finish_vision(self) -> Result<VisionEncoder> {
        Ok(VisionEncoder::new(
            dispatch!(map self.loader, loader => loader.finish_vision().await?),
        ))
    }
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
}
