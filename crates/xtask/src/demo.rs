//! `cargo xtask demo`: the page that answers about an image, built and served.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use univi_serve::{Mount, Origin, ServeOptions, Server};

use crate::{models, npm, setup, wasm};

/// The model that ships, as `www/src/models.ts` reads it: paths are relative to the page.
const NANO: &str = r#"{
  "name": "UniVi nano",
  "url": "models/univi-nano/manifest.json",
  "note": "Trained from nothing on a small world of emoji: it answers what there is, how many, where, in which order and which way, in pictures and clips of that world. It knows nothing else.",
  "bytes": 3461551,
  "questions": ["Describe the picture.", "What is there from left to right?", "How many things are there?", "What happens in the clip?"]
}"#;

/// A language model for those who have it: `cargo xtask models` brings it.
const SMOLLM2: &str = r#"{
  "name": "SmolLM2 135M Instruct",
  "url": "models/SmolLM2-135M-Instruct.Q4_1.gguf",
  "note": "A real language model without a vision encoder: it answers about text alone.",
  "bytes": 98362432
}"#;

/// The Hub, and where it keeps files: a person may ask the page to fetch a checkpoint from there.
const HUB: [&str; 3] = [
    "https://huggingface.co",
    "https://*.huggingface.co",
    "https://*.hf.co",
];

/// Builds the page and serves it until it is interrupted.
pub fn demo(root: &Path, port: u16) -> Result<()> {
    setup::wasm()?;
    // npm waits for its registry while cargo works.
    thread::scope(|scope| {
        let packages = scope.spawn(|| npm::install(root, npm::Packages::Page));
        wasm::compile_for_pages(root)?;
        packages.join().expect("it does not panic")
    })?;
    offer_models(root)?;
    wasm::build(root)?;
    npm::run(root, "build").run()?;
    let dir = root.join("www/dist");
    let mut options = ServeOptions::new(&dir)
        .mount(Mount::new("/models", root.join("models"))?)
        .port(port);
    for origin in HUB {
        options = options.connect_src(Origin::parse(origin)?);
    }
    let server = Server::bind(options)?;
    println!(
        "serving {} at http://{}/ (Ctrl-C ends it)",
        dir.display(),
        server.address()
    );
    server.run()
}

/// Lists the models that the page offers, in `models/index.json`.
fn offer_models(root: &Path) -> Result<()> {
    let mut offers = vec![NANO];
    if models::are_here(root) {
        offers.push(SMOLLM2);
    }
    let index = root.join("models/index.json");
    fs::write(&index, format!("[{}]\n", offers.join(", ")))
        .with_context(|| format!("cannot write {}", index.display()))
}
