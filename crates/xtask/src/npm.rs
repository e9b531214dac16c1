//! npm packages: the browsers' and Node's side of build and tests, pinned by `package-lock.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::{Cmd, cmd};

/// Vite and playwright-core ask for at least this.
const NODE_OLDEST: u32 = 20;

/// Installs what the lock file in a folder names, unless that very lock file was installed last.
pub fn install(folder: &Path) -> Result<()> {
    let version = cmd("node").arg("--version").probe().unwrap_or_default();
    let major = version
        .trim()
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|n| n.parse().ok());
    if major < Some(NODE_OLDEST) {
        bail!(
            "Node.js {NODE_OLDEST} or newer is needed, found {}\n  what to do: install it with npm, \
             from nodejs.org or your system's packages, then run this again",
            if version.is_empty() {
                "none"
            } else {
                version.trim()
            }
        );
    }
    let lock = folder.join("package-lock.json");
    let wanted = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let stamp = folder.join("node_modules/.installed-lock.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("npm packages: npm ci in {}", folder.display());
    cmd("npm")
        .args(["ci", "--ignore-scripts"])
        .dir(folder)
        .remedy("check that npm reaches its registry (`npm ping`); after an edit of package.json: `npm install`")
        .run()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// A program of an npm package.
pub fn bin(root: &Path, name: &str) -> Cmd {
    cmd(root.join("node_modules/.bin").join(name))
}

/// A script of the root's `package.json`.
pub fn run(root: &Path, script: &str) -> Cmd {
    cmd("npm").args(["run", "--silent", script]).dir(root)
}
