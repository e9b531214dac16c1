//! From what the user calls a model to the files that make it, and from those to the device.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use univi::{
    Backend, Error, Result,
    loader::{LoadOptions, Loader, ModelFile},
    manifest::{MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, Role},
    model::{ChatUniVi, Vision},
};

use crate::{
    files,
    progress::{Progress, Unit},
};

/// Bytes that are read at a time: much per call, little in memory.
const CHUNK_BYTES: usize = 4 << 20;

/// The files that make a model.
#[derive(Debug)]
pub struct Source {
    /// In the order in which the loader wants them, named by their paths.
    pub files: Vec<ModelFile>,
    /// Which of them the vision side is, where a manifest says so.
    pub vision: Vec<ModelFile>,
}

impl Source {
    /// Finds the files of a model: a folder with a manifest, the manifest, a GGUF file, or the
    /// first file of a split set.
    ///
    /// # Errors
    /// `Io` for a file that is not there, `BadFile` for one of another length than promised, or for
    /// a folder or file that is no model.
    pub fn find(path: &Path) -> Result<Source> {
        if files::metadata(path)?.is_dir() {
            let manifest = path.join(MANIFEST_NAME);
            return match manifest.is_file() {
                true => Source::of_manifest(&manifest),
                false => Err(not_a_model(path)),
            };
        }
        match path.extension().and_then(|e| e.to_str()) {
            Some(extension) if extension.eq_ignore_ascii_case("json") => Source::of_manifest(path),
            _ => Source::of_gguf(path),
        }
    }

    fn of_manifest(path: &Path) -> Result<Source> {
        if files::metadata(path)?.len() > MAX_MANIFEST_BYTES as u64 {
            let reason = format!("is longer than {MAX_MANIFEST_BYTES} bytes");
            return Err(Error::BadFile {
                format: "manifest",
                reason,
            }
            .in_file(files::name(path)));
        }
        let manifest =
            Manifest::parse(&files::read(path)?).map_err(|e| e.in_file(files::name(path)))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut all = manifest.model_files();
        for file in &mut all {
            let path = folder.join(&file.name);
            let found = files::metadata(&path)?.len();
            if let Some(promised) = file.bytes.filter(|&promised| promised != found) {
                let reason = format!(
                    "{found} bytes, the manifest says {promised}: it is damaged or not complete; fetch it again"
                );
                let format = "model file";
                return Err(Error::BadFile { format, reason }.in_file(files::name(&path)));
            }
            file.name = files::name(&path);
        }
        let is_vision = |file: &&ModelFile| {
            let mut vision = manifest.files_of(Role::Vision);
            vision.any(|entry| file.name == files::name(&folder.join(&entry.path)))
        };
        let vision = all.iter().filter(is_vision).cloned().collect();
        Ok(Source { files: all, vision })
    }

    fn of_gguf(path: &Path) -> Result<Source> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let mut set = ModelFile::set(name);
        for file in &mut set {
            // A name that is not Unicode is no part of a set: it stays as it is.
            let path = if file.name == name {
                path.to_owned()
            } else {
                path.with_file_name(&file.name)
            };
            file.bytes = Some(files::metadata(&path)?.len());
            file.name = files::name(&path);
        }
        Ok(Source {
            files: set,
            vision: Vec::new(),
        })
    }
}

/// Loads the model that `path` names.
///
/// # Errors
/// As [`Source::find`], and whatever is wrong inside a file, named with it.
pub async fn model<B: Backend>(
    backend: &B,
    path: &Path,
    options: &LoadOptions,
) -> Result<ChatUniVi<B>> {
    feed(backend, Source::find(path)?.files)?
        .finish(options)
        .await
}

/// Loads the vision side of the model that `path` names, and nothing else.
///
/// # Errors
/// As [`model`]; `BadRequest` where it has none.
pub async fn vision<B: Backend>(backend: &B, path: &Path) -> Result<Vision<B>> {
    let source = Source::find(path)?;
    // A file that is named by itself may be a vision side.
    let files = if source.files.len() == 1 {
        source.files
    } else {
        source.vision
    };
    if files.is_empty() {
        let reason = "the model has no vision side: it can't look at images and videos".into();
        return Err(Error::BadRequest { reason }.in_file(files::name(path)));
    }
    feed(backend, files)?.finish_vision().await
}

/// Reads all files and pushes them.
fn feed<B: Backend>(backend: &B, files: Vec<ModelFile>) -> Result<Loader<B>> {
    let bytes = files.iter().filter_map(|file| file.bytes).sum();
    let mut progress = Progress::new("loading the model", Unit::Bytes, bytes);
    let mut loader = Loader::new(backend.clone(), files)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Some(path) = loader.next_file().map(|file| PathBuf::from(&file.name)) {
        let mut file = File::open(&path).map_err(|e| files::io_error(&path, &e))?;
        loop {
            match file
                .read(&mut chunk)
                .map_err(|e| files::io_error(&path, &e))?
            {
                0 => break,
                n => {
                    loader.push(&chunk[..n])?;
                    progress.advance(n as u64);
                }
            }
        }
        loader.end_file()?;
    }
    Ok(loader)
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
    .in_file(files::name(folder))
}
