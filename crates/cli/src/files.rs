//! Files as the user names them, with errors that name them too.

use std::{
    fs::{File, Metadata},
    io::{Error as IoError, Read},
    path::{Path, PathBuf},
};

use univi::{Error, Result, constraint::Schema, image::Rgb8};
use univi_train::whole_file;

use crate::args::STDIN;

/// The most bytes of a picture: an uncompressed one of the largest size that is decoded.
const MAX_PICTURE_BYTES: u64 = univi::image::MAX_PIXELS * 4 + (1 << 20);

/// The most bytes of a JSON schema.
const MAX_SCHEMA_BYTES: u64 = 4 << 20;

/// Bytes that show what a file is.
const START_BYTES: u64 = 4096;

/// Returns how `path` stands in messages.
pub fn name(path: &Path) -> String {
    path.display().to_string()
}

/// Makes an error of what the operating system reports about `path`.
pub fn io_error(path: &Path, error: &IoError) -> Error {
    let name = name(path);
    let io = |reason: String| Error::Io { reason };
    match name.split_once("://") {
        // Never quoted whole: a password or a token may be part of it.
        Some((scheme, rest)) if ["http", "https"].contains(&scheme) => {
            let end = rest.find(['?', '#']).unwrap_or(rest.len());
            let host = rest[..end]
                .split_once('@')
                .map_or(&rest[..end], |(_, host)| host);
            let reason = "is a web address; univi reads files: download it first";
            io(reason.into()).in_file(format!("{scheme}://{host}"))
        }
        _ => io(error.to_string()).in_file(name),
    }
}

/// Returns whether `path` is a file or a folder, and how large.
///
/// # Errors
/// `Io` where it is not there.
pub fn metadata(path: &Path) -> Result<Metadata> {
    std::fs::metadata(path).map_err(|e| io_error(path, &e))
}

/// Reads all of a file.
///
/// # Errors
/// `Io` where it can't be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| io_error(path, &e))
}

/// Lists what lies in a folder, in no order.
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
    let read = || {
        let file = File::open(path).map_err(|e| io_error(path, &e))?;
        let bytes = read_up_to(file, MAX_SCHEMA_BYTES).map_err(|e| io_error(path, &e))?;
        let bytes = bytes.ok_or_else(|| Error::BadRequest {
            reason: format!("is longer than {MAX_SCHEMA_BYTES} bytes, which no JSON schema is"),
        })?;
        Schema::parse(&String::from_utf8_lossy(&bytes))
    };
    read().map_err(|e| match e {
        Error::In { .. } => e,
        e => e.in_file(name(path)),
    })
}

/// Reads and decodes a picture; `-` is one on stdin.
///
/// What a file is shows in its first bytes: one that is no picture is not read further, however
/// long it is.
///
/// # Errors
/// `Io` where it can't be read, `BadImage` where it is no picture.
pub fn picture(path: &Path) -> Result<Rgb8> {
    let bad = |reason: &str| Error::BadImage {
        reason: reason.into(),
    };
    let is_stdin = path.as_os_str() == STDIN;
    let shown = if is_stdin { "stdin".into() } else { name(path) };
    let failed = |e: IoError| match is_stdin {
        true => Error::Io {
            reason: e.to_string(),
        }
        .in_file("stdin"),
        false => io_error(path, &e),
    };
    let mut known_bytes = 0;
    let mut source: Box<dyn Read> = match is_stdin {
        true => Box::new(std::io::stdin().lock()),
        false => {
            let file = File::open(path).map_err(failed)?;
            known_bytes = file.metadata().map_err(failed)?.len();
            Box::new(file)
        }
    };
    let mut bytes = Vec::new();
    let start = source.by_ref().take(START_BYTES).read_to_end(&mut bytes);
    start.map_err(failed)?;
    if is_video(&bytes) {
        let reason = format!("is a video: show it with --video {shown}, or /video {shown}");
        return Err(bad(&reason).in_file(shown));
    }
    univi::image::check_format(&bytes).map_err(|e| e.in_file(shown.clone()))?;
    let too_long = || bad("is longer than any picture that is read").in_file(shown.clone());
    if known_bytes > MAX_PICTURE_BYTES {
        return Err(too_long());
    }
    let rest = read_up_to(source, MAX_PICTURE_BYTES).map_err(failed)?;
    bytes.extend(rest.ok_or_else(too_long)?);
    Rgb8::decode(&bytes).map_err(|e| e.in_file(shown))
}

/// Returns whether a file begins as a video does: MP4 and MOV, Matroska and WebM, AVI.
pub fn is_video(start: &[u8]) -> bool {
    let at = |offset: usize, tag: &[u8]| start.get(offset..).is_some_and(|s| s.starts_with(tag));
    let is_picture_in_mp4 = [&b"avif"[..], b"avis", b"heic", b"heix", b"mif1", b"msf1"]
        .iter()
        .any(|brand| at(8, brand));
    (at(4, b"ftyp") && !is_picture_in_mp4)
        || at(0, b"\x1a\x45\xdf\xa3")
        || (at(0, b"RIFF") && at(8, b"AVI "))
}

/// Whether a file that begins like this is text: a list of other files, a page, a document.
pub fn is_text(start: &[u8]) -> bool {
    let utf16 = start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff");
    let complete = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The last character may be cut.
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(&start[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return utf16,
    };
    let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\x0c');
    !complete.is_empty() && complete.chars().all(is_plain)
}

/// Reads the first bytes of a file.
///
/// # Errors
/// `Io` where it can't be read.
pub fn start(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| io_error(path, &e))?;
    let read = file.take(START_BYTES).read_to_end(&mut bytes);
    read.map(|_| bytes).map_err(|e| io_error(path, &e))
}

/// Reads to the end; `None` where that is further than `max_bytes`.
pub fn read_up_to(source: impl Read, max_bytes: u64) -> Result<Option<Vec<u8>>, IoError> {
    let mut bytes = Vec::new();
    source.take(max_bytes + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max_bytes).then_some(bytes))
}

/// Writes a file whole or not at all: an older one stays as it is until the new one is on the disk.
///
/// # Errors
/// `Io` where it can't be written, for instance because the disk is full.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    whole_file::write(path, bytes).map_err(|e| io_error(path, &e))
}
