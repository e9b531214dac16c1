//! `cargo xtask setup | demo | test | models | artwork`: everything this repository needs, from one
//! command.

mod artwork;
mod command;
mod debian;
mod demo;
mod models;
mod npm;
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
        Task::Models => models::fetch(&root),
        Task::Artwork => artwork::fetch(&root),
    }
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
