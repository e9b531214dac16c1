//! `cargo xtask artwork`: the emoji artwork that univi-nano is trained and measured on.

use std::path::Path;

use anyhow::Result;

use crate::npm;

/// Brings the npm packages that `crates/train/artwork` names, unless they are there.
pub fn fetch(root: &Path) -> Result<()> {
    npm::install(&root.join("crates/train/artwork"), npm::Packages::All)
}
