//! One run at a time writes into a folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use univi::{Error, Result};

use crate::files;

/// The file that is locked.
pub const LOCK_NAME: &str = ".univi-lock";

/// Keeps other runs of this program from writing into a folder, until it is dropped or the process
/// ends in whatever way.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    _file: File,
}

impl FolderLock {
    /// Locks a folder that exists.
    ///
    /// # Errors
    /// `BadRequest` where another run has it, `Io` where no file can be made in it.
    pub fn take(folder: &Path) -> Result<FolderLock> {
        let path = folder.join(LOCK_NAME);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(|e| files::io_error(&path, &e))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::BadRequest {
                        reason: format!(
                            "another run of univi writes into {}: wait for it, or name another \
                             folder with --out",
                            files::name(folder)
                        ),
                    });
                }
                // Some file systems of networks have no locks.
                Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(e)) => return Err(files::io_error(&path, &e)),
            }
            // The run before may have removed the file between opening and locking it.
            if is_at(&file, &path) {
                return Ok(FolderLock { path, _file: file });
            }
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// A file that is open can't be removed here.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Still locked: whoever has opened it sees that it is gone, and makes another.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = std::env::temp_dir().join(format!("univi-lock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let first = FolderLock::take(&folder).unwrap();
        let error = FolderLock::take(&folder).unwrap_err();
        assert!(error.to_string().contains("another run"), "{error}");
        drop(first);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        drop(FolderLock::take(&folder).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
