//! `cargo xtask shaders`: a table of what compilers report, and what exceeds its budget.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use univi_shaders::{GPUS, Gpu, compile_all, exceptions, faults};

#[derive(Parser)]
#[command(about, bin_name = "cargo xtask shaders")]
struct Cli {
    /// GPUs by Mesa's names, instead of all that budgets hold for
    #[arg(long = "gpu", value_name = "NAME")]
    gpus: Vec<String>,
    /// Only kernels whose names contain this
    #[arg(default_value = "")]
    filter: String,
    /// Mesa's stub of the kernel's interface for Intel, libintel_noop_drm_shim.so; else
    /// UNIVI_DRM_SHIM names it
    #[arg(long, value_name = "FILE")]
    shim: Option<PathBuf>,
    /// Compile with the driver that the environment names, and print JSON
    #[arg(long, hide = true)]
    compile: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    if cli.compile {
        serde_json::to_writer(std::io::stdout(), &compile_all(&cli.filter)?)?;
        return Ok(());
    }
    let program = std::env::current_exe().context("where this program is")?;
    let mut found = Vec::new();
    for gpu in chosen(&cli.gpus)? {
        println!("\n{} ({})", gpu.name, gpu.family);
        match gpu.compile(&program, cli.shim.as_deref(), &cli.filter)? {
            Err(unavailable) => println!("not compiled: {unavailable}"),
            Ok(statistics) => {
                statistics.iter().for_each(|shader| println!("{shader}"));
                if cli.filter.is_empty() {
                    exceptions(gpu)
                        .iter()
                        .for_each(|let_off| println!("{let_off}"));
                    found.extend(faults(gpu, &statistics));
                }
            }
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let lines: String = found.iter().map(|fault| format!("\n  {fault}")).collect();
    bail!("{} budgets are exceeded:{lines}", found.len())
}

/// The GPUs of these names, or those that budgets hold for.
fn chosen(names: &[String]) -> Result<Vec<Gpu>> {
    if names.is_empty() {
        return Ok(GPUS.to_vec());
    }
    let known = GPUS.map(|gpu| gpu.name).join(", ");
    names
        .iter()
        .map(|name| {
            let found = GPUS.into_iter().find(|gpu| gpu.name == name);
            found.with_context(|| format!("there is no GPU {name:?}; there are {known}"))
        })
        .collect()
}
