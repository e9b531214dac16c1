//! Checkpoints on the disk, with their vision towers.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use univi::{Error, Result};
use univi_convert::Origin;
use univi_convert::checkpoint::{Checkpoint, CheckpointPart, Files, Span};

use crate::{files, pull::Source};

/// A checkpoint's folder on the disk.
pub struct Folder {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is called, where that is not the folder's name.
    name: Option<String>,
    open: Mutex<HashMap<String, Arc<Mutex<File>>>>,
}

impl Folder {
    /// Takes a folder for a checkpoint's; nothing is read yet.
    ///
    /// # Errors
    /// `Io` where it is not there, `BadFile` where it is no folder.
    pub fn open(path: &Path) -> Result<Folder> {
        if !files::metadata(path)?.is_dir() {
            let reason = "is a file, expected the folder of a checkpoint".into();
            return Err(Error::BadFile {
                format: "checkpoint",
                reason,
            }
            .in_file(files::name(path)));
        }
        Ok(Folder {
            path: path.to_owned(),
            name: None,
            open: Mutex::new(HashMap::new()),
        })
    }

    /// Calls it otherwise than its folder is called.
    pub fn named(self, name: impl Into<String>) -> Folder {
        Folder {
            name: Some(name.into()),
            ..self
        }
    }

    /// The folder of the tower: the user's, else the one that the checkpoint names where it is
    /// inside or beside the checkpoint, or in the working directory as for the reference.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn tower(&self, given: Option<&Path>, checkpoint: &Checkpoint) -> Result<Option<Folder>> {
        if let Some(path) = given {
            return Folder::open(path).map(Some);
        }
        let Some(name) = checkpoint.tower_name() else {
            return Ok(None);
        };
        let here = self
            .path
            .canonicalize()
            .unwrap_or_else(|_| self.path.clone());
        let places = [Some(&*here), here.parent(), Some(Path::new("."))];
        let found = places
            .into_iter()
            .flatten()
            .map(|place| place.join(name))
            .find(|path| path.join("config.json").is_file());
        found.map(|path| Folder::open(&path)).transpose()
    }

    /// The language model, and the vision side where there is one.
    ///
    /// # Errors
    /// Whatever is wrong with the checkpoint, named with the file.
    pub fn parts<'a>(
        &'a self,
        checkpoint: &Checkpoint<'a>,
        tower: Option<&'a Folder>,
    ) -> Result<(CheckpointPart<'a>, Option<CheckpointPart<'a>>)> {
        let tower = tower
            .map(|folder| Checkpoint::open(folder).map_err(|e| folder.explain(e)))
            .transpose()?;
        let parts = checkpoint.parts(tower.as_ref());
        parts.map_err(|e| self.explain(e))
    }

    fn file(&self, name: &str) -> Result<Arc<Mutex<File>>> {
        let mut open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(file) = open.get(name) {
            return Ok(file.clone());
        }
        let path = self.path.join(name);
        let file = File::open(&path).map_err(|e| files::io_error(&path, &e))?;
        let file = Arc::new(Mutex::new(file));
        open.insert(name.to_string(), file.clone());
        Ok(file)
    }
}

impl Files for Folder {
    fn len(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path.join(name);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(files::io_error(&path, &e)),
        }
    }

    fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        let file = self.file(name)?;
        let mut file = file.lock().unwrap_or_else(|e| e.into_inner());
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(out))
            .map_err(|e| files::io_error(&self.path.join(name), &e))
    }
}

/// Bytes that are read at a time.
const CHUNK_BYTES: u64 = 1 << 20;

impl Source for Folder {
    fn stream(&self, span: &Span, on_bytes: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut chunk = vec![0; span.len.min(CHUNK_BYTES) as usize];
        for start in (0..span.len).step_by(CHUNK_BYTES as usize) {
            let chunk = &mut chunk[..CHUNK_BYTES.min(span.len - start) as usize];
            self.read(&span.file, span.offset + start, chunk)?;
            on_bytes(chunk)?;
        }
        Ok(())
    }

    /// Length and time: contents of the same length are written at another time.
    fn stamp(&self, file: &str) -> Result<String> {
        let path = self.path.join(file);
        let found = files::metadata(&path)?;
        let modified = found.modified().map_err(|e| files::io_error(&path, &e))?;
        Ok(format!("{} bytes of {modified:?}", found.len()))
    }

    fn explain(&self, error: Error) -> Error {
        match error {
            Error::In { file, source }
                if !Path::new(&file).is_absolute() && self.path.join(&file).exists() =>
            {
                source.in_file(files::name(&self.path.join(file)))
            }
            error @ (Error::In { .. } | Error::Aborted | Error::BadRequest { .. }) => error,
            error => error.in_file(files::name(&self.path)),
        }
    }
    fn model_name(&self) -> Result<String> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let path = self.path.canonicalize();
        let path = path.map_err(|e| files::io_error(&self.path, &e))?;
        let name = path.file_name();
        Ok(name.map_or_else(
            || "model".into(),
            |name| name.to_string_lossy().into_owned(),
        ))
    }

    fn place(&self) -> String {
        files::name(&self.path)
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn origin(&self) -> Option<Origin> {
        None
    }

    fn tower_of(&self, checkpoint: &Checkpoint<'_>) -> Result<Option<Arc<dyn Source>>> {
        let tower = self.tower(None, checkpoint)?;
        Ok(tower.map(|tower| Arc::new(tower) as Arc<dyn Source>))
    }
}
