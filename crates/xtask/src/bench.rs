//! `cargo xtask bench --peers`: UniVi beside what people use instead.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{command::cmd, models, npm, python, setup, target_dir::target_dir, wasm};

/// Installs the others, makes the models that all of them read, and measures.
pub fn peers(root: &Path, only: Option<&str>, json: Option<&Path>) -> Result<()> {
    setup::setup(root)?;
    setup::peers()?;
    models::fetch(root)?;
    let sources = root.join("tests/peers");
    npm::install_named(&sources)?;
    let made = target_dir(root).join("peers");
    let packages = made.join("python");
    python::install(&sources.join("requirements.txt"), &packages)?;

    wasm::build(root)?;
    npm::run(root, "build").run()?;
    let build = format!("build --release {} --bin univi", models::ALL_BUT_XTASK);
    cmd("cargo").args(build.split(' ')).dir(root).run()?;
    let univi = target_dir(root).join("release/univi");
    make_models(root, &univi, &made, &packages)?;

    let mut measure = cmd("node")
        .arg(sources.join("peers.mjs"))
        .arg("--models")
        .arg(&made)
        .env("UNIVI", &univi);
    if let Some(only) = only {
        measure = measure.args(["--only", only]);
    }
    if let Some(json) = json {
        measure = measure.arg("--json").arg(json);
    }
    measure.echo().run().map(drop)
}

/// Makes the models, once.
fn make_models(root: &Path, univi: &Path, made: &Path, packages: &Path) -> Result<()> {
    let vision = made.join("univi-vision");
    if vision.is_dir() {
        return Ok(());
    }
    println!("models: written into {}", made.display());
    cmd("python3")
        .arg(root.join("tests/peers/models.py"))
        .arg(root.join("models/SmolLM2-135M-Instruct.Q4_1.gguf"))
        .arg(root.join("tests/fixtures/golden/e2e/checkpoint"))
        .arg(made)
        .env("PYTHONPATH", packages)
        .run()?;
    let checkpoint = made.join("checkpoint");
    cmd(univi)
        .arg("convert")
        .arg(checkpoint.join("model"))
        .arg("--vision-tower")
        .arg(checkpoint.join("tower"))
        .args(["--quant", "f16", "--out"])
        .arg(&vision)
        .run()?;
    fs::remove_dir_all(&checkpoint)
        .with_context(|| format!("cannot remove {}", checkpoint.display()))
}
