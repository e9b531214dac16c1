//! A published benchmark, asked and counted.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
};

use clap::{
    Args, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use univi::{Error, Model, ModelFiles, Result, loader::LoadOptions, prompt::Template};
use univi_eval::{Benchmark, Data, Fault, Journal, Media, Questions, Record, Run, Shard};

use super::{
    asking::Asking,
    folder::{self, ReportOptions},
    on_error::OnError,
    sweep,
    timings::Timings,
};
use crate::{
    args::{DeviceChoice, FrameArgs, KvCacheArg, MergeArgs, MergeChoice, Merging},
    files,
    folder_lock::FolderLock,
    interrupt::Listener,
    open, out,
    progress::{Progress, Unit},
    values::not_negative,
};

/// What is measured on what.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The benchmark.
    pub benchmark: &'static Benchmark,
    /// The folder of its files.
    pub data: &'a Path,
    /// The model.
    pub model: &'a Path,
}

/// How a benchmark is run.
#[derive(Debug, Args)]
pub struct BenchmarkOptions {
    /// The folder of its pictures or videos [default: --data, or the usual folders in it].
    #[arg(long, value_name = "DIR")]
    pub media: Option<PathBuf>,
    /// Where answers and reports go [default: eval/BENCH].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The compute device.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Tokens that a conversation may have, visual ones included [default: the model's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    #[command(flatten)]
    pub kv_cache: KvCacheArg,
    #[command(flatten)]
    pub merge: MergeArgs,
    /// The prompt template [default: the reference's for this benchmark; the model's own where that
    /// is none of the reference's].
    #[arg(long, value_name = "NAME", value_parser = ["simple", "simpleqa", "v1", "bare", "model"])]
    pub template: Option<String>,
    /// Sampling temperature, 0 takes the likeliest token [default: the reference's].
    #[arg(long, value_name = "T", value_parser = not_negative)]
    pub temperature: Option<f32>,
    /// Tokens of an answer, at most [default: the reference's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// Seed of the sampler.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Ask the first N questions only.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Answer every N-th question only, beginning with the I-th: one of N runs, for `univi eval
    /// merge`.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    #[command(flatten)]
    pub report: ReportOptions,
}

impl BenchmarkOptions {
    /// Checks that what is given has an effect.
    ///
    /// # Errors
    /// What has none, and what to change.
    pub fn check(&self) -> std::result::Result<(), String> {
        self.merge.check()?;
        self.report.judge.check()?;
        let of_whole_runs = [
            ("--judge", self.report.judge.judge.is_some()),
            ("--compare", !self.report.compare.is_empty()),
        ];
        let given = of_whole_runs.iter().find(|(_, given)| *given);
        match given.filter(|_| self.shard.is_some()) {
            Some((option, _)) => Err(format!(
                "{option} has no effect with --shard, which ends without a report: give it to univi \
                 eval merge"
            )),
            None => Ok(()),
        }
    }
}

/// The benchmarks, with their titles and files.
pub fn names() -> PossibleValuesParser {
    let names = Benchmark::all().iter().map(|benchmark| {
        let help = format!("{}: {}", benchmark.title, benchmark.files);
        PossibleValue::new(benchmark.name).help(help)
    });
    PossibleValuesParser::new(names)
}

/// What all runs of one command have in common.
struct Prepared<'a> {
    subject: &'a Subject<'a>,
    args: &'a BenchmarkOptions,
    questions: Questions,
    model: Model,
    model_sha256: String,
    device: String,
}

/// Asks a benchmark's questions and reports; where several ways of merging are given, each of them,
/// and plots them.
///
/// # Errors
/// What is wrong with the data, the model, or the folder of the run.
pub async fn run(subject: &Subject<'_>, args: &BenchmarkOptions) -> Result<()> {
    let mut questions = subject
        .benchmark
        .read(&Data::new(subject.data, args.media.clone()))?;
    let limit = args.limit.map_or(usize::MAX, |n| n as usize);
    questions.samples.truncate(limit);
    check(subject, args, &questions)?;
    let out = args.out.clone();
    let out = out.unwrap_or_else(|| PathBuf::from("eval").join(subject.benchmark.name));
    let device = open::device(args.device.into()).await?;
    let files = open::find(subject.model)?;
    std::fs::create_dir_all(&out).map_err(|e| files::io_error(&out, &e))?;
    let _lock = FolderLock::take(&out)?;
    let options = LoadOptions::default()
        .context(args.context.map(|n| n as usize))
        .kv_cache(args.kv_cache.ty());
    let prepared = Prepared {
        subject,
        args,
        questions,
        model: open::model(&device, subject.model, &options).await?,
        model_sha256: identity(&files),
        device: device.name(),
    };
    let all = args.merge.all();
    if let [merging] = all[..] {
        return measure(&prepared, merging, &out).await.map(drop);
    }
    let mut points = Vec::new();
    for merging in all {
        let folder = out.join(merging.to_string());
        std::fs::create_dir_all(&folder).map_err(|e| files::io_error(&folder, &e))?;
        points.extend(measure(&prepared, merging, &folder).await?);
    }
    sweep::finish(&out, subject.benchmark.title, &points)
}

