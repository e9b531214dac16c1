//! Writing a model folder: GGUF files, tokenizer, manifest. Nothing has its name before all is
//! written and was loaded once, and the manifest comes last.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Result as IoResult, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest, Sha256};
use univi::gguf::{Metadata, SplitName};
use univi::loader::LoadOptions;
use univi::manifest::{FileEntry, MANIFEST_NAME, Manifest, Role};
use univi::{Error, ModelFiles, Result};
use univi_convert::{PlannedFile, TensorSpec, Writer, plan_shards, shard_metadata};

use crate::folder_lock::{FolderLock, LOCK_NAME};
use crate::inspect::Blank;
use crate::interrupt::Listener;
use crate::journal::{FinishedFile, JOURNAL_NAME, Journal};
use crate::progress::{Progress, Unit, bytes as bytes_text};
use crate::pull::{Pull, Pulled};
use crate::values::size_bytes;
use crate::{files, open, out};

/// Where a model folder goes.
#[derive(Debug, Args)]
pub struct OutArgs {
    /// The largest file of the language model, such as 64MiB, 1GB, or a number of bytes. GGUF can't
    /// split a tensor: one that is larger, as the embeddings of a 7B model are, has a file of its
    /// own.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size_bytes)]
    pub shard_size: u64,
    /// Where the model folder goes.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Overwrite a model that is there.
    #[arg(long)]
    pub force: bool,
}

/// What a file is called until all files are there.
const UNFINISHED: &str = ".unfinished";

/// A folder that a model is being written to.
pub struct ModelFolder {
    path: PathBuf,
    /// Whether the folder was made for this model.
    is_new: bool,
    entries: Vec<FileEntry>,
    /// New files that have their names by now, and are part of no model yet.
    renamed: Vec<String>,
    /// Whether files and manifest are whole, and the old model needn't come back.
    finished: bool,
    /// Of a conversion that another run can go on with.
    journal: Option<Journal>,
    /// Files that an earlier run finished.
    resumed: Vec<FinishedFile>,
    /// Whether finished files stay for another run.
    stays: bool,
    /// Ctrl-C and SIGTERM tidy up before they end the program.
    interrupt: Listener,
    _lock: FolderLock,
}

/// Where the numbers of a tensor go: as many calls as it takes, in order.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Files of a model besides its weights: names, manifest.
const SMALL_FILES_BYTES: u64 = 16 << 20;

impl ModelFolder {
    /// Makes the folder, for a model whose weights take `bytes`. What a run left there that was
    /// killed is cleared up.
    ///
    /// # Errors
    /// `BadRequest` where a model is there and `overwrite` is false, where another run writes into
    /// the folder, or where there is not enough room; `Io`.
    pub fn create(path: &Path, overwrite: bool, bytes: u64) -> Result<ModelFolder> {
        let mut folder = ModelFolder::lock(path)?;
        clear_leftovers(path)?;
        folder.refuse_model(overwrite)?;
        folder.stays = false;
        folder.check_room(bytes)?;
        Ok(folder)
    }

    /// Makes the folder for a conversion, or goes on where an earlier run of the same one stopped:
    /// `identity` is the same text for the same files made of the same weights. Files that the
    /// earlier run finished are checked before they count; [`ModelFolder::has`] names them.
    ///
    /// # Errors
    /// As [`ModelFolder::create`]; `Aborted`.
    pub fn resume(
        path: &Path,
        overwrite: bool,
        planned: &[PlannedFile],
        identity: &str,
    ) -> Result<ModelFolder> {
        let mut folder = ModelFolder::lock(path)?;
        folder.refuse_model(overwrite)?;
        match Journal::read(path) {
            Some((found, finished)) if found == identity => {
                folder.resumed = folder.check_finished(planned, finished)?;
            }
            Some(_) => {
                out::note(
                    "an unfinished conversion of another checkpoint or with other options is \
                     there: beginning anew",
                );
                clear_leftovers(path)?;
            }
            None => clear_leftovers(path)?,
        }
        folder.stays = !folder.resumed.is_empty();
        let finished: u64 = folder.resumed.iter().map(|file| file.bytes).sum();
        let all: u64 = planned.iter().map(|file| file.bytes).sum();
        folder.check_room(all - finished)?;
        if !folder.resumed.is_empty() {
            out::note(&format!(
                "{} of {} files are finished, by an earlier run: going on",
                folder.resumed.len(),
                planned.len()
            ));
        }
        folder.journal = Some(Journal::begin(path, identity, &folder.resumed)?);
        folder.stays = false;
        Ok(folder)
    }

