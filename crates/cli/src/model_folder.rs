//! Writing a model folder: GGUF files, tokenizer, manifest. Nothing has its name before all is
//! written, and the manifest comes last.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Result as IoResult, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use univi::gguf::{Metadata, SplitName};
use univi::manifest::{FileEntry, MANIFEST_NAME, Manifest, Role};
use univi::{Error, Result};
use univi_convert::{TensorSpec, Writer, plan_shards, shard_metadata};

use crate::files;
use crate::interrupt::Listener;

/// What a file is called until all files are there.
const UNFINISHED: &str = ".unfinished";

/// A folder that a model is being written to.
pub struct ModelFolder {
    path: PathBuf,
    entries: Vec<FileEntry>,
    finished: bool,
    /// Ctrl-C tidies up before it ends the program.
    interrupt: Listener,
}

/// Where the numbers of a tensor go: as many calls as it takes, in order.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

impl ModelFolder {
    /// Makes the folder.
    ///
    /// # Errors
    /// `BadRequest` where a model is there and `overwrite` is false; `Io`.
    pub fn create(path: &Path, overwrite: bool) -> Result<ModelFolder> {
        fs::create_dir_all(path).map_err(|e| files::io_error(path, &e))?;
        let taken = files::list(path)?.into_iter().find(|file| {
            file.file_name().is_some_and(|name| name == MANIFEST_NAME)
                || file.extension().is_some_and(|e| e == "gguf")
        });
        match taken {
            Some(file) if !overwrite => Err(Error::BadRequest {
                reason: format!(
                    "{} is there already: name another folder with --out, or overwrite it with --force",
                    files::name(&file)
                ),
            }),
            _ => Ok(ModelFolder {
                path: path.to_owned(),
                entries: Vec::new(),
                finished: false,
                interrupt: Listener::new(),
            }),
        }
    }

    /// Adds a file of these bytes.
    ///
    /// # Errors
    /// `Io`.
    pub fn add_file(&mut self, role: Role, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.open(role, name)?;
        file.write_all(bytes)
            .map_err(|e| files::io_error(&self.path.join(name), &e))?;
        self.close(file)
    }

    /// Adds a part of the model: one file `NAME.gguf`, or where `shard_bytes` is given a set of
    /// files `NAME-00001-of-0000N.gguf` with at most so many bytes of data each. `data` writes
    /// the tensor of an index.
    ///
    /// # Errors
    /// `Io`, and what `data` fails with.
    pub fn add_gguf(
        &mut self,
        role: Role,
        name: &str,
        metadata: &Metadata,
        tensors: &[TensorSpec],
        shard_bytes: Option<u64>,
        data: &mut dyn FnMut(usize, Sink<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(shard_bytes) = shard_bytes else {
            return self.add_shard(role, &format!("{name}.gguf"), metadata, tensors, 0, data);
        };
        let plan = plan_shards(tensors, shard_bytes)?;
        let set = SplitName {
            prefix: name.to_string(),
            index: 0,
            count: plan.len(),
        };
        for (name, range) in set.all().zip(plan) {
            let metadata = shard_metadata(metadata, name.index, name.count, tensors.len());
            self.add_shard(
                role,
                &name.to_string(),
                &metadata,
                &tensors[range.clone()],
                range.start,
                data,
            )?;
        }
        Ok(())
    }

    fn add_shard(
        &mut self,
        role: Role,
        name: &str,
        metadata: &Metadata,
        tensors: &[TensorSpec],
        first: usize,
        data: &mut dyn FnMut(usize, Sink<'_>) -> Result<()>,
    ) -> Result<()> {
        let path = files::name(&self.path.join(name));
        let in_file = |e: Error| e.in_file(&*path);
        let file = self.open(role, name)?;
        let mut writer = Writer::new(file, metadata, tensors).map_err(in_file)?;
        for i in 0..tensors.len() {
            data(first + i, &mut |bytes| match self.interrupt.pressed() {
                true => Err(Error::Aborted),
                false => writer.write(bytes).map_err(in_file),
            })?;
        }
        let file = writer.finish().map_err(in_file)?;
        self.close(file)
    }

    /// Gives all files their names and writes the manifest that `describe` makes of them. Files of
    /// a model that was there before go away.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(mut self, describe: impl FnOnce(Vec<FileEntry>) -> Manifest) -> Result<Manifest> {
        let manifest = describe(self.entries.clone());
        let json = manifest.to_json()?;
        let path = self.path.join(MANIFEST_NAME);
        // Without its manifest the old model is not one any more, so nobody loads half of each.
        let old = fs::read(&path).ok();
        if old.is_some() {
            fs::remove_file(&path).map_err(|e| files::io_error(&path, &e))?;
        }
        let old = old.and_then(|json| Manifest::parse(&json).ok());
        let new: HashSet<&str> = self.entries.iter().map(|file| &*file.path).collect();
        for file in old
            .iter()
            .flat_map(|old| &old.files)
            .filter(|file| !new.contains(&*file.path))
        {
            // One that is gone already is no trouble.
            let _ = fs::remove_file(self.path.join(&file.path));
        }
        for file in &self.entries {
            let (from, to) = (self.unfinished(&file.path), self.path.join(&file.path));
            fs::rename(from, &to).map_err(|e| files::io_error(&to, &e))?;
        }
        let unfinished = self.unfinished(MANIFEST_NAME);
        fs::write(&unfinished, json).map_err(|e| files::io_error(&unfinished, &e))?;
        fs::rename(&unfinished, &path).map_err(|e| files::io_error(&path, &e))?;
        self.finished = true;
        Ok(manifest)
    }

    fn unfinished(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{UNFINISHED}"))
    }

    fn open(&mut self, role: Role, name: &str) -> Result<HashedFile> {
        let path = self.unfinished(name);
        let file = File::create(&path).map_err(|e| files::io_error(&path, &e))?;
        self.entries.push(FileEntry {
            role,
            path: name.to_string(),
            bytes: 0,
            sha256: String::new(),
        });
        Ok(HashedFile {
            file: BufWriter::with_capacity(1 << 20, file),
            sha256: Sha256::new(),
            bytes: 0,
        })
    }

    fn close(&mut self, file: HashedFile) -> Result<()> {
        let entry = self.entries.last_mut().expect("the file was opened");
        entry.bytes = file.bytes;
        entry.sha256 = file
            .sha256
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let path = self.path.join(&entry.path);
        let file = file
            .file
            .into_inner()
            .map_err(|e| files::io_error(&path, e.error()))?;
        file.sync_all().map_err(|e| files::io_error(&path, &e))
    }
}

impl Drop for ModelFolder {
    /// What was not finished is of no use.
    fn drop(&mut self) {
        if !self.finished {
            for file in &self.entries {
                let _ = fs::remove_file(self.unfinished(&file.path));
            }
        }
    }
}

/// A file that knows its length and digest.
struct HashedFile {
    file: BufWriter<File>,
    sha256: Sha256,
    bytes: u64,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        self.file.write_all(bytes)?;
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> IoResult<()> {
        self.file.flush()
    }
}

/// A name that is a file name everywhere: letters, digits, `.`, `-` and `_` stay.
pub fn file_stem(name: &str) -> String {
    let stem: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    match stem.trim_matches(['-', '.']) {
        "" => "model".to_string(),
        stem => stem.to_string(),
    }
}
