//! Python packages that tests and benchmarks call.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::cmd;

/// Installs what `list` names into `folder`, unless that very list was installed there last.
pub fn install(list: &Path, folder: &Path) -> Result<()> {
    let wanted = fs::read(list).with_context(|| format!("cannot read {}", list.display()))?;
    let stamp = folder.join(".installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("Python packages: pip install in {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    cmd("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .arg("--target")
        .arg(folder)
        .arg("--requirement")
        .arg(list)
        .remedy("check that pip reaches its package index, then run this again")
        .run()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}
