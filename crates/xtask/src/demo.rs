//! `cargo xtask demo`: the page that answers about an image, built and served.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::cmd;
use crate::{models, npm, setup, wasm};

/// The models that the page offers, as `www/src/models.ts` reads them: paths are relative to the
/// page.
const OFFERS: &str = r#"[
  {
    "name": "UniVi nano",
    "url": "models/univi-nano/manifest.json",
    "note": "Trained from nothing on a small world of emoji: it tells what there is, how many, where, in which order and which way, in pictures and clips of that world. It knows nothing else.",
    "bytes": 3461551,
    "questions": ["Describe the picture.", "What is there from left to right?", "How many things are there?", "What happens in the clip?"]
  },
  {
    "name": "Chat-UniVi, tiny",
    "url": "models/chat-univi-tiny/manifest.json",
    "note": "Every part of the model with small random weights: it sees images and videos, and babbles about them.",
    "bytes": 600000
  },
  {
    "name": "SmolLM2 135M Instruct",
    "url": "models/SmolLM2-135M-Instruct.Q4_1.gguf",
    "note": "A real language model without a vision encoder.",
    "bytes": 98362432
  }
]
"#;

/// Builds everything and serves the page until it is interrupted.
pub fn demo(root: &Path, port: u16) -> Result<()> {
    setup::setup(root)?;
    models::fetch(root)?;
    models::build_univi(root)?;
    models::convert_tiny(root)?;
    let offers = root.join("models/index.json");
    fs::write(&offers, OFFERS).with_context(|| format!("cannot write {}", offers.display()))?;
    wasm::build(root)?;
    npm::run(root, "build").run()?;
    cmd(models::univi(root))
        .args(["serve", "www/dist", "--mount", "/models=models", "--port"])
        .arg(port.to_string())
        .dir(root)
        .become_it()
}
