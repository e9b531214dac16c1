//! Files that are there as a whole or not at all.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// What the names of files end with that are not whole yet.
const TEMPORARY: &str = ".part";

/// Writes a file through a temporary one beside it, which takes its name once it is on the disk: a
/// break, or a full disk, leaves the old one. A link stays a link, and permissions stay as they
/// are. A device or a pipe can only be written to as it is.
///
/// # Errors
/// What `fill` returns, and what `io_error` makes of the operating system's errors.
pub fn write_with<E>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
    io_error: impl Fn(io::Error) -> E,
) -> Result<(), E> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let old = fs::metadata(path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return fill(path);
    }
    let temporary = temporary(path).map_err(&io_error)?;
    let on_disk = || {
        let file = File::options().write(true).open(&temporary)?;
        if let Some(old) = &old {
            file.set_permissions(old.permissions())?;
        }
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, path)?;
        // The name has to last, too; not every system lets a folder be opened.
        match path.parent().map(File::open) {
            Some(Ok(folder)) => folder.sync_all().or(Ok(())),
            _ => Ok(()),
        }
    };
    let written = fill(&temporary).and_then(|()| on_disk().map_err(&io_error));
    if written.is_err() {
        // Nothing is there where it could not even be begun.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes `bytes` as [`write_with`].
///
/// # Errors
/// What the operating system reports.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fill = |temporary: &Path| File::create(temporary)?.write_all(bytes);
    write_with(path, fill, |e| e)
}

/// A name beside `path` that no other process takes.
fn temporary(path: &Path) -> io::Result<PathBuf> {
    let file_name = path.file_name();
    let file_name = file_name.ok_or_else(|| io::Error::from(ErrorKind::IsADirectory))?;
    let mut name = OsString::from(".");
    name.push(file_name);
    name.push(format!(".{}{TEMPORARY}", std::process::id()));
    Ok(path.with_file_name(name))
}

/// Removes what a program that was killed has left of files in a folder.
///
/// # Errors
/// What the operating system reports.
pub fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_name().to_string_lossy().ends_with(TEMPORARY) {
            fs::remove_file(entry.path())?;
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
        let fill = |temporary: &Path| {
            fs::write(temporary, b"ne").unwrap();
            Err(io::Error::from(ErrorKind::StorageFull))
        };
        assert!(write_with(&path, fill, |e| e).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(write(folder.path(), b"a folder").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let [path, link] = ["a.txt", "link"].map(|name| folder.path().join(name));
        fs::write(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("a.txt", &link).unwrap();
        write(&link, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        write(Path::new("/dev/null"), b"gone").unwrap();
    }

    #[test]
    fn what_was_broken_off_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let left = temporary(&path.join("a.safetensors")).unwrap();
        fs::write(&left, b"half").unwrap();
        fs::write(path.join("b.txt"), b"whole").unwrap();
        remove_unfinished(path).unwrap();
        assert!(!left.exists());
        assert!(path.join("b.txt").exists());
    }
}
