//! What a repository holds at one commit, as the Hub lists it.

use std::collections::BTreeMap;

use serde::Deserialize;
use univi::{Error, Result};

use crate::address::is_safe_path;

/// More files than any repository of a model has.
const MAX_FILES: usize = 200_000;

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// From the repository's root, with `/` between the parts.
    pub path: String,
    /// The length.
    pub bytes: u64,
    /// SHA-256 of the bytes, in lower-case hexadecimal digits, where the Hub says it: for all large
    /// files.
    pub sha256: Option<String>,
    /// What the file is called in the cache: another name for other contents. It is `sha256`, else
    /// what Git calls the contents.
    pub(crate) etag: String,
}

/// What `/api/models/NAME/revision/REVISION` answers.
#[derive(Deserialize)]
pub(crate) struct RevisionAnswer {
    pub sha: String,
}

/// An entry of what `/api/models/NAME/tree/COMMIT` answers.
#[derive(Deserialize)]
pub(crate) struct TreeEntry {
    r#type: String,
    oid: String,
    #[serde(default)]
    size: u64,
    path: String,
    lfs: Option<LfsEntry>,
}

#[derive(Deserialize)]
struct LfsEntry {
    oid: String,
    size: u64,
}

fn bad(reason: String) -> Error {
    Error::BadFile {
        format: "listing of the Hub",
        reason,
    }
}

/// Whether a text is what a commit or a digest is called.
pub(crate) fn is_digest(text: &str) -> bool {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (7..=64).contains(&text.len()) && text.bytes().all(is_digit)
}

/// Adds a page of a listing to those before it.
///
/// # Errors
/// `BadFile` for entries that can't be trusted.
pub(crate) fn add_page(
    files: &mut BTreeMap<String, RemoteFile>,
    page: Vec<TreeEntry>,
) -> Result<()> {
    for entry in page.into_iter().filter(|entry| entry.r#type == "file") {
        let TreeEntry {
            path,
            oid,
            size,
            lfs,
            ..
        } = entry;
        if !is_safe_path(&path) {
            return Err(bad(format!(
                "names a file {path:?}, which leaves the folder"
            )));
        }
        let sha256 = lfs.as_ref().map(|lfs| {
            let digest = lfs.oid.strip_prefix("sha256:").unwrap_or(&lfs.oid);
            digest.to_ascii_lowercase()
        });
        let etag = sha256.clone().unwrap_or(oid);
        let is_sha256 = sha256.as_ref().is_none_or(|digest| digest.len() == 64);
        if !is_digest(&etag) || !is_sha256 {
            return Err(bad(format!(
                "{path} has the digest {etag:?}, which is none"
            )));
        }
        let file = RemoteFile {
            path: path.clone(),
            bytes: lfs.map_or(size, |lfs| lfs.size),
            sha256,
            etag,
        };
        files.insert(path, file);
        if files.len() > MAX_FILES {
            return Err(bad(format!("names more than {MAX_FILES} files")));
        }
    }
    Ok(())
}
