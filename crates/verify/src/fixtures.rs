//! Where fixtures come from, and what is in their folders.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use univi::{Error, Result};

/// Where fixtures come from: a folder, or what a page fetched.
pub trait Fixtures {
    /// The bytes of one file, named as [`list`](Fixtures::list) names it.
    ///
    /// # Errors
    /// `Io` where there is no such file.
    fn read(&self, path: &str) -> Result<Vec<u8>>;

    /// Every file below the root, as paths with `/`.
    fn list(&self) -> Vec<String>;

    /// A real model, too large to lie among the fixtures, which name it by its length and
    /// SHA-256 (hexadecimal). `None` where nobody said where models are.
    ///
    /// # Errors
    /// `Io` where models are, but not this one: how to get it.
    fn model(&self, bytes: u64, sha256: &str) -> Result<Option<Vec<u8>>> {
        let _ = (bytes, sha256);
        Ok(None)
    }

    /// Whether somebody wants to know of cases whose names begin so. Long ones are left out where
    /// nobody does; of others, more may be told than was asked for.
    fn wants(&self, begin: &str) -> bool {
        let _ = begin;
        true
    }
}

/// Returns the folders, each with its closing `/` or empty, in which `file` lies: `golden/` for a
/// `file` of `sampling/frame_indices.json`.
pub fn folders_with(fixtures: &dyn Fixtures, file: &str) -> Vec<String> {
    let is_folder = |folder: &&str| folder.is_empty() || folder.ends_with('/');
    let mut folders: Vec<String> = fixtures
        .list()
        .iter()
        .filter_map(|path| path.strip_suffix(file).filter(is_folder).map(String::from))
        .collect();
    folders.sort();
    folders
}

/// The files right in `folder`, which ends with `/`, as a checkpoint is read from.
pub(crate) fn files_of_folder(
    fixtures: &dyn Fixtures,
    folder: &str,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for path in fixtures.list() {
        if let Some(name) = path.strip_prefix(folder).filter(|name| !name.contains('/')) {
            files.insert(name.to_string(), fixtures.read(&path)?);
        }
    }
    Ok(files)
}

/// Reads a JSON fixture.
///
/// # Errors
/// `Io` where it is not there, `BadFile` where it is not of the documented layout.
pub fn read_json<T: DeserializeOwned>(fixtures: &dyn Fixtures, path: &str) -> Result<T> {
    serde_json::from_slice(&fixtures.read(path)?).map_err(|e| {
        Error::BadFile {
            format: "fixture",
            reason: e.to_string(),
        }
        .in_file(path)
    })
}

/// What to say of a fixture that is not as its README describes it.
pub(crate) fn wrong_layout(what: &str, expected: &str) -> Error {
    Error::BadFile {
        format: "fixture",
        reason: format!("{what}: expected {expected}"),
    }
}