/// Asks all questions with one way of merging; `None` for a shard, which has no figures.
async fn measure(
    prepared: &Prepared<'_>,
    merging: Merging,
    out: &Path,
) -> Result<Option<sweep::Point>> {
    let Prepared {
        subject,
        args,
        questions,
        model,
        ..
    } = prepared;
    let benchmark = subject.benchmark;
    let frames = FrameArgs {
        start: None,
        end: None,
        frame_rate: None,
        max_frames: None,
        visual_tokens: merging.tokens,
    };
    let asking = Asking {
        vision: match model.has_vision() {
            true => Some(model.vision(&merging.options())?),
            false => None,
        },
        frames: &frames,
        protocol: benchmark.protocol,
        template: template(args, benchmark, model)?,
        system: None,
        temperature: args.temperature.unwrap_or(benchmark.decoding.temperature),
        max_tokens: args
            .max_tokens
            .map_or(benchmark.decoding.max_tokens, |n| n as usize),
        seed: args.seed,
        prefill_s: RefCell::default(),
        model,
    };
    let run = Run {
        benchmark: benchmark.name.into(),
        model: name_of(subject.model),
        model_sha256: prepared.model_sha256.clone(),
        data_sha256: questions.sha256.clone(),
        samples: questions.samples.len(),
        faults: questions.faults.clone(),
        options: told_options(args, merging, &asking, &prepared.device),
        command: command(subject, args, merging),
        shard: args.shard,
    };
    let mut journal = Journal::open(out, &run)?;
    let mut timings = Timings::open(out, &journal)?;
    let name = benchmark.name;
    ask_all(name, args, questions, &asking, &mut journal, &mut timings).await?;
    journal.finish()?;
    if let Some(shard) = args.shard {
        let count = journal.records().count();
        let failed = journal.records().filter(|r| r.error.is_some()).count();
        let answered = count - failed;
        if args.report.json {
            out::json(&json!({
                "benchmark": benchmark.name,
                "shard": shard.to_string(),
                "samples": count,
                "answered": answered,
            }))?;
        }
        out::note(&format!(
            "shard {shard} is done: {answered} answers in {}; join all with univi eval merge",
            files::name(out)
        ));
        return Ok(None);
    }
    let records: Vec<Record> = journal.records().cloned().collect();
    let media: Vec<&Media> = questions.samples.iter().map(|s| &s.media).collect();
    let figure = folder::finish(out, &run, &records, &media, &args.report)?;
    let prefill_s = timings.median_prefill_s();
    let kv_bytes_per_token = model.kv_bytes_per_token();
    Ok(Some(sweep::Point::new(
        merging,
        figure,
        &records,
        prefill_s,
        kv_bytes_per_token,
    )))
}

/// Refuses, before a model is loaded, what can't be asked, unless it is to be left out.
fn check(subject: &Subject, args: &BenchmarkOptions, questions: &Questions) -> Result<()> {
    if questions.samples.is_empty() {
        let name = subject.benchmark.name;
        let mut reason = format!("{name} has no question to ask");
        if let Some(Fault {
            sample,
            reason: why,
        }) = questions.faults.first()
        {
            let count = questions.faults.len();
            reason += &format!("; the first of {count} that can't be asked is {sample}: {why}");
        }
        return Err(Error::BadRequest { reason });
    }
    if args.report.on_error == OnError::Skip {
        return Ok(());
    }
    let missing = questions
        .samples
        .iter()
        .filter_map(|sample| match &sample.media {
            Media::Missing(name) => Some((&sample.id, format!("{name} is not there"))),
            _ => None,
        });
    let faults = questions.faults.iter();
    let faults = faults.map(|fault| (&fault.sample, fault.reason.clone()));
    let all: Vec<(&String, String)> = faults.chain(missing).collect();
    match &all[..] {
        [] => Ok(()),
        [(sample, reason), ..] => Err(Error::BadRequest {
            reason: format!(
                "{} of {} questions can't be asked, the first is {sample}: {reason}; \
                 --on-error skip leaves them out",
                all.len(),
                questions.samples.len() + questions.faults.len(),
            ),
        }),
    }
}

