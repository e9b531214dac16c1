//! Builds modules for browsers with cargo, wasm-bindgen and wasm-opt: `crates/web` into `pkg/wasm/`
//! for pages, `crates/web-convert` into `pkg/wasm-convert/` for those of them that convert a
//! checkpoint, `crates/web-verify` into `tests/web/wasm/` for tests.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::cmd;
use crate::wasm_std::{TARGET, Toolchain};
use crate::{npm, sha256, target_dir::target_dir};

/// A crate that becomes a module.
struct Module {
    package: &'static str,
    /// From which wasm-bindgen derives the names of its files.
    name: &'static str,
    /// The folder that they go to, from the repository's root.
    out: &'static str,
    /// Whether pages download it: it is made as small as it gets, and they make instances of it.
    for_pages: bool,
}

const PAGE: Module = Module {
    package: "univi-web",
    name: "univi_web",
    out: "pkg/wasm",
    for_pages: true,
};

const CONVERT: Module = Module {
    package: "univi-web-convert",
    name: "univi_web_convert",
    out: "pkg/wasm-convert",
    for_pages: true,
};

const VERIFY: Module = Module {
    package: "univi-web-verify",
    name: "univi_web_verify",
    out: "tests/web/wasm",
    for_pages: false,
};

/// Prints the size of a file after brotli, as a web server would send it.
const BROTLI_SIZE: &str = "const { readFileSync } = require('fs'); \
    console.log(require('zlib').brotliCompressSync(readFileSync(process.argv[1])).length)";

/// Brings `pkg/wasm/` and `pkg/wasm-convert/` up to date with the Rust sources.
pub fn build(root: &Path) -> Result<()> {
    compile_for_pages(root)?;
    adapt(root, &PAGE)?;
    adapt(root, &CONVERT)
}

/// Compiles what [`build`] starts from.
pub fn compile_for_pages(root: &Path) -> Result<()> {
    // Together, so that what both are made of is compiled once, with the same features.
    compile(root, &[&PAGE, &CONVERT])
}

/// Brings the self-test of browsers up to date with the Rust sources.
pub fn build_verify(root: &Path) -> Result<()> {
    compile(root, &[&VERIFY])?;
    adapt(root, &VERIFY)
}

/// Makes a folder of a module that was compiled: its JavaScript and TypeScript side, and itself.
fn adapt(root: &Path, module: &Module) -> Result<()> {
    let compiled = target_dir(root)
        .join(TARGET)
        .join("wasm")
        .join(format!("{}.wasm", module.name));
    let bytes =
        fs::read(&compiled).with_context(|| format!("cannot read {}", compiled.display()))?;
    // What follows is decided by this file as much as by the module.
    let digest = sha256::hex(&[&bytes, &include_bytes!("wasm.rs")[..]].concat());

    let out = root.join(module.out);
    let bound = out.join(format!("{}_bg.wasm", module.name));
    let stamp = out.join(".built-from"); // Written last: an interrupted build is not mistaken for a whole one.
    if bound.is_file() && fs::read_to_string(&stamp).is_ok_and(|built_from| built_from == digest) {
        return Ok(());
    }
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot clear {}", out.display()))?;
    }
    println!("wasm-bindgen");
    bindgen(&compiled, &out, module)?;
    if module.for_pages {
        optimize(root, &bound)?;
    }
    fs::write(&stamp, digest).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Makes the module at `path` smaller, and prints its size.
fn optimize(root: &Path, path: &Path) -> Result<()> {
    println!("wasm-opt");
    let unoptimized = path.with_extension("unoptimized.wasm");
    fs::rename(path, &unoptimized).with_context(|| format!("cannot rename {}", path.display()))?;
    npm::bin(root, "wasm-opt")
        .arg("-O1") // More takes twice as long, and what visitors download gets larger (LOG.md).
        .args([
            "--strip-debug",
            "--strip-producers",
            "--strip-target-features",
        ])
        .arg(&unoptimized)
        .arg("--output")
        .arg(path)
        .run()?;
    fs::remove_file(&unoptimized)
        .with_context(|| format!("cannot remove {}", unoptimized.display()))?;

    let brotli = cmd("node").args(["--eval", BROTLI_SIZE]).arg(path).run()?;
    let size_bytes = fs::metadata(path)?.len();
    println!(
        "{}: {size_bytes} bytes, {} with brotli",
        path.strip_prefix(root).unwrap_or(path).display(),
        brotli.trim()
    );
    Ok(())
}

/// Compiles the crates.
fn compile(root: &Path, modules: &[&Module]) -> Result<()> {
    let Some(toolchain) = Toolchain::find() else {
        bail!("no standard library for {TARGET}\n  what to do: cargo xtask setup");
    };
    let packages = modules
        .iter()
        .flat_map(|module| ["--package", module.package]);
    toolchain
        .command("cargo")
        .args(["build", "--profile", "wasm", "--target", TARGET])
        .args(packages)
        .arg("--target-dir")
        .arg(target_dir(root))
        .dir(root)
        .echo()
        .run()
        .map(drop)
}

/// Writes the JavaScript and TypeScript side of the module, and the module adapted to it.
fn bindgen(compiled: &Path, out: &Path, module: &Module) -> Result<()> {
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen.input_path(compiled).typescript(true);
    if !module.for_pages {
        return bindgen.web(true)?.generate(out);
    }
    bindgen
        .omit_default_module_path(true)
        .no_modules(true)?
        .no_modules_global("bindings")?
        .generate(out)?;
    let change = |extension: &str, change: &dyn Fn(String) -> String| {
        let path = out.join(format!("{}.{extension}", module.name));
        let generated =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, change(generated))
            .with_context(|| format!("cannot write {}", path.display()))
    };
    change("js", &|bindings| as_function(&bindings, module))?;
    change("d.ts", &|types| types + TYPES)
}

/// A JavaScript module that makes the bindings as often as it is asked to: those of wasm-bindgen
/// belong to one instance of the module, and a page or server may have several. They take
/// `WebAssembly` as a parameter, so that the caller can stand between them and the instance.
fn as_function(bindings: &str, module: &Module) -> String {
    format!(
        "export function makeBindings(WebAssembly) {{\n{bindings}\nreturn bindings;\n}}\n\
         export function moduleUrl() {{\n  return new URL(\"{}_bg.wasm\", import.meta.url);\n}}\n",
        module.name
    )
}

/// The types of what [`as_function`] adds.
const TYPES: &str = "
/** Makes bindings of their own for an instance that does not exist yet. */
export function makeBindings(wasm: object): typeof bindings;
/** The module's address, beside this script. */
export function moduleUrl(): URL;
export type { bindings };
";
