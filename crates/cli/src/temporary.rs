//! Temporary files, which are gone however the program ends short of being killed.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    mem,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tempfile::NamedTempFile;

/// Those that there are. Taking one out removes it.
static FILES: Mutex<BTreeMap<PathBuf, NamedTempFile>> = Mutex::new(BTreeMap::new());

fn files() -> MutexGuard<'static, BTreeMap<PathBuf, NamedTempFile>> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file with a name, until it is dropped.
pub struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Writes `bytes` to a new file.
    ///
    /// # Errors
    /// What the system says.
    pub fn with(bytes: &[u8]) -> io::Result<TemporaryFile> {
        let mut files = files();
        let mut file = NamedTempFile::new()?;
        let path = file.path().to_owned();
        // Written without the lock, so that nobody waits for it.
        let mut writer = file.as_file_mut().try_clone()?;
        files.insert(path.clone(), file);
        drop(files);
        let file = TemporaryFile(path);
        writer.write_all(bytes)?;
        Ok(file)
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        files().remove(&self.0);
    }
}

/// Removes all of them, where the program ends with nothing dropped. None can be made after it.
pub fn remove_all() {
    let mut files = files();
    files.clear();
    mem::forget(files);
}