async fn ask_all(
    name: &str,
    args: &BenchmarkOptions,
    questions: &Questions,
    asking: &Asking<'_>,
    journal: &mut Journal,
    timings: &mut Timings,
) -> Result<()> {
    let is_mine = |index: usize| args.shard.is_none_or(|shard| shard.has(index));
    let mine: Vec<usize> = (0..questions.samples.len())
        .filter(|i| is_mine(*i))
        .collect();
    let listener = Listener::new();
    let mut progress = Progress::new(name, Unit::Items, mine.len() as u64);
    let there = mine.iter().filter(|index| journal.has(**index)).count();
    progress.skip_to(there as u64);
    for index in mine {
        if journal.has(index) {
            continue;
        }
        if listener.pressed() {
            progress.aside(|| out::note("stopped; the same command goes on from here"));
            return Err(Error::Aborted);
        }
        let sample = &questions.samples[index];
        let record = match asking.answer(index, sample).await {
            Ok(record) => record,
            Err(error) if args.report.on_error == OnError::Skip && is_of_sample(&error) => {
                progress.aside(|| out::note(&format!("{}: {error}", sample.id)));
                Record {
                    error: Some(error.to_string()),
                    ..Record::of(index, sample)
                }
            }
            Err(error) => return Err(error.in_file(&*sample.id)),
        };
        // Before the answer: a run that is killed in between asks again, and measures again.
        let prefill_s = asking.prefill_s.take();
        if record.error.is_none() {
            timings.add(index, prefill_s)?;
        }
        journal.add(record)?;
        progress.advance(1);
    }
    Ok(())
}

/// Returns whether another sample may well be answered.
fn is_of_sample(error: &Error) -> bool {
    match error {
        Error::In { source, .. } => is_of_sample(source),
        Error::BadImage { .. }
        | Error::BadVideo { .. }
        | Error::BadRequest { .. }
        | Error::ContextOverflow { .. }
        | Error::Io { .. } => true,
        _ => false,
    }
}

/// Returns the template: the reference's, unless the model was trained with one of its own.
fn template(args: &BenchmarkOptions, benchmark: &Benchmark, model: &Model) -> Result<Template> {
    match (args.template.as_deref(), model.template()) {
        (Some("model"), own) | (None, own @ (Template::Jinja(_) | Template::Bare)) => {
            Ok(own.clone())
        }
        (Some(name), _) => Template::from_name(name),
        (None, _) => Template::from_name(benchmark.template),
    }
}

/// Returns what may change an answer, by the names of options.
fn told_options(
    args: &BenchmarkOptions,
    merging: Merging,
    asking: &Asking,
    device: &str,
) -> Map<String, Value> {
    let template = match &asking.template {
        Template::Simple => "simple",
        Template::SimpleQa => "simpleqa",
        Template::V1 => "v1",
        Template::Bare => "bare",
        Template::Jinja(_) => "model",
    };
    let options = [
        ("device", json!(device)),
        ("context", json!(asking.model.context())),
        ("kv-cache", json!(args.kv_cache.name())),
        ("visual-tokens", json!(merging.tokens)),
        ("merge", json!(merging.method.to_string())),
        ("template", json!(template)),
        ("temperature", json!(asking.temperature.to_string())),
        ("max-tokens", json!(asking.max_tokens)),
        ("seed", json!(args.seed)),
    ];
    options
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// Returns the command without what changes no answer.
fn command(subject: &Subject, args: &BenchmarkOptions, merging: Merging) -> String {
    let mut command = format!(
        "univi eval {} --data {} --model {}",
        subject.benchmark.name,
        files::name(subject.data),
        files::name(subject.model)
    );
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command += &format!(" --{name} {value}");
        }
    };
    add("media", args.media.as_deref().map(files::name));
    let device = args.device.to_possible_value();
    let device = device.filter(|_| args.device != DeviceChoice::Auto);
    add("device", device.map(|device| device.get_name().to_owned()));
    add("visual-tokens", merging.tokens.map(|n| n.to_string()));
    let is_trained = merging.method == MergeChoice::Clusters;
    add("merge", (!is_trained).then(|| merging.method.to_string()));
    let kv_cache = args.kv_cache.name();
    add("kv-cache", (kv_cache != "f32").then(|| kv_cache.to_owned()));
    add("context", args.context.map(|n| n.to_string()));
    add("template", args.template.clone());
    add("temperature", args.temperature.map(|t| t.to_string()));
    add("max-tokens", args.max_tokens.map(|n| n.to_string()));
    add("seed", (args.seed > 0).then(|| args.seed.to_string()));
    add("limit", args.limit.map(|n| n.to_string()));
    add(
        "on-error",
        (args.report.on_error == OnError::Skip).then(|| "skip".into()),
    );
    command
}

fn name_of(model: &Path) -> String {
    let name = model.file_stem().unwrap_or(model.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Returns what tells a model's files from others, without reading them.
fn identity(files: &ModelFiles) -> String {
    let mut hash = Sha256::new();
    for file in &files.files {
        let name = file.name.rsplit(['/', '\\']).next();
        hash.update(format!("{name:?} {:?} {:?}\n", file.bytes, file.sha256));
    }
    hex::encode(hash.finalize())
}
