//! `univi bench`: how fast a model is here.

use std::{collections::BTreeMap, path::Path, path::PathBuf, time::Instant};

use clap::Args;
use univi::{
    Backend, BackendWork, LoadOptions, ModelFiles, OpenDevice, Result, gguf::GgmlType,
    loader::Content,
};
use univi_bench::{Options, Report, Stopwatch};

use crate::{
    args::{DeviceChoice, KvCacheArg},
    open, out,
};

/// Measure how fast a model is on a device, beside what the device can do.
///
/// First the device's ceilings: how fast it reads and copies memory, and computes. Then the model's
/// products, each as a share of them, prompts, answers, pictures and clips. Each thing is measured
/// after one time that is not counted; times are medians, the shortest and the longest beside them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi bench --model models/univi-nano
  univi bench -m models/chat-univi-7b --device gpu --rounds 3 --json > bench.json
  univi synth --preset 7b --quant q4_0 --out models/random-7b && univi bench -m models/random-7b

Nothing else should run meanwhile. Markdown goes to stdout; with --json, one object in seconds, bytes and operations.
Exit codes: 0 measured, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct BenchArgs {
    /// The model: a folder with a manifest.json, the manifest, a GGUF file, a split model's first
    /// file, or one on the Hub: hf:OWNER/NAME, hf:OWNER/NAME/FILE.gguf.
    #[arg(long, short, value_name = "MODEL")]
    pub model: PathBuf,
    /// The compute device.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    #[command(flatten)]
    pub kv_cache: KvCacheArg,
    /// How often each thing is measured; less often where it takes long.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Tokens of the prompts that are read; what the context has no room for is left out.
    #[arg(
        long,
        value_name = "N,N",
        value_delimiter = ',',
        default_value = "32,256,1024,2048"
    )]
    pub prompts: Vec<usize>,
    /// Tokens that stand before the answers, likewise.
    #[arg(
        long,
        value_name = "N,N",
        value_delimiter = ',',
        default_value = "0,1024,4096"
    )]
    pub contexts: Vec<usize>,
    /// Conversations that are answered at a time, beside one, after the first of the contexts.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "8", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub together: Vec<u32>,
    /// Tokens of an answer.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub answer: u32,
    /// Pictures that are encoded at once.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub pictures: Vec<u32>,
    /// Frames of a clip that is merged.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub frames: u32,
    /// Print one JSON object instead of Markdown.
    #[arg(long)]
    pub json: bool,
}

/// Measures, and prints the report.
///
/// # Errors
/// What is wrong with the model, or what the device reports.
pub async fn run(args: &BenchArgs) -> Result<()> {
    if cfg!(debug_assertions) {
        out::note("this is a debug build: build with --release for times that mean something");
    }
    let device = open::device(args.device.into()).await?;
    let files = open::find(&args.model)?;
    let report = device
        .run(Bench {
            device: &device,
            types: types(&files)?,
            files,
            args,
        })
        .await?;
    if args.json {
        out::json(&report)
    } else {
        out::write(&format!("Model: {}\n{report}", args.model.display()))
    }
}

struct Bench<'a> {
    device: &'a OpenDevice,
    files: ModelFiles,
    types: BTreeMap<String, GgmlType>,
    args: &'a BenchArgs,
}

impl BackendWork for Bench<'_> {
    type Output = Result<Report>;

    async fn run<B: Backend>(self, backend: &B) -> Result<Report> {
        let args = self.args;
        let load = LoadOptions::default().kv_cache(args.kv_cache.ty());
        let loader = open::loader(backend.clone(), &self.files)?;
        let model = loader.finish(&load).await?;
        let context = model.llama().context();
        for (what, tokens) in [
            ("a prompt", &args.prompts),
            ("an answer after a context", &args.contexts),
        ] {
            for tokens in tokens.iter().filter(|&&tokens| tokens > context) {
                out::note(&format!(
                    "{what} of {tokens} tokens is left out: the model's context has {context}"
                ));
            }
        }
        if !model.has_vision() {
            out::note("the model takes text alone: no pictures and clips are measured");
        }
        let mut options = Options::default();
        options.prompts = args.prompts.clone();
        options.contexts = args.contexts.clone();
        options.together = args.together.iter().map(|&n| n as usize).collect();
        options.answer = args.answer as usize;
        options.pictures = args.pictures.iter().map(|&n| n as usize).collect();
        options.frames = args.frames as usize;
        let began = Instant::now();
        let now = || began.elapsed().as_secs_f64();
        let mut begins = |what: &str| out::note(&format!("measuring {what}"));
        let mut stopwatch = Stopwatch::new(args.rounds as usize, &now, &mut begins);
        univi_bench::measure(self.device, &model, &self.types, &options, &mut stopwatch).await
    }
}

/// The type of each tensor of the model's files.
fn types(files: &ModelFiles) -> Result<BTreeMap<String, GgmlType>> {
    let mut types = BTreeMap::new();
    for file in &files.files {
        if file.content == Content::Gguf {
            let header = open::header(Path::new(&file.name))?;
            let named = header
                .tensors
                .into_iter()
                .map(|tensor| (tensor.name, tensor.ty));
            types.extend(named);
        }
    }
    Ok(types)
}
