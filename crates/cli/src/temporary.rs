//! Temporary files, which are gone however the program ends short of being killed.

use std::{
    collections::BTreeSet,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tempfile::NamedTempFile;

/// Those that there are.
static PATHS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A file with a name, until it is dropped.
pub struct TemporaryFile(NamedTempFile);

impl TemporaryFile {
    /// Writes `bytes` to a new file.
    ///
    /// # Errors
    /// What the system says.
    pub fn with(bytes: &[u8]) -> io::Result<TemporaryFile> {
        let mut paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = TemporaryFile(NamedTempFile::new()?);
        paths.insert(file.path().to_owned());
        drop(paths);
        file.0.write_all(bytes)?;
        Ok(file)
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let mut paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
        paths.remove(self.path());
    }
}

/// Removes all of them, where the program ends with nothing dropped. None can be made after it.
pub fn remove_all() {
    let paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
    for path in paths.iter() {
        // It goes with the system's own cleaning, then.
        let _ = fs::remove_file(path);
    }
    std::mem::forget(paths);
}
