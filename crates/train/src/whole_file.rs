//! Files that are there as a whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use univi::{Error, Result};

/// What the names of files end with that are not whole yet.
const TEMPORARY: &str = ".part";

/// Writes a file through a temporary one beside it, which takes its name when it is on the disk: a
/// break, or a disk that is full, leaves the old one.
///
/// # Errors
/// `Io`, or what `fill` returns.
pub fn write_with(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = temporary(path);
    let on_disk = || {
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)?;
        // The name has to last, too; not every system lets a folder be opened.
        match path.parent().map(File::open) {
            Some(Ok(folder)) => folder.sync_all().or(Ok(())),
            _ => Ok(()),
        }
    };
    let written = fill(&temporary).and_then(|()| on_disk().map_err(|e| io_error(path, &e)));
    if written.is_err() {
        // Nothing is there where it could not even be begun.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes `bytes` as [`write_with`].
///
/// # Errors
/// `Io`.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |temporary| {
        let written = File::create(temporary).and_then(|mut file| file.write_all(bytes));
        written.map_err(|e| io_error(path, &e))
    })
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(TEMPORARY);
    path.with_file_name(name)
}

fn io_error(path: &Path, error: &io::Error) -> Error {
    Error::Io {
        reason: error.to_string(),
    }
    .in_file(path.display().to_string())
}

/// Removes what a program that was killed has left of files in a folder.
///
/// # Errors
/// `Io`.
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|e| io_error(folder, &e))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().ends_with(TEMPORARY) {
            fs::remove_file(entry.path()).map_err(|e| io_error(&entry.path(), &e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_could_not_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, b"old").unwrap();
        let full = write_with(&path, |temporary| {
            fs::write(temporary, b"ne").unwrap();
            Err(Error::Io {
                reason: "no space left on device".into(),
            })
        });
        assert!(full.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn what_was_broken_off_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("a.safetensors.part"), b"half").unwrap();
        fs::write(path.join("b.txt"), b"whole").unwrap();
        remove_unfinished(path).unwrap();
        assert!(!path.join("a.safetensors.part").exists());
        assert!(path.join("b.txt").exists());
    }
}
