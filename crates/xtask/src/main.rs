//! `cargo xtask setup | demo | test | bench | shaders | models | artwork`: everything this
//! repository needs, from one command.

mod artwork;
mod bench;
mod command;
mod debian;
mod demo;
mod models;
mod npm;
mod python;
mod setup;
mod sha256;
mod target_dir;
mod test;
mod wasm;
mod wasm_std;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use test::Selection;

#[derive(Parser)]
#[command(about, bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing: Vulkan driver, Chromium, Firefox, ffmpeg, the wasm32 standard
    /// library, npm packages
    Setup,
    /// Build the WebAssembly module into pkg/wasm
    Wasm {
        /// Build the self-test that tests run in browsers, into tests/web/wasm, instead
        #[arg(long)]
        self_test: bool,
    },
    /// Build the page and serve it with a small model
    Demo {
        /// Port on this machine
        #[arg(long, default_value_t = 8000)]
        port: u16,
    },
    /// Run every test, native and in browsers; later steps run where an earlier one fails
    Test {
        /// Only the tests that read the fixtures: for a fuller set, which the variable
        /// UNIVI_FIXTURES names
        #[arg(long)]
        fixtures: bool,
    },
    /// Measure UniVi beside what people use instead: llama.cpp, wllama, onnxruntime-web and
    /// transformers.js, each in a browser or process of its own, with nothing else running.
    /// `univi bench` measures a model by itself
    Bench {
        /// The others, beside which it is measured
        #[arg(long, required = true)]
        peers: bool,
        /// Only rows that have this in their name, such as "WebAssembly" or "ViT"
        #[arg(long)]
        only: Option<String>,
        /// Write all figures into this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Compile every shader with AMD's and Intel's compilers, where Mesa's drivers are installed,
    /// and compare what they report with its budget; `--help` lists options
    #[command(disable_help_flag = true)]
    Shaders {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Bring the real language models that tests use into models/
    Models,
    /// Bring the artwork that univi-nano is trained and measured on
    Artwork,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = root()?;
    match task {
        Task::Setup => setup::setup(&root),
        Task::Wasm { self_test: false } => wasm::build(&root),
        Task::Wasm { self_test: true } => wasm::build_verify(&root),
        Task::Demo { port } => demo::demo(&root, port),
        Task::Test { fixtures: false } => test::test(&root, Selection::All),
        Task::Test { fixtures: true } => test::test(&root, Selection::Fixtures),
        Task::Bench { only, json, .. } => bench::peers(&root, only.as_deref(), json.as_deref()),
        Task::Shaders { arguments } => shaders(&root, &arguments),
        Task::Models => models::fetch(&root),
        Task::Artwork => artwork::fetch(&root),
    }
}

/// Runs the crate that compiles shaders: a crate apart, since the demo must not wait for it.
fn shaders(root: &Path, arguments: &[String]) -> Result<()> {
    let build = format!(
        "build --quiet {} --bin univi-shaders",
        models::ALL_BUT_XTASK
    );
    command::cmd("cargo")
        .args(build.split(' '))
        .dir(root)
        .run()?;
    let compiler = command::cmd(models::built(root, "univi-shaders"));
    compiler.args(arguments).dir(root).echo().run().map(drop)
}

/// The repository's root: cargo names the folder of this crate when it runs it.
fn root() -> Result<PathBuf> {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("CARGO_MANIFEST_DIR is not set\n  what to do: run this as `cargo xtask`")?;
    let root = Path::new(&manifest_dir).ancestors().nth(2);
    Ok(root
        .context("this crate is not two folders below the repository's root")?
        .to_owned())
}
