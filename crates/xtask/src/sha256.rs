//! SHA-256 in the form that manifests and fixtures write it.

use sha2::{Digest, Sha256};

/// The digest of `bytes` as 64 lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
