//! Builds `crates/web` for the browser: cargo, wasm-bindgen, wasm-opt -> `pkg/wasm/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::cmd;
use crate::wasm_std::{TARGET, Toolchain};
use crate::{npm, sha256, target_dir};

/// The module's name in `pkg/wasm/`, from which wasm-bindgen derives its files' names.
const NAME: &str = "univi_web";

/// Prints the size of a file after brotli, as a web server would send it.
const BROTLI_SIZE: &str = "const { readFileSync } = require('fs'); \
    console.log(require('zlib').brotliCompressSync(readFileSync(process.argv[1])).length)";

/// Brings `pkg/wasm/` up to date with the Rust sources.
pub fn build(root: &Path) -> Result<()> {
    let compiled = compile(root)?;
    let module =
        fs::read(&compiled).with_context(|| format!("cannot read {}", compiled.display()))?;
    // What follows is decided by this file as much as by the module.
    let digest = sha256::hex(&[&module, &include_bytes!("wasm.rs")[..]].concat());

    let out = root.join("pkg/wasm");
    let optimized = out.join(format!("{NAME}_bg.wasm"));
    let stamp = out.join(".built-from"); // Written last: an interrupted build is not mistaken for a whole one.
    if optimized.is_file()
        && fs::read_to_string(&stamp).is_ok_and(|built_from| built_from == digest)
    {
        return Ok(());
    }
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot clear {}", out.display()))?;
    }
    println!("wasm-bindgen");
    bindgen(&compiled, &out)?;

    println!("wasm-opt");
    let bound = out.join("unoptimized.wasm");
    fs::rename(&optimized, &bound)
        .with_context(|| format!("cannot rename {}", optimized.display()))?;
    npm::bin(root, "wasm-opt")
        .arg("-O1") // More takes twice as long, and what visitors download gets larger (LOG.md).
        .args([
            "--strip-debug",
            "--strip-producers",
            "--strip-target-features",
        ])
        .arg(&bound)
        .arg("--output")
        .arg(&optimized)
        .run()?;
    fs::remove_file(&bound).with_context(|| format!("cannot remove {}", bound.display()))?;

    let brotli = cmd("node")
        .args(["--eval", BROTLI_SIZE])
        .arg(&optimized)
        .run()?;
    let size_bytes = fs::metadata(&optimized)?.len();
    println!(
        "pkg/wasm/{NAME}_bg.wasm: {size_bytes} bytes, {} with brotli",
        brotli.trim()
    );
    fs::write(&stamp, digest).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Compiles the crate -> the module as rustc left it.
fn compile(root: &Path) -> Result<PathBuf> {
    let Some(toolchain) = Toolchain::find() else {
        bail!("no standard library for {TARGET}\n  what to do: cargo xtask setup");
    };
    let target_dir = target_dir(root);
    toolchain
        .command("cargo")
        .args([
            "build",
            "--package",
            "univi-web",
            "--profile",
            "wasm",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .dir(root)
        .echo()
        .run()?;
    Ok(target_dir
        .join(TARGET)
        .join("wasm")
        .join(format!("{NAME}.wasm")))
}

/// Writes the JavaScript and TypeScript side of the module, and the module adapted to it.
fn bindgen(compiled: &Path, out: &Path) -> Result<()> {
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen
        .input_path(compiled)
        .typescript(true)
        .omit_default_module_path(false);
    bindgen.web(true)?.generate(out)
}
