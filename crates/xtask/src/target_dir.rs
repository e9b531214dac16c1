//! Where cargo puts what it builds.

use std::path::{Path, PathBuf};

/// The folder of this checkout, or the one that the environment names.
pub fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from)
}
