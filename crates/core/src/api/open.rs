//! Models and images by their paths: the only file of this crate that reads a disk. Not for
//! wasm32.

use std::{
    fs::{File, Metadata},
    io::Read,
    path::Path,
};

use crate::{
    Error, Result,
    image::Rgb8,
    loader::{LoadOptions, ModelFile, Progress},
    manifest::{MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, Role},
};

use super::{Model, ModelLoader, OpenDevice, Part, VisionEncoder, loader::CHUNK_BYTES};

impl Model {
    /// Loads the model at `path`: a folder with a manifest, the manifest, a GGUF file, or the first
    /// file of a split set.
    ///
    /// # Errors
    /// As [`ModelFiles::find`], and whatever is wrong inside a file, named with it.
    pub async fn open(
        device: &OpenDevice,
        path: impl AsRef<Path>,
        options: &LoadOptions,
    ) -> Result<Model> {
        let files = ModelFiles::find(path)?;
        Model::open_files(device, &files, options, &mut |_| ()).await
    }

    /// Loads a model from its files. `on_progress` is called after each chunk.
    ///
    /// # Errors
    /// `Io` where a file can't be read; whatever is wrong inside a file, named with it.
    pub async fn open_files(
        device: &OpenDevice,
        files: &ModelFiles,
        options: &LoadOptions,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Model> {
        read(device, files, on_progress)?.finish(options).await
    }
}

impl VisionEncoder {
    /// Loads the vision encoder of a model, and nothing else. `on_progress` is called after each
    /// chunk.
    ///
    /// # Errors
    /// As [`Model::open_files`]; `BadRequest` where the model has none.
    pub async fn open_files(
        device: &OpenDevice,
        files: &ModelFiles,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<VisionEncoder> {
        read(device, &files.vision_files()?, on_progress)?
            .finish_vision()
            .await
    }
}

impl Part {
    /// Reads and decodes an image.
    ///
    /// # Errors
    /// `Io` where it can't be read; as [`Rgb8::decode`].
    pub fn image_file(path: impl AsRef<Path>) -> Result<Part> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| io_error(path, &error))?;
        let image = Rgb8::decode(&bytes).map_err(|error| error.in_file(name(path)))?;
        Ok(Part::Image(image))
    }
}

/// The files of a model on disk.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// In the order in which [`ModelLoader`] expects them, named by their paths.
    pub files: Vec<ModelFile>,
    /// Those of the vision encoder, where a manifest names them.
    pub vision: Vec<ModelFile>,
    /// What the user called the model.
    name: String,
}

impl ModelFiles {
    /// Finds the files of the model at `path`: a folder with a manifest, the manifest, a GGUF file,
    /// or the first file of a split set.
    ///
    /// # Errors
    /// `Io` for a file that is not there, `BadFile` for one of another length than the manifest
    /// says, or for a folder or file that is no model.
    pub fn find(path: impl AsRef<Path>) -> Result<ModelFiles> {
        let path = path.as_ref();
        let (files, vision) = if metadata(path)?.is_dir() {
            let manifest = path.join(MANIFEST_NAME);
            match manifest.is_file() {
                true => of_manifest(&manifest)?,
                false => return Err(not_a_model(path)),
            }
        } else {
            match path.extension().and_then(|e| e.to_str()) {
                Some(extension) if extension.eq_ignore_ascii_case("json") => of_manifest(path)?,
                _ => (of_gguf(path)?, Vec::new()),
            }
        };
        Ok(ModelFiles {
            files,
            vision,
            name: name(path),
        })
    }

    /// Takes the files of a model that the user calls `name`: in the order in which [`ModelLoader`]
    /// expects them, named by their paths.
    pub fn new(name: impl Into<String>, files: Vec<ModelFile>) -> ModelFiles {
        ModelFiles {
            files,
            vision: Vec::new(),
            name: name.into(),
        }
    }

