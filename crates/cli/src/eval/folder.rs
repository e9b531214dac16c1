//! The folder of a run: its reports, and runs in shards joined.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use univi::{Error, Result, image::Rgb8};
use univi_eval::{
    Benchmark, Figure, JOURNAL_NAME, Journal, Judgements, Media, Record, Run, figures,
    prediction_files, read_predictions,
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
    /// Refuses a folder that is not there.
    fn check(&self) -> Result<()> {
        match &self.media {
            Some(folder) if !folder.is_dir() => {
                let reason = "there is no such folder of pictures".into();
                Err(Error::Io { reason }.in_file(files::name(folder)))
            }
            _ => Ok(()),
        }
    }

    /// Finds the pictures of a run, as it found them itself.
    fn find(&self, run: &Run, records: &[Record]) -> Result<Vec<Media>> {
        let benchmark = Benchmark::find(&run.benchmark)?;
        let Some(folder) = &self.media else {
            return Ok(vec![Media::None; records.len()]);
        };
        let picture = |record: &Record| match &record.media {
            Some(name) => benchmark.media(folder, name),
            None => Media::None,
        };
        let found: Vec<Media> = records.iter().map(picture).collect();
        if let Some(name) = found.iter().find_map(|media| match media {
            Media::Missing(name) => Some(name),
            _ => None,
        }) {
            let folder = files::name(folder);
            out::note(&format!(
                "not all pictures are in {folder}: the first that is not is {name}"
            ));
        }
        Ok(found)
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
/// As [`Journal::join`] and [`Journal::put`]; `BadRequest` where the whole would take the place of
/// a shard.
pub fn merge(args: &JoinArgs) -> Result<()> {
    let out = &args.out;
    for shard in &args.shards {
        check_run(shard)?;
        if same_folder(shard, out) {
            let reason = "is one of the shards: name a folder of its own with --out";
            let reason = reason.into();
            return Err(Error::BadRequest { reason }.in_file(files::name(out)));
        }
    }
    args.pictures.check()?;
    let (run, records) = Journal::join(&args.shards)?;
    let pictures = args.pictures.find(&run, &records)?;
    std::fs::create_dir_all(out).map_err(|e| files::io_error(out, &e))?;
    let _lock = FolderLock::take(out)?;
    Journal::put(out, &run, &records)?;
    let pictures: Vec<&Media> = pictures.iter().collect();
    finish(out, &run, &records, &pictures, &args.report).map(drop)
}

fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Refuses what is no folder of a run, and says what it is.
fn check_run(folder: &Path) -> Result<()> {
    let refuse = |reason: String| {
        let error = Error::BadRequest { reason };
        Err(error.in_file(files::name(folder)))
    };
    if !folder.exists() {
        return refuse("is not there".into());
    }
    if !folder.is_dir() {
        return refuse("is a file: name the folder of a run, where --out was".into());
    }
    if folder.join(JOURNAL_NAME).is_file() {
        return Ok(());
    }
    let below = files::list(folder)?.into_iter();
    let below = below.filter(|path| path.join(JOURNAL_NAME).is_file());
    match below.min() {
        Some(first) => refuse(format!(
            "holds several runs, each in a folder of its own: name one, as {}",
            files::name(&first)
        )),
        None => refuse(format!("is no run: there is no {JOURNAL_NAME}")),
    }
}

/// Writes reports anew.
///
/// # Errors
/// As [`Journal::load`].
pub fn report(args: &ReportArgs) -> Result<()> {
    check_run(&args.run)?;
    args.pictures.check()?;
    let _lock = FolderLock::take(&args.run)?;
    let (run, records) = Journal::load(&args.run)?;
    if run.shard.is_some() {
        let reason = "is one shard of a run: join all with univi eval merge".into();
        return Err(Error::BadRequest { reason }.in_file(files::name(&args.run)));
    }
    let pictures = args.pictures.find(&run, &records)?;
    let pictures: Vec<&Media> = pictures.iter().collect();
    finish(&args.run, &run, &records, &pictures, &args.report).map(drop)
}

/// Has answers judged, writes reports and prediction files, and prints the figures. `pictures` are
/// what the records are about. Returns the main figure.
///
/// # Errors
/// `Io`; what is wrong with a prediction file of another model.
pub fn finish(
    folder: &Path,
    run: &Run,
    records: &[Record],
    pictures: &[&Media],
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
    let judgements = Judgements::load(folder)?.about(benchmark, &all);
    let other = |(model, records): (&String, Vec<Record>)| Other {
        model: model.clone(),
        answered: answered(&records),
        figures: figures(benchmark, &records, &judgements),
    };
    let others: Vec<Other> = compared.into_iter().map(other).collect();
    for other in others.iter().filter(|o| o.answered < records.len()) {
        let (model, answered) = (&other.model, other.answered);
        out::note(&format!(
            "the file of {model} answers {answered} of {} questions: its figures are of those alone",
            records.len()
        ));
    }
    let report = Report::new(benchmark, run, records, &judgements, others);
    let predictions = prediction_files(benchmark, &run.model, records);
    for file in &predictions {
        files::write(&folder.join(file.name), file.text.as_bytes())?;
    }
    if let Some(file) = predictions.last()
        && report.is_unlabelled()
    {
        let path = files::name(&folder.join(file.name));
        out::note(&format!(
            "the data holds no right answers, so that nothing can be scored here; the answers are \
             in {path}, for whoever keeps the right ones"
        ));
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
        thumbnail(pictures.get(at)?)
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

/// Returns how many of the questions have an answer.
fn answered(records: &[Record]) -> usize {
    records.iter().filter(|r| r.error.is_none()).count()
}

/// Returns a small picture as an address that holds it.
fn thumbnail(media: &Media) -> Option<String> {
    // Whatever can be asked about can be shown.
    let picture = match media {
        Media::Image(path) => files::picture(path).ok()?,
        Media::Embedded(bytes) => Rgb8::decode(bytes).ok()?,
        _ => return None,
    };
    let [width, height] = [picture.width_px, picture.height_px].map(|side| side as u32);
    let picture = image::RgbImage::from_raw(width, height, picture.pixels)?;
    let picture = image::DynamicImage::from(picture).thumbnail(240, 240);
    let mut bytes = Vec::new();
    let mut jpeg = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 80);
    jpeg.encode_image(&picture).ok()?;
    Some(format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes)))
}
