//! Checkpoints on the disk, with their vision towers.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use univi::{Error, Result};
use univi_convert::checkpoint::{Checkpoint, CheckpointPart, Files};

use crate::files;

/// A checkpoint's folder on the disk.
pub struct Folder {
    /// Where it lies.
    pub path: PathBuf,
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
            open: Mutex::new(HashMap::new()),
        })
    }

    /// An error that names a file of this folder, or none, told with the folder.
    pub fn explain(&self, error: Error) -> Error {
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

    /// The language model, and the vision side where there is one; `given` where the user named the
    /// tower's folder.
    ///
    /// # Errors
    /// Whatever is wrong with the checkpoint, named with the file.
    pub fn parts<'a>(
        &'a self,
        checkpoint: &Checkpoint<'a>,
        tower: Option<&'a Folder>,
        given: bool,
    ) -> Result<(CheckpointPart<'a>, Option<CheckpointPart<'a>>)> {
        let tower = tower
            .map(|folder| Checkpoint::open(folder).map_err(|e| folder.explain(e)))
            .transpose()?;
        let llm = checkpoint.llm().map_err(|e| self.explain(e))?;
        if checkpoint.tokenizer_file()?.is_none() {
            let reason = "has no tokenizer: neither tokenizer.model nor tokenizer.json is there; \
                          download it with the weights"
                .into();
            let format = "checkpoint";
            return Err(self.explain(Error::BadFile { format, reason }));
        }
        if !checkpoint.has_vision() && !checkpoint.has_tower() && !given {
            return Ok((llm, None));
        }
        let vision = checkpoint
            .vision(tower.as_ref())
            .map_err(|e| self.explain(e))?;
        Ok((llm, Some(vision)))
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
