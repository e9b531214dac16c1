//! Shared by the tests beside this crate.

pub mod fuzzed;
pub mod llama_vocabulary;
pub mod memory;
pub mod random_checkpoint;
pub mod test_hub;

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use univi::{Error, Gpu, Result};
use univi_verify::{Fixtures, Report};

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

/// All files below a folder, in order of their paths.
///
/// # Panics
/// Where a folder can't be read.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    files
}

/// The fixtures as [`univi_verify`] reads them, but for the LLaMA vocabulary.
pub fn folder() -> Folder {
    Folder { root: fixtures() }
}

/// The fixtures with the LLaMA vocabulary.
///
/// # Panics
/// Where it is neither there nor installed.
pub fn folder_with_vocabulary() -> Folder {
    llama_vocabulary::bring(&fixtures());
    folder()
}

/// A folder of fixtures.
pub struct Folder {
    root: PathBuf,
}

impl Fixtures for Folder {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let file = self.root.join(path);
        std::fs::read(&file).map_err(|e| Error::Io {
            reason: format!("{}: {e}", file.display()),
        })
    }

    fn list(&self) -> Vec<String> {
        let inside = |path: &Path| {
            let inside = path.strip_prefix(&self.root).unwrap();
            inside.to_str().unwrap().replace('\\', "/")
        };
        let files = files_below(&self.root);
        let mut files: Vec<String> = files.iter().map(|path| inside(path)).collect();
        files.sort();
        files
    }

    /// Models are where `UNIVI_MODELS` says, else in this repository's `models`.
    fn model(&self, bytes: u64, sha256: &str) -> Result<Option<Vec<u8>>> {
        let models = match std::env::var_os("UNIVI_MODELS") {
            Some(folder) => PathBuf::from(folder),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../models"),
        };
        let entries = std::fs::read_dir(&models).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let length = std::fs::metadata(&path).map_or(0, |m| m.len());
            if length == bytes {
                let mut file = Vec::new();
                let read = std::fs::File::open(&path).and_then(|mut f| f.read_to_end(&mut file));
                if read.is_ok() && hex::encode(Sha256::digest(&file)) == sha256 {
                    return Ok(Some(file));
                }
            }
        }
        Err(Error::Io {
            reason: format!(
                "{}: the model of SHA-256 {sha256} is not there; `cargo xtask models` brings it",
                models.display()
            ),
        })
    }
}

/// Demands that a report passed in full, and that it made at least `cases` comparisons: a run
/// that found no fixtures has shown nothing.
///
/// # Panics
/// Otherwise.
pub fn assert_report(report: &Report, cases: usize) {
    let failures: Vec<String> = report
        .failures()
        .map(|case| {
            format!(
                "{}: error {}, tolerance {}. {}",
                case.name, case.error, case.tolerance, case.detail
            )
        })
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(report.missing.is_empty(), "{:#?}", report.missing);
    assert!(
        report.cases.len() >= cases,
        "{} comparisons were made, at least {cases} were expected: are the fixtures there?",
        report.cases.len()
    );
}

/// The GPU backend.
///
/// # Panics
/// On a machine without any GPU; software will do, and `cargo xtask setup` brings it.
pub fn gpu() -> Gpu {
    pollster::block_on(Gpu::new(Default::default())).expect("a GPU, be it software")
}

/// A test on every backend for each function of this name, which takes the backend.
#[macro_export]
macro_rules! on_every_backend {
    ($($test:ident),* $(,)?) => {
        mod cpu {
            $(
                #[test]
                fn $test() {
                    super::$test(univi::Cpu);
                }
            )*
        }

        mod gpu {
            $(
                #[test]
                fn $test() {
                    super::$test($crate::gpu());
                }
            )*
        }
    };
}
