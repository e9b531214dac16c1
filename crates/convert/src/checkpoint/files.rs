//! The folder that a checkpoint is.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use univi::{
    Error, Result,
    signature::{SIGNATURE_BYTES, Signature, impostor},
};

pub(super) const CONFIG_NAME: &str = "config.json";

/// The files of a folder. The caller has the disk, the network, or bytes in memory.
///
/// What is read to plan a conversion follows from these files alone, and is little: small files
/// whole, and of each file of weights its head, and for archives its tail, in one range each. So a
/// caller that can't wait inside [`Files::read`] may fail there, fetch the range that was missing,
/// and plan again.
pub trait Files: Sync {
    /// Length of the file of this name, which has no `/` in it; `None` where there is none.
    ///
    /// # Errors
    /// `Io`.
    fn len(&self, name: &str) -> Result<Option<u64>>;

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `Io`, also where the file is shorter.
    fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<()>;
}

impl Files for BTreeMap<String, Vec<u8>> {
    fn len(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.get(name).map(|bytes| bytes.len() as u64))
    }

    fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        let bytes = self.get(name).and_then(|bytes| {
            let start = usize::try_from(offset).ok()?;
            bytes.get(start..start.checked_add(out.len())?)
        });
        let bytes = bytes.ok_or_else(|| {
            let reason = format!("there are no {} bytes at {offset}", out.len());
            Error::Io { reason }.in_file(name)
        })?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}

/// Bytes that are read at once where a file begins: for most files all that describes its tensors.
const HEAD_BYTES: u64 = 256 << 10;

/// Bytes that are read at once where a file ends: an archive's directory and what follows it.
const TAIL_BYTES: u64 = 128 << 10;

/// A file of which both ends are read, each in one range.
pub(super) struct Ends<'a> {
    pub file: &'a str,
    pub len: u64,
    files: &'a dyn Files,
    head: Vec<u8>,
    /// What was read of the end: most files need none of it.
    tail: Option<Vec<u8>>,
}

impl<'a> Ends<'a> {
    /// Reads the head of a file of `len` bytes.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(files: &'a dyn Files, file: &'a str, len: u64) -> Result<Ends<'a>> {
        let mut head = vec![0; len.min(HEAD_BYTES) as usize];
        files.read(file, 0, &mut head)?;
        Ok(Ends {
            file,
            len,
            files,
            head,
            tail: None,
        })
    }

    /// Returns the first bytes of the file, at best [`SIGNATURE_BYTES`] of it.
    pub fn signature(&self) -> &[u8] {
        &self.head[..self.head.len().min(SIGNATURE_BYTES)]
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `Io`, also where the file is shorter.
    pub fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        let of = |bytes: &[u8], start: u64| {
            let from = usize::try_from(offset.checked_sub(start)?).ok()?;
            let bytes = bytes.get(from..from.checked_add(out.len())?)?;
            Some(bytes.to_vec())
        };
        let tail_start = self.len.saturating_sub(TAIL_BYTES);
        let mut found = of(&self.head, 0);
        if found.is_none() && offset >= tail_start && offset < self.len {
            let tail = match self.tail.take() {
                Some(tail) => tail,
                None => {
                    let mut tail = vec![0; (self.len - tail_start) as usize];
                    self.files.read(self.file, tail_start, &mut tail)?;
                    tail
                }
            };
            found = of(&tail, tail_start);
            self.tail = Some(tail);
        }
        match found {
            Some(bytes) => {
                out.copy_from_slice(&bytes);
                Ok(())
            }
            None => self.files.read(self.file, offset, out),
        }
    }
}

/// JSON and vocabularies are smaller than this; what is larger is something else.
const MAX_SMALL_BYTES: u64 = 64 << 20;

/// Refuses a file of the checkpoint that starts like a well-known kind of something else.
pub(super) fn refuse_impostor(start: &[u8], expected: Option<Signature>) -> Result<()> {
    match impostor(start, expected) {
        None => Ok(()),
        Some(advice) => Err(Error::BadFile {
            format: "checkpoint",
            reason: format!("this {advice}"),
        }),
    }
}

/// All of a small file.
pub(super) fn read_small(files: &dyn Files, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(len) = files.len(name)? else {
        return Ok(None);
    };
    if len > MAX_SMALL_BYTES {
        let reason = format!("has {len} bytes, expected at most {MAX_SMALL_BYTES}");
        return Err(Error::BadFile {
            format: "checkpoint",
            reason,
        }
        .in_file(name));
    }
    let mut bytes = vec![0; len as usize];
    files.read(name, 0, &mut bytes)?;
    let expected = name.ends_with(".json").then_some(Signature::Json);
    refuse_impostor(&bytes, expected).map_err(|e| e.in_file(name))?;
    Ok(Some(bytes))
}

/// A small JSON file, if it is there.
pub(super) fn read_json<T: DeserializeOwned>(files: &dyn Files, name: &str) -> Result<Option<T>> {
    let Some(bytes) = read_small(files, name)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::BadFile {
            format: "JSON",
            reason: e.to_string(),
        }
        .in_file(name)
    })
}
