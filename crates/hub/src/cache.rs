//! Files of the Hub on the disk: in the cache, as the Hub's own tools lay it out, or in a folder.
//!
//! ```text
//! models--OWNER--NAME/refs/REVISION              the commit, as text
//! models--OWNER--NAME/blobs/ETAG                 the bytes; ETAG.incomplete while they come
//! models--OWNER--NAME/snapshots/COMMIT/PATH      a link to them
//! ```
//!
//! A file that comes has the digest of its contents in its name, so that what is there of it is
//! always of the right one, and the rest is fetched, whichever run began.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Error as IoError, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use univi::{Error, Result};

use crate::{
    HubAddress, HubSettings,
    digest::FileDigest,
    listing::{RemoteFile, is_digest},
    repository::Repository,
};

/// What the name of a file ends with that is not whole.
const INCOMPLETE: &str = "incomplete";

/// Gets the number of bytes of a file that are there by now.
type OnProgress<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

fn io_error(path: &Path, error: &IoError) -> Error {
    let reason = error.to_string();
    Error::Io { reason }.in_file(path.display().to_string())
}

fn repository_folder(settings: &HubSettings, address: &HubAddress) -> PathBuf {
    let name = address.repository.replace('/', "--");
    settings.cache.join(format!("models--{name}"))
}

impl HubSettings {
    /// Returns the folder of the cache that has files of a repository's revision, without asking
    /// the Hub; `None` where there is none. Not all files of the revision need be there.
    pub fn cached(&self, address: &HubAddress) -> Option<PathBuf> {
        let folder = repository_folder(self, address);
        let snapshots = folder.join("snapshots");
        let revision = address.revision();
        if is_digest(revision) && snapshots.join(revision).is_dir() {
            return Some(snapshots.join(revision));
        }
        let commit = fs::read_to_string(folder.join("refs").join(revision)).ok()?;
        let commit = commit.trim();
        let snapshot = snapshots.join(commit);
        (is_digest(commit) && snapshot.is_dir()).then_some(snapshot)
    }
}

impl Repository {
    /// Returns the folder of the cache that the files of this commit have their paths in.
    pub fn snapshot(&self) -> PathBuf {
        let folder = repository_folder(self.hub.settings(), &self.address);
        folder.join("snapshots").join(&self.commit)
    }

    /// Returns whether a file is in the cache.
    pub fn is_cached(&self, file: &RemoteFile) -> bool {
        has_length(&self.snapshot().join(&file.path), file.bytes)
    }

    /// Downloads a file into the cache, unless it is there, and returns its path. `on_progress`
    /// gets the number of bytes that are there by now, and may end the download.
    ///
    /// # Errors
    /// `Io` of the Hub or the disk, `BadFile` for a wrong hash, `BadRequest` where another run
    /// downloads the same file, those of `on_progress`.
    pub fn download(&self, file: &RemoteFile, on_progress: OnProgress<'_>) -> Result<PathBuf> {
        let path = self.snapshot().join(&file.path);
        if !self.is_cached(file) {
            let folder = repository_folder(self.hub.settings(), &self.address);
            let blob = folder.join("blobs").join(&file.etag);
            if !has_length(&blob, file.bytes) {
                let incomplete = blob.with_file_name(format!("{}.{INCOMPLETE}", file.etag));
                self.fetch(file, &incomplete, on_progress)?;
                fs::rename(&incomplete, &blob).map_err(|e| io_error(&blob, &e))?;
            }
            link(&blob, &path, file)?;
            self.note_revision(&folder)?;
        }
        on_progress(file.bytes)?;
        Ok(path)
    }

    /// Downloads a file into a folder, unless it is there, and returns its path.
    ///
    /// # Errors
    /// As [`Repository::download`].
    pub fn download_into(
        &self,
        folder: &Path,
        file: &RemoteFile,
        on_progress: OnProgress<'_>,
    ) -> Result<PathBuf> {
        let path = folder.join(&file.path);
        if !self.is_same(&path, file)? {
            let start = &file.etag[..file.etag.len().min(16)];
            let mut name = path.file_name().unwrap_or_default().to_os_string();
            name.push(format!(".{start}.{INCOMPLETE}"));
            let incomplete = path.with_file_name(name);
            self.fetch(file, &incomplete, on_progress)?;
            fs::rename(&incomplete, &path).map_err(|e| io_error(&path, &e))?;
        }
        on_progress(file.bytes)?;
        Ok(path)
    }

