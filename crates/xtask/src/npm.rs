//! npm packages: the browsers' and Node's side of build and tests, pinned by `package-lock.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::{Cmd, cmd};

/// Vite and playwright-core ask for at least this.
const NODE_OLDEST: u32 = 20;

/// Which packages of a lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packages {
    /// Every one.
    All,
    /// What package and page are built with: the tests' are ten times as large.
    Page,
}

/// Installs what the lock file in a folder names, unless that very lock file was installed last.
pub fn install(folder: &Path, packages: Packages) -> Result<()> {
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
    let stamps = ["all", "page"].map(|name| folder.join(format!("node_modules/.installed-{name}")));
    let enough = match packages {
        Packages::All => &stamps[..1],
        Packages::Page => &stamps[..],
    };
    let is_installed = |stamp| fs::read(stamp).is_ok_and(|installed| installed == wanted);
    if enough.iter().any(is_installed) {
        return Ok(());
    }
    println!("npm packages: npm ci in {}", folder.display());
    let ci = cmd("npm").args(["ci", "--ignore-scripts"]).dir(folder);
    let (ci, stamp) = match packages {
        Packages::All => (ci, &stamps[0]),
        Packages::Page => (
            ci.args(["--workspace", "univi", "--workspace", "univi-demo"])
                .arg("--include-workspace-root"),
            &stamps[1],
        ),
    };
    ci.remedy(
        "check that npm reaches its registry (`npm ping`); after an edit of package.json: \
         `npm install`",
    )
    .run()?;
    fs::write(stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Installs the packages that a folder's `package.json` names by their exact versions, unless that
/// very list was installed last. There is no lock file: one of a package whose programs are made
/// for many systems can't be written where only some of them can be had.
pub fn install_named(folder: &Path) -> Result<()> {
    let list = folder.join("package.json");
    let wanted = fs::read(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let stamp = folder.join("node_modules/.installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("npm packages: npm install in {}", folder.display());
    cmd("npm")
        .args(["install", "--ignore-scripts", "--no-package-lock"])
        .dir(folder)
        .remedy("check that npm reaches its registry (`npm ping`), then run this again")
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
