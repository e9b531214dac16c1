//! `univi eval`: how often a model is right, on published benchmarks and on the emoji world.

mod asking;
mod benchmark;
mod folder;
mod judging;
mod nano;
mod on_error;
mod sweep;
mod timings;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use univi::Result;
use univi_eval::Benchmark;

/// Measure how often a model is right.
///
/// A benchmark's published question and answer files are read as they are; questions are asked and
/// answers counted as the reference does. Every answer is kept in --out as it comes: the same
/// command goes on where an earlier one was stopped, to the same result.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true
)]
#[command(after_help = "\
Examples:
  univi eval nano
  univi eval pope-random --data data/pope --media data/val2014 -m models/chat-univi-7b
  univi eval science-qa --data data/scienceqa -m models/chat-univi-7b --limit 200 --visual-tokens 56
  univi eval pope-random --data data/pope -m models/univi-nano --shard 1/4 --out runs/1
  univi eval pope-random --data data/pope -m models/univi-nano --merge clusters,pool --visual-tokens 7,14,42
  univi eval merge runs/1 runs/2 runs/3 runs/4 --out runs/all

Exit codes: 0 measured, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct EvalArgs {
    /// Something else than a benchmark.
    #[command(subcommand)]
    pub other: Option<Other>,
    /// Which benchmark.
    #[arg(value_name = "BENCH", required = true, value_parser = benchmark::names())]
    pub benchmark: Option<String>,
    /// The folder of its question and answer files, as they are published.
    #[arg(long, value_name = "DIR", required = true)]
    pub data: Option<PathBuf>,
    /// The model, as for `univi ask`.
    #[arg(long, short, value_name = "MODEL", required = true)]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub options: benchmark::BenchmarkOptions,
}

/// What is no published benchmark.
#[derive(Debug, Subcommand)]
pub enum Other {
    Nano(nano::EvalNanoArgs),
    Merge(folder::JoinArgs),
    Report(folder::ReportArgs),
}

impl EvalArgs {
    /// Checks what clap's own rules cannot say.
    ///
    /// # Errors
    /// What makes no sense, and what to change.
    pub fn check(&self) -> std::result::Result<(), String> {
        match &self.other {
            Some(Other::Nano(args)) => args.merge.check(),
            Some(Other::Merge(args)) => args.report.judge.check(),
            Some(Other::Report(args)) => args.report.judge.check(),
            None => self.options.check(),
        }
    }
}

/// Asks, counts, and prints figures.
///
/// # Errors
/// What is wrong with the model, the data, or the folder of the run.
pub async fn run(args: &EvalArgs) -> Result<()> {
    match &args.other {
        Some(Other::Nano(args)) => return nano::run(args).await,
        Some(Other::Merge(args)) => return folder::merge(args),
        Some(Other::Report(args)) => return folder::report(args),
        None => {}
    }
    // clap has asked for all three.
    let (Some(name), Some(data), Some(model)) = (&args.benchmark, &args.data, &args.model) else {
        return Ok(());
    };
    let subject = benchmark::Subject {
        benchmark: Benchmark::find(name)?,
        data,
        model,
    };
    benchmark::run(&subject, &args.options).await
}
