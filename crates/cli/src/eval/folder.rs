//! The folder of a run: its reports, and runs in shards joined.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use univi::{Error, Result};
use univi_eval::{
    Benchmark, Figure, Journal, Judgements, Record, Run, figures, prediction_files,
    read_predictions,
    report::{self, Other, Report},
};

use super::{
    judging::{self, JudgeOptions},
    on_error::OnError,
};
use crate::{files, folder_lock::FolderLock, out};

/// What a report holds beside the run.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// Put another model beside, from its prediction file in an official format; may be given
    /// several times.
    #[arg(long, value_name = "NAME=FILE", value_parser = named_file)]
    pub compare: Vec<(String, PathBuf)>,
    /// What happens at a question that can't be asked, as a broken line or a missing picture, and
    /// at an answer that the judge can't rate.
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    pub on_error: OnError,
    #[command(flatten)]
    pub judge: JudgeOptions,
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
pub struct JoinArgs {
    /// The folders of all shards.
    #[arg(required = true, value_name = "DIR")]
    pub shards: Vec<PathBuf>,
    /// Where answers and reports go.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub pictures: PictureOptions,
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
    pub pictures: PictureOptions,
    #[command(flatten)]
    pub report: ReportOptions,
}

/// Where the pictures of wrong answers are, to be shown.
#[derive(Debug, Args)]
pub struct PictureOptions {
    /// The folder of the benchmark's pictures: wrong answers are shown with theirs.
    #[arg(long, value_name = "DIR")]
    pub media: Option<PathBuf>,
}

impl PictureOptions {
    fn paths(&self, records: &[Record]) -> Vec<Option<PathBuf>> {
        let path = |record: &Record| {
            let path = self.media.as_ref()?.join(record.media.as_ref()?);
            path.is_file().then_some(path)
        };
        records.iter().map(path).collect()
    }
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
pub fn merge(args: &JoinArgs) -> Result<()> {
    let out = &args.out;
    std::fs::create_dir_all(out).map_err(|e| files::io_error(out, &e))?;
    let _lock = FolderLock::take(out)?;
    let (run, records) = Journal::merge(&args.shards, out)?;
    finish(
        out,
        &run,
        &records,
        &args.pictures.paths(&records),
        &args.report,
    )
    .map(drop)
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
    let pictures = args.pictures.paths(&records);
    finish(&args.run, &run, &records, &pictures, &args.report).map(drop)
}

/// Has answers judged, writes reports and prediction files, and prints the figures. `pictures` are
/// those of the records, where they have one. Returns the main figure.
///
/// # Errors
/// `Io`; what is wrong with a prediction file of another model.
pub fn finish(
    folder: &Path,
    run: &Run,
    records: &[Record],
    pictures: &[Option<PathBuf>],
    options: &ReportOptions,
) -> Result<Option<Figure>> {
    let benchmark = Benchmark::find(&run.benchmark)?;
    let mut compared = Vec::new();
    for (model, path) in &options.compare {
        let mut records = read_predictions(path, records)?;
        for record in &mut records {
            // The judge's replies about both models are in one journal.
            record.id = format!("{model}: {}", record.id);
        }
        compared.push((model, records));
    }
    let others = compared.iter().flat_map(|(_, records)| records);
    let all: Vec<Record> = records.iter().chain(others).cloned().collect();
    let judged = judging::judge(folder, benchmark, &all, &options.judge, options.on_error);
    let judgements = Judgements::load(folder)?;
    let other = |(model, records): (&String, Vec<Record>)| Other {
        model: model.clone(),
        figures: figures(benchmark, &records, &judgements),
    };
    let others = compared.into_iter().map(other).collect();
    let report = Report::new(benchmark, run, records, &judgements, others);
    for file in prediction_files(benchmark, &run.model, records) {
        files::write(&folder.join(file.name), file.text.as_bytes())?;
    }
    let json = report::json(&report);
    let pretty = serde_json::to_string_pretty(&json).unwrap_or_default() + "\n";
    let markdown = report::markdown(&report);
    files::write(&folder.join("report.json"), pretty.as_bytes())?;
    files::write(&folder.join("report.md"), markdown.as_bytes())?;
    let picture = |record: &Record| {
        let at = records
            .binary_search_by_key(&record.index, |other| other.index)
            .ok()?;
        thumbnail(pictures.get(at)?.as_deref()?)
    };
    let page = report::html(&report, &picture);
    files::write(&folder.join("report.html"), page.as_bytes())?;
    // What was judged until then is in the report.
    judged?;
    match options.json {
        true => out::json(&json)?,
        false => {
            out::line(&report::table(&report))?;
            out::note(&format!("the report is in {}", files::name(folder)));
        }
    }
    Ok(report.figures.into_iter().next())
}

/// Returns a small picture as an address that holds it.
fn thumbnail(path: &Path) -> Option<String> {
    let picture = image::open(path).ok()?.thumbnail(240, 240).into_rgb8();
    let mut bytes = Vec::new();
    let mut jpeg = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 80);
    jpeg.encode_image(&picture).ok()?;
    Some(format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes)))
}
