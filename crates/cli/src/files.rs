//! Files as the user names them, with errors that name them too.

use std::{
    fs::Metadata,
    io::Error as IoError,
    path::{Path, PathBuf},
};

use univi::{Error, Result, constraint::Schema, image::Rgb8};

/// How `path` stands in messages.
pub fn name(path: &Path) -> String {
    path.display().to_string()
}

/// What the operating system said about `path`.
pub fn io_error(path: &Path, error: &IoError) -> Error {
    Error::Io {
        reason: error.to_string(),
    }
    .in_file(name(path))
}

/// Whether `path` is a file or a folder, and how large.
///
/// # Errors
/// `Io` where it is not there.
pub fn metadata(path: &Path) -> Result<Metadata> {
    std::fs::metadata(path).map_err(|e| io_error(path, &e))
}

/// All of a file.
///
/// # Errors
/// `Io` where it can't be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| io_error(path, &e))
}

/// What lies in a folder, in no order.
///
/// # Errors
/// `Io` where it can't be read.
pub fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).map_err(|e| io_error(path, &e))?;
    entries
        .map(|entry| {
            entry
                .map(|entry| entry.path())
                .map_err(|e| io_error(path, &e))
        })
        .collect()
}

/// Reads a JSON schema.
///
/// # Errors
/// `Io` where it can't be read, `BadRequest` where it can't be used.
pub fn schema(path: &Path) -> Result<Schema> {
    let schema = Schema::parse(&String::from_utf8_lossy(&read(path)?));
    schema.map_err(|e| e.in_file(name(path)))
}

/// Reads and decodes a picture.
///
/// # Errors
/// `Io` where it can't be read, `BadImage` where it is no picture.
pub fn picture(path: &Path) -> Result<Rgb8> {
    Rgb8::decode(&read(path)?).map_err(|e| e.in_file(name(path)))
}