    /// Locks the folder, which is made where it is not there, and gives a whole model that an
    /// earlier run left the names that it lacks.
    fn lock(path: &Path) -> Result<ModelFolder> {
        let is_new = !path.exists();
        fs::create_dir_all(path).map_err(|e| files::io_error(path, &e))?;
        let lock = FolderLock::take(path)?;
        finish_names(path)?;
        Ok(ModelFolder {
            path: path.to_owned(),
            is_new,
            entries: Vec::new(),
            renamed: Vec::new(),
            finished: false,
            journal: None,
            resumed: Vec::new(),
            // What is there is of an earlier run, until it is known of what kind.
            stays: true,
            interrupt: Listener::new(),
            _lock: lock,
        })
    }

    fn refuse_model(&self, overwrite: bool) -> Result<()> {
        let taken = files::list(&self.path)?.into_iter().find(|file| {
            file.file_name().is_some_and(|name| name == MANIFEST_NAME)
                || file.extension().is_some_and(|e| e == "gguf")
        });
        match taken.filter(|_| !overwrite) {
            None => Ok(()),
            Some(file) => Err(Error::BadRequest {
                reason: format!(
                    "{} is there already: name another folder with --out, or overwrite it with --force",
                    files::name(&file)
                ),
            }),
        }
    }

