//! `cargo xtask setup | demo | test | models`: everything this repository needs, from one command.

mod command;
mod debian;
mod setup;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about, bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing: Vulkan driver, Chromium, ffmpeg, the wasm32 standard library, npm packages
    Setup,
}

fn main() -> ExitCode {
    let result: Result<()> = match Cli::parse().task {
        Task::Setup => setup::setup(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
