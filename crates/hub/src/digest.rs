//! What the Hub says that a file's bytes are.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::listing::RemoteFile;

/// The digest of a file, as it is read.
#[derive(Clone)]
pub(crate) enum FileDigest {
    /// Of large files.
    Sha256(Sha256),
    /// What Git calls a file of these contents: SHA-1 behind a header with the length.
    GitBlob(Sha1),
    /// Of a file whose digest in the listing is none that is known.
    Unknown,
}

impl FileDigest {
    /// Begins the digest that the listing has of a file.
    pub fn of(file: &RemoteFile) -> FileDigest {
        if file.sha256.is_some() {
            return FileDigest::Sha256(Sha256::new());
        }
        if file.etag.len() != 40 {
            return FileDigest::Unknown;
        }
        let mut sha1 = Sha1::new();
        sha1.update(format!("blob {}\0", file.bytes));
        FileDigest::GitBlob(sha1)
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            FileDigest::Sha256(digest) => digest.update(bytes),
            FileDigest::GitBlob(digest) => digest.update(bytes),
            FileDigest::Unknown => {}
        }
    }

    /// Returns what the digest is called, and its digits; `None` where it is not known.
    pub fn finish(self) -> Option<(&'static str, String)> {
        match self {
            FileDigest::Sha256(digest) => Some(("SHA-256", hex::encode(digest.finalize()))),
            FileDigest::GitBlob(digest) => Some(("Git's SHA-1", hex::encode(digest.finalize()))),
            FileDigest::Unknown => None,
        }
    }
}