    /// Returns the files of the vision encoder alone.
    ///
    /// # Errors
    /// `BadRequest` where the model has none.
    pub fn vision_files(&self) -> Result<ModelFiles> {
        // A file that is named by itself may be a vision encoder.
        let files = match self.files.len() {
            1 => self.files.clone(),
            _ => self.vision.clone(),
        };
        if files.is_empty() {
            let reason = "the model has no vision side: it can't look at images and videos".into();
            return Err(Error::BadRequest { reason }.in_file(&*self.name));
        }
        Ok(ModelFiles {
            vision: files.clone(),
            files,
            name: self.name.clone(),
        })
    }

    /// Returns the bytes of all files.
    pub fn bytes(&self) -> u64 {
        let bytes = self.files.iter().filter_map(|file| file.bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// Reads all files in their order: `on_chunk` gets each chunk of a file, and `None` at its end.
    ///
    /// # Errors
    /// `Io` where a file can't be read, and the errors of `on_chunk`.
    pub fn read(&self, on_chunk: &mut dyn FnMut(Option<&[u8]>) -> Result<()>) -> Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        for path in self.files.iter().map(|file| Path::new(&file.name)) {
            let mut file = File::open(path).map_err(|error| io_error(path, &error))?;
            loop {
                let read = file.read(&mut chunk);
                match read.map_err(|error| io_error(path, &error))? {
                    0 => break,
                    n => on_chunk(Some(&chunk[..n]))?,
                }
            }
            on_chunk(None)?;
        }
        Ok(())
    }
}

fn of_manifest(path: &Path) -> Result<(Vec<ModelFile>, Vec<ModelFile>)> {
    let bad = |reason| {
        let format = "manifest";
        Error::BadFile { format, reason }.in_file(name(path))
    };
    if metadata(path)?.len() > MAX_MANIFEST_BYTES as u64 {
        return Err(bad(format!("is longer than {MAX_MANIFEST_BYTES} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| io_error(path, &error))?;
    let manifest = Manifest::parse(&bytes).map_err(|error| error.in_file(name(path)))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut all = manifest.model_files();
    for file in &mut all {
        let path = folder.join(&file.name);
        let found = metadata(&path)?.len();
        if let Some(promised) = file.bytes.filter(|&promised| promised != found) {
            let reason = format!(
                "{found} bytes, the manifest says {promised}: it is damaged or not complete; fetch it again"
            );
            let format = "model file";
            return Err(Error::BadFile { format, reason }.in_file(name(&path)));
        }
        file.name = name(&path);
    }
    let is_vision = |file: &&ModelFile| {
        let mut vision = manifest.files_of(Role::Vision);
        vision.any(|entry| file.name == name(&folder.join(&entry.path)))
    };
    let vision = all.iter().filter(is_vision).cloned().collect();
    Ok((all, vision))
}

fn of_gguf(path: &Path) -> Result<Vec<ModelFile>> {
    let own = path.file_name().and_then(|name| name.to_str());
    let own = own.unwrap_or_default();
    let mut set = ModelFile::set(own);
    for file in &mut set {
        // A name that is not Unicode is no part of a set: it stays as it is.
        let path = if file.name == own {
            path.to_owned()
        } else {
            path.with_file_name(&file.name)
        };
        file.bytes = Some(metadata(&path)?.len());
        file.name = name(&path);
    }
    Ok(set)
}

/// Reads all files and pushes them.
fn read(
    device: &OpenDevice,
    files: &ModelFiles,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<ModelLoader> {
    let mut loader = ModelLoader::new(device, files.files.clone())?;
    files.read(&mut |chunk| match chunk {
        Some(bytes) => {
            loader.push(bytes)?;
            on_progress(loader.progress());
            Ok(())
        }
        None => loader.end_file(),
    })?;
    Ok(loader)
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn metadata(path: &Path) -> Result<Metadata> {
    std::fs::metadata(path).map_err(|error| io_error(path, &error))
}

fn io_error(path: &Path, error: &std::io::Error) -> Error {
    Error::Io {
        reason: error.to_string(),
    }
    .in_file(name(path))
}

fn not_a_model(folder: &Path) -> Error {
    let reason = format!(
        "there is no {MANIFEST_NAME} in it; `univi convert` makes a model folder of a checkpoint, \
         and a GGUF file is named by its own path"
    );
    Error::BadFile {
        format: "model folder",
        reason,
    }
    .in_file(name(folder))
}