    fn check_room(&self, bytes: u64) -> Result<()> {
        let needed = bytes.saturating_add(SMALL_FILES_BYTES);
        // A file system that does not say is no reason to refuse it.
        match fs4::available_space(&self.path) {
            Ok(free) if free < needed => Err(Error::BadRequest {
                reason: format!(
                    "{}: the model takes {}, but {} are free: make room, or name a folder on \
                     another disk with --out",
                    files::name(&self.path),
                    bytes_text(needed),
                    bytes_text(free)
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Those of the finished files that are planned like that, and still are what was written.
    fn check_finished(
        &self,
        planned: &[PlannedFile],
        finished: Vec<FinishedFile>,
    ) -> Result<Vec<FinishedFile>> {
        let is_planned = |file: &FinishedFile| {
            let mut planned = planned.iter();
            planned.any(|planned| planned.name == file.name && planned.bytes == file.bytes)
        };
        let total = finished.iter().map(|file| file.bytes).sum();
        let mut progress = Progress::new("checking what is finished", Unit::Bytes, total);
        let mut sound = Vec::new();
        for file in finished.into_iter().filter(is_planned) {
            let path = self.unfinished(&file.name);
            let length = fs::metadata(&path).map_or(0, |found| found.len());
            if length == file.bytes && self.sha256(&path, &mut progress)? == file.sha256 {
                sound.push(file);
            }
        }
        Ok(sound)
    }

    fn sha256(&self, path: &Path, progress: &mut Progress) -> Result<String> {
        let mut file = File::open(path).map_err(|e| files::io_error(path, &e))?;
        let mut digest = Sha256::new();
        let mut chunk = vec![0; 1 << 20];
        loop {
            if self.interrupt.pressed() {
                return Err(Error::Aborted);
            }
            let n = file.read(&mut chunk);
            match n.map_err(|e| files::io_error(path, &e))? {
                0 => return Ok(hex::encode(digest.finalize())),
                n => digest.update(&chunk[..n]),
            }
            progress.advance(chunk.len() as u64);
        }
    }

    /// Returns whether an earlier run finished the file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.resumed.iter().any(|file| file.name == name)
    }

    /// Adds a planned file, whose tensors come next out of `pull`, unless an earlier run finished
    /// it. `on_bytes` gets the number of bytes of each piece that is written.
    ///
    /// # Errors
    /// `Io`, `Aborted`, whatever is wrong with a tensor.
    pub fn add_planned(
        &mut self,
        planned: &PlannedFile,
        pull: &mut Pull,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<()> {
        if let Some(file) = self.resumed.iter().find(|file| file.name == planned.name) {
            self.entries.push(FileEntry {
                role: planned.role,
                path: file.name.clone(),
                bytes: file.bytes,
                sha256: file.sha256.clone(),
            });
            return Ok(());
        }
        let path = self.path.join(&planned.name);
        let failed = |e: std::io::Error| files::io_error(&path, &e);
        let mut file = self.open(planned.role, &planned.name)?;
        file.write_all(&planned.head).map_err(failed)?;
        for tensor in &planned.tensors {
            let start = file.mark();
            let mut counted = file.bytes;
            loop {
                match pull.next(&self.interrupt)? {
                    Pulled::Blocks(bytes) => {
                        file.write_all(&bytes).map_err(failed)?;
                        on_bytes(file.bytes.saturating_sub(counted));
                        counted = counted.max(file.bytes);
                    }
                    Pulled::Again => file.go_back(start.clone()).map_err(failed)?,
                    Pulled::End => break,
                }
            }
            let padding = std::io::repeat(0).take(tensor.padding);
            std::io::copy(&mut { padding }, &mut file).map_err(failed)?;
        }
        if file.bytes != planned.bytes {
            let reason = format!("{} bytes came, {} were planned", file.bytes, planned.bytes);
            return Err(Error::Io { reason }.in_file(files::name(&path)));
        }
        self.close(file)?;
        if let (Some(journal), Some(entry)) = (&mut self.journal, self.entries.last()) {
            sync_folder(&self.path);
            journal.add(&FinishedFile {
                name: entry.path.clone(),
                bytes: entry.bytes,
                sha256: entry.sha256.clone(),
            })?;
        }
        Ok(())
    }

    /// Ends a conversion that failed. Finished files stay: they are right whatever went wrong
    /// later, and another run can go on with them.
    pub fn give_up(mut self, error: Error) -> Error {
        let written = self.entries.iter().filter(|entry| !entry.sha256.is_empty());
        let names = written.map(|entry| &entry.path);
        let finished: BTreeSet<_> = names.chain(self.resumed.iter().map(|f| &f.name)).collect();
        let count = finished.len();
        if count == 0 || self.journal.is_none() {
            return error;
        }
        let advice = format!(
            "{count} files are finished in {}: the same command goes on from there, and removing \
             the folder throws them away",
            files::name(&self.path)
        );
        self.stays = true;
        match error {
            Error::Aborted => {
                out::note(&format!("interrupted; {advice}"));
                Error::Aborted
            }
            error => with_advice(error, &advice),
        }
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

    /// Loads what was written, gives all files their names and writes the manifest that `describe`
    /// makes of them. Files of a model that was there before go away.
    ///
    /// The old model stays one until the new manifest takes the place of its own, but for where a
    /// file of the new one is called as a file of the old one and is another: then neither is a
    /// model for a moment, and the next run gives the new one the names that it lacks.
    ///
    /// # Errors
    /// `Io`; whatever keeps the model from being loaded: then nothing is left of it.
    pub fn finish(
        mut self,
        describe: impl FnOnce(Vec<FileEntry>) -> Result<Manifest>,
    ) -> Result<Manifest> {
        let manifest = describe(self.entries.clone())?;
        let json = manifest.to_json()?;
        match self.check(&manifest) {
            Ok(()) => {}
            Err(Error::Aborted) => return Err(self.give_up(Error::Aborted)),
            Err(error) => return Err(error),
        }
        // The list of what this run writes, should it be killed from here on.
        write_whole(&self.unfinished(MANIFEST_NAME), json.as_bytes())?;
        sync_folder(&self.path);
        let path = self.path.join(MANIFEST_NAME);
        let old = fs::read(&path).ok();
        let old = old.and_then(|json| Manifest::parse(&json).ok());
        let old = old.map(|manifest| manifest.files).unwrap_or_default();
        let old_of = |name: &str| old.iter().find(|file| file.path == name);
        for entry in &self.entries {
            if old_of(&entry.path).is_none() {
                rename(&self.unfinished(&entry.path), &self.path.join(&entry.path))?;
                self.renamed.push(entry.path.clone());
            }
        }
        let is_other = |file: &FileEntry| {
            let old = old_of(&file.path);
            old.is_some_and(|old| old.sha256 != file.sha256)
        };
        if self.entries.iter().any(is_other) {
            // Without its manifest the old model is not one any more, so nobody loads half of each.
            fs::remove_file(&path).map_err(|e| files::io_error(&path, &e))?;
            sync_folder(&self.path);
        }
        // What is left from here on is a model, or will be one by the next run.
        self.finished = true;
        name_all(&self.path, &manifest)?;
        for file in &old {
            if !self.entries.iter().any(|new| new.path == file.path) {
                // One that is gone already is no trouble.
                let _ = fs::remove_file(self.path.join(&file.path));
            }
        }
        Ok(manifest)
    }

    /// Loads the model as any program would that gets these files, without a device.
    fn check(&self, manifest: &Manifest) -> Result<()> {
        let mut written = manifest.model_files();
        for file in &mut written {
            file.name = files::name(&self.unfinished(&file.name));
        }
        let written = ModelFiles::new(files::name(&self.path), written);
        let progress = Progress::new("checking the model", Unit::Bytes, written.bytes());
        let load = || {
            let stop = || self.interrupt.pressed();
            let loader = open::loader_until(Blank, &written, progress, &stop)?;
            pollster::block_on(loader.finish(&LoadOptions::default()))
        };
        match load() {
            Ok(_) => Ok(()),
            Err(Error::Aborted) => Err(Error::Aborted),
            Err(error) => {
                let text = error.to_string().replace(UNFINISHED, "");
                let reason = format!("what was made can't be loaded, and was removed: {text}");
                Err(Error::BadFile {
                    format: "model folder",
                    reason,
                })
            }
        }
    }

    fn unfinished(&self, name: &str) -> PathBuf {
        unfinished(&self.path, name)
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
        entry.sha256 = hex::encode(file.sha256.finalize());
        let path = self.path.join(&entry.path);
        let file = file
            .file
            .into_inner()
            .map_err(|e| files::io_error(&path, e.error()))?;
        file.sync_all().map_err(|e| files::io_error(&path, &e))
    }
}

impl Drop for ModelFolder {
    /// What was not finished is of no use, unless another run goes on with it.
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        for name in &self.renamed {
            let _ = fs::remove_file(self.path.join(name));
        }
        for file in &self.entries {
            if !self.stays || file.sha256.is_empty() {
                let _ = fs::remove_file(self.unfinished(&file.path));
            }
        }
        if self.stays {
            return;
        }
        for name in [MANIFEST_NAME.to_string()]
            .iter()
            .chain(self.resumed.iter().map(|file| &file.name))
        {
            let _ = fs::remove_file(self.unfinished(name));
        }
        let _ = fs::remove_file(self.path.join(JOURNAL_NAME));
        if self.is_new {
            // With the lock in it, it is not empty yet.
            let _ = fs::remove_file(self.path.join(LOCK_NAME));
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn with_advice(error: Error, advice: &str) -> Error {
    match error {
        Error::In { file, source } => with_advice(*source, advice).in_file(file),
        Error::Io { reason } => Error::Io {
            reason: format!("{reason}; {advice}"),
        },
        Error::BadFile { format, reason } => Error::BadFile {
            format,
            reason: format!("{reason}; {advice}"),
        },
        error => error,
    }
}

fn unfinished(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{UNFINISHED}"))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| files::io_error(to, &e))
}

/// Gives all files of a model the names that they lack, and the manifest its own, last.
fn name_all(folder: &Path, manifest: &Manifest) -> Result<()> {
    for file in &manifest.files {
        let from = unfinished(folder, &file.path);
        if from.exists() {
            rename(&from, &folder.join(&file.path))?;
        }
    }
    sync_folder(folder);
    rename(
        &unfinished(folder, MANIFEST_NAME),
        &folder.join(MANIFEST_NAME),
    )?;
    // What it notes is finished.
    let _ = fs::remove_file(folder.join(JOURNAL_NAME));
    sync_folder(folder);
    Ok(())
}

/// Gives a model the names that it lacks where a run was killed while it was giving them, and takes
/// away those of a model that is not whole.
fn finish_names(folder: &Path) -> Result<()> {
    let listed = fs::read(unfinished(folder, MANIFEST_NAME)).ok();
    let listed = listed.and_then(|json| Manifest::parse(&json).ok());
    let Some(manifest) = listed else {
        return Ok(());
    };
    let old = fs::read(folder.join(MANIFEST_NAME));
    let is_whole = |file: &FileEntry| {
        let paths = [unfinished(folder, &file.path), folder.join(&file.path)];
        let found = paths.iter().find_map(|path| fs::metadata(path).ok());
        found.is_some_and(|found| found.len() == file.bytes)
    };
    if old.is_err() && manifest.files.iter().all(is_whole) {
        return name_all(folder, &manifest);
    }
    let old = old.ok().and_then(|json| Manifest::parse(&json).ok());
    let old = old.map(|manifest| manifest.files).unwrap_or_default();
    for file in &manifest.files {
        if !old.iter().any(|old| old.path == file.path) {
            let _ = fs::remove_file(folder.join(&file.path));
        }
    }
    let _ = fs::remove_file(unfinished(folder, MANIFEST_NAME));
    Ok(())
}

/// Clears up what a run left that was killed.
fn clear_leftovers(folder: &Path) -> Result<()> {
    let ends = [".gguf", MANIFEST_NAME, "tokenizer.json", "tokenizer.model"];
    for path in files::list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_leftover = name
            .strip_suffix(UNFINISHED)
            .is_some_and(|name| ends.iter().any(|end| name.ends_with(end)));
        if is_leftover || name == JOURNAL_NAME {
            fs::remove_file(&path).map_err(|e| files::io_error(&path, &e))?;
        }
    }
    Ok(())
}

/// Writes a file to the disk, not only to the system's memory.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| files::io_error(path, &e))
}

/// Has the names of a folder's files written to the disk, where the system does that.
fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(path) {
        let _ = folder.sync_all();
    }
}

/// A file that knows its length and digest.
struct HashedFile {
    file: BufWriter<File>,
    sha256: Sha256,
    bytes: u64,
}

impl HashedFile {
    /// Returns what [`HashedFile::go_back`] goes back to.
    fn mark(&self) -> (Sha256, u64) {
        (self.sha256.clone(), self.bytes)
    }

    /// Has what was written since a mark written over.
    fn go_back(&mut self, (sha256, bytes): (Sha256, u64)) -> IoResult<()> {
        self.file.seek(SeekFrom::Start(bytes))?;
        (self.sha256, self.bytes) = (sha256, bytes);
        Ok(())
    }
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
