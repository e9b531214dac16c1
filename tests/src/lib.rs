//! Shared by the tests beside this crate.

use std::path::{Path, PathBuf};

/// The fixtures: the folder that `UNIVI_FIXTURES` names, else the one in this repository.
pub fn fixtures() -> PathBuf {
    match std::env::var_os("UNIVI_FIXTURES") {
        Some(root) => root.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"),
    }
}

/// The files of a folder whose names end with `suffix`, in order of their names.
///
/// # Panics
/// Where the folder can't be read.
pub fn files_in(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file() && path.to_string_lossy().ends_with(suffix));
    files.sort();
    files
}
