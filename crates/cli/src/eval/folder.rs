//! The folder of a run: its reports, and runs in shards joined.

use std::path::{Path, PathBuf};

use clap::Args;
use univi::{Error, Result};
use univi_eval::{
    Benchmark, Journal, Judgements, Record, Run, figures, prediction_files, read_predictions,
    report::{self, Other, Report},
};

use crate::{files, folder_lock::FolderLock, out};

/// What a report holds beside the run.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// Put another model beside, from its prediction file in an official format; may be given
    /// several times.
    #[arg(long, value_name = "NAME=FILE", value_parser = named_file)]
    pub compare: Vec<(String, PathBuf)>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Join runs of `--shard I/N` to the run that they are together.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi eval merge runs/1 runs/2 --out runs/all
  univi eval merge runs/* --out pope --json > pope.json

Exit codes: 0 joined, 1 failed, 2 wrong command line.")]
pub struct MergeArgs {
    /// The folders of all shards.
    #[arg(required = true, value_name = "DIR")]
    pub shards: Vec<PathBuf>,
    /// Where answers and reports go.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub report: ReportOptions,
}

/// Write the reports of a run anew, without its model or data.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi eval report eval/pope-random
  univi eval report eval/pope-random --compare LLaVA=llava-7b.jsonl --compare MiniGPT-4=minigpt4.json

Exit codes: 0 written, 1 failed, 2 wrong command line.")]
pub struct ReportArgs {
    /// The folder of the run.
    #[arg(value_name = "DIR")]
    pub run: PathBuf,
    #[command(flatten)]
    pub report: ReportOptions,
}

fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(file)))
        }
        _ => Err("expected NAME=FILE, as LLaVA=answers.jsonl".into()),
    }
}

/// Joins shards.
///
/// # Errors
/// As [`Journal::merge`].
pub fn merge(args: &MergeArgs) -> Result<()> {
    let out = &args.out;
    std::fs::create_dir_all(out).map_err(|e| files::io_error(out, &e))?;
    let _lock = FolderLock::take(out)?;
    let (run, records) = Journal::merge(&args.shards, out)?;
    finish(out, &run, &records, &args.report)
}

/// Writes reports anew.
///
/// # Errors
/// As [`Journal::load`].
pub fn report(args: &ReportArgs) -> Result<()> {
    let _lock = FolderLock::take(&args.run)?;
    let (run, records) = Journal::load(&args.run)?;
    if run.shard.is_some() {
        let reason = "is one shard of a run: join all with univi eval merge".into();
        return Err(Error::BadRequest { reason }.in_file(files::name(&args.run)));
    }
    finish(&args.run, &run, &records, &args.report)
}

/// Writes reports and prediction files, and prints the figures.
///
/// # Errors
/// `Io`; what is wrong with a prediction file of another model.
pub fn finish(folder: &Path, run: &Run, records: &[Record], options: &ReportOptions) -> Result<()> {
    let benchmark = Benchmark::find(&run.benchmark)?;
    let judgements = Judgements::load(folder)?;
    let mut others = Vec::new();
    for (model, path) in &options.compare {
        let records = read_predictions(path, records)?;
        others.push(Other {
            model: model.clone(),
            figures: figures(benchmark, &records, &Judgements::default()),
        });
    }
    let report = Report::new(benchmark, run, records, &judgements, others);
    for file in prediction_files(benchmark, &run.model, records) {
        files::write(&folder.join(file.name), file.text.as_bytes())?;
    }
    let json = report::json(&report);
    let pretty = serde_json::to_string_pretty(&json).unwrap_or_default() + "\n";
    let markdown = report::markdown(&report);
    files::write(&folder.join("report.json"), pretty.as_bytes())?;
    files::write(&folder.join("report.md"), markdown.as_bytes())?;
    match options.json {
        true => out::json(&json),
        false => {
            out::line(&report::table(&report))?;
            out::note(&format!("the report is in {}", files::name(folder)));
            Ok(())
        }
    }
}
