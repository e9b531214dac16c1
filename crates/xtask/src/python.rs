//! Python packages that tests call: clients that people have.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::cmd;

/// Installs what `tests/web/requirements.txt` names into `tests/python`, unless that very list was
/// installed last.
pub fn install(root: &Path) -> Result<()> {
    let list = root.join("tests/web/requirements.txt");
    let wanted = fs::read(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let folder = root.join("tests/python");
    let stamp = folder.join(".installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("Python packages: pip install in {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder)
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
        .arg(&folder)
        .arg("--requirement")
        .arg(&list)
        .remedy("check that pip reaches its package index, then run this again")
        .run()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}
