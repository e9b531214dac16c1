//! The folder that a checkpoint is.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use univi::{
    Error, Result,
    signature::{Signature, impostor},
};

pub(super) const CONFIG_NAME: &str = "config.json";

/// The files of a folder. The caller has the disk, the network, or bytes in memory.
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