    /// Whether a file is what the Hub has. One whose digest is not known is small, and fetched
    /// again.
    fn is_same(&self, path: &Path, file: &RemoteFile) -> Result<bool> {
        let digest = FileDigest::of(file);
        if matches!(digest, FileDigest::Unknown) || !has_length(path, file.bytes) {
            return Ok(false);
        }
        let mut opened = File::open(path).map_err(|e| io_error(path, &e))?;
        let (digest, _) = read_into(digest, &mut opened).map_err(|e| io_error(path, &e))?;
        Ok(self.check_hash(file, digest).is_ok())
    }

    /// Brings a file to its full length, and checks it.
    fn fetch(&self, file: &RemoteFile, path: &Path, on_progress: OnProgress<'_>) -> Result<()> {
        let failed = |e: IoError| io_error(path, &e);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| io_error(folder, &e))?;
        }
        let opened = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path);
        let mut out = opened.map_err(failed)?;
        match out.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let reason = "another program downloads it: wait for it".into();
                return Err(Error::BadRequest { reason }.in_file(self.name_of(&file.path)));
            }
            // Some file systems of networks have no locks.
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let none = FileDigest::of(file);
        let (mut digest, mut done) = read_into(none.clone(), &mut out).map_err(failed)?;
        if done > file.bytes {
            out.set_len(0).map_err(failed)?;
            (digest, done) = (none, 0);
        }
        on_progress(done)?;
        self.read(file, done, file.bytes - done, &mut |bytes| {
            out.write_all(bytes).map_err(failed)?;
            digest.update(bytes);
            done += bytes.len() as u64;
            on_progress(done)
        })?;
        if let Err(error) = self.check_hash(file, digest) {
            // Nothing of it is good for a next try.
            let _ = fs::remove_file(path);
            return Err(error);
        }
        out.sync_all().map_err(failed)
    }

    /// Notes which commit the revision is, for whoever asks without a network.
    fn note_revision(&self, folder: &Path) -> Result<()> {
        let revision = self.address.revision();
        if revision == self.commit {
            return Ok(());
        }
        let path = folder.join("refs").join(revision);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|e| io_error(parent, &e))?;
        fs::write(&path, &self.commit).map_err(|e| io_error(&path, &e))
    }
}

fn has_length(path: &Path, bytes: u64) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == bytes)
}

/// Adds what is there of a file to a digest -> that, and its length.
fn read_into(mut digest: FileDigest, file: &mut File) -> Result<(FileDigest, u64), IoError> {
    let mut bytes = 0;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((digest, bytes)),
            n => {
                digest.update(&chunk[..n]);
                bytes += n as u64;
            }
        }
    }
}

/// Gives a blob its path in a snapshot: a link, or where links can't be made, the file itself.
fn link(blob: &Path, path: &Path, file: &RemoteFile) -> Result<()> {
    let failed = |e: IoError| io_error(path, &e);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| io_error(folder, &e))?;
    }
    // A link to nowhere, or a file of another length.
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    if symlink(&file.path, blob, path).is_ok() {
        return Ok(());
    }
    fs::rename(blob, path).map_err(failed)
}

/// From `snapshots/COMMIT/a/b` up to where `blobs` is.
#[cfg(unix)]
fn symlink(name: &str, blob: &Path, path: &Path) -> Result<(), IoError> {
    let mut target = PathBuf::from("../..");
    target.extend(name.matches('/').map(|_| ".."));
    target.push("blobs");
    target.push(blob.file_name().unwrap_or_default());
    std::os::unix::fs::symlink(target, path)
}

/// Links want a privilege there that few have.
#[cfg(not(unix))]
fn symlink(_: &str, _: &Path, _: &Path) -> Result<(), IoError> {
    Err(ErrorKind::Unsupported.into())
}
