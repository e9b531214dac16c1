//! What the user may say.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use univi::{
    Device, VisualOptions,
    backend::KvType,
    config::MergeConfig,
    frames::FrameOptions,
    gguf::QuantizationPlan,
    loader::LoadOptions,
    prompt::Template,
    sampler::Sampling,
    session::{GenerateOptions, SessionOptions},
};

use crate::{
    serve::{Fault, Mount},
    synth::Preset,
};

/// Ask questions about images and videos: Chat-UniVi (arXiv 2311.08046) on the GPU or the CPU.
#[derive(Debug, Parser)]
#[command(
    name = "univi",
    version,
    arg_required_else_help = true,
    subcommand_required = true
)]
#[command(after_help = "\
Exit codes:
  0    all went well
  1    something failed; one line on stderr says what and what helps
  2    the command line makes no sense
  130  interrupted with Ctrl-C

Answers go to stdout, everything else to stderr.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Ask(AskArgs),
    Chat(ChatArgs),
    Verify(VerifyArgs),
    Visualize(VisualizeArgs),
    Convert(ConvertArgs),
    Inspect(InspectArgs),
    Synth(SynthArgs),
    Serve(ServeArgs),
    Train(TrainArgs),
    Eval(EvalArgs),
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// The GPU, or the CPU where there is none.
    Auto,
    /// The GPU (Vulkan, Metal or Direct3D 12); fails where there is none.
    Gpu,
    /// The CPU.
    Cpu,
}

impl From<DeviceChoice> for Device {
    fn from(choice: DeviceChoice) -> Device {
        match choice {
            DeviceChoice::Auto => Device::Auto,
            DeviceChoice::Gpu => Device::Gpu,
            DeviceChoice::Cpu => Device::Cpu,
        }
    }
}

/// Which model, and where it runs.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// The model: a folder with a manifest.json, the manifest, a GGUF file, or a split model's
    /// first file.
    #[arg(long, short, value_name = "MODEL")]
    pub model: PathBuf,
    /// What computes.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Tokens that a conversation may have, visual ones included [default: as the model says].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    #[command(flatten)]
    pub kv_cache: KvCacheArg,
    /// The prompt template, in place of the model's own.
    #[arg(long, value_name = "NAME", value_parser = ["simple", "simpleqa", "v1", "bare"])]
    pub template: Option<String>,
    /// The system text, in place of the template's.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

/// How a conversation keeps keys and values.
#[derive(Debug, Clone, Args)]
pub struct KvCacheArg {
    /// How a conversation keeps keys and values: f32 exactly, q8 in 9/32 of the memory.
    #[arg(long, value_name = "TYPE", default_value = KvType::NAMES[0], value_parser = KvType::NAMES)]
    kv_cache: String,
}

impl KvCacheArg {
    /// As the library takes it.
    pub fn ty(&self) -> KvType {
        KvType::from_name(&self.kv_cache).expect("one of its names")
    }
}

/// Which frames of a video are seen.
#[derive(Debug, Clone, Args)]
pub struct FrameArgs {
    /// Where in each video to begin, in whole seconds.
    #[arg(long, value_name = "S")]
    pub start: Option<u32>,
    /// Where in each video to end, in whole seconds.
    #[arg(long, value_name = "S")]
    pub end: Option<u32>,
    /// Frames to look at per second of video, a whole number [default: as the model says].
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub frame_rate: Option<u32>,
    /// Frames to look at, at most [default: as the model says].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub max_frames: Option<u32>,
    /// Tokens that each picture, or event of a video, is merged to, about [default: as the model
    /// was trained].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=4096))]
    pub visual_tokens: Option<u32>,
}

/// How the next word is chosen.
#[derive(Debug, Clone, Args)]
pub struct SamplingArgs {
    /// Always take the likeliest token: the same answer every time.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p", "seed"])]
    pub greedy: bool,
    /// Tokens of an answer, at most.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// How freely to choose: 0 is greedy, 1 is as the model was trained [default: 0.2].
    #[arg(long, value_name = "T", value_parser = not_negative)]
    pub temperature: Option<f32>,
    /// Choose among the N likeliest tokens only.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: Option<u32>,
    /// Choose among the likeliest tokens that together have this probability.
    #[arg(long, value_name = "P", value_parser = share)]
    pub top_p: Option<f32>,
    /// Choose among tokens at least this likely, as a share of the likeliest one's probability.
    #[arg(long, value_name = "P", value_parser = share)]
    pub min_p: Option<f32>,
    /// Divide the scores of tokens seen before by this; 1 does nothing [default: 1].
    #[arg(long, value_name = "X", value_parser = positive_f32)]
    pub repetition_penalty: Option<f32>,
    /// Where chance starts: the same seed gives the same answer on the same device [default: 0].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// A text that ends the answer; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

impl SamplingArgs {
    /// As the library takes it.
    pub fn generate(&self) -> GenerateOptions {
        let default = Sampling::default();
        let sampling = Sampling {
            repetition_penalty: self
                .repetition_penalty
                .unwrap_or(default.repetition_penalty),
            temperature: if self.greedy {
                0.0
            } else {
                self.temperature.unwrap_or(default.temperature)
            },
            top_k: self.top_k.map_or(default.top_k, |k| k as usize),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            seed: self.seed.unwrap_or(default.seed),
            ..default
        };
        GenerateOptions {
            max_tokens: self.max_tokens as usize,
            sampling,
            stop: self.stop.clone(),
            schema: None,
        }
    }
}

impl FrameArgs {
    /// How images and videos are encoded.
    pub fn visual_options(&self) -> VisualOptions {
        VisualOptions::default().tokens(self.visual_tokens.map(|n| n as usize))
    }

    /// As the library takes it, with what the model says where the user says nothing.
    pub fn options(&self, model: &MergeConfig) -> FrameOptions {
        FrameOptions {
            frame_rate: self.frame_rate.map_or(model.frame_rate, f64::from),
            max_frames: self.max_frames.map_or(model.max_frames, |n| n as usize),
            start_s: self.start.map(f64::from),
            end_s: self.end.map(f64::from),
        }
    }
}

impl ModelArgs {
    /// As the library takes it.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            context: self.context.map(|n| n as usize),
            kv_cache: self.kv_cache.ty(),
        }
    }

    /// As the library takes it.
    ///
    /// # Errors
    /// `BadRequest` for a template of another name.
    pub fn session_options(&self) -> univi::Result<SessionOptions> {
        let template = self
            .template
            .as_deref()
            .map(Template::from_name)
            .transpose()?;
        Ok(SessionOptions {
            system: self.system.clone(),
            template,
            ..SessionOptions::default()
        })
    }
}

/// Ask one question about images, videos, or nothing but words.
///
/// Images and videos stand before the question in the order of the command line.
/// The answer is streamed to stdout.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi ask --model models/chat-univi-7b --image sheep.jpg \"How many sheep are there?\"
  univi ask -m models/chat-univi-7b --video clip.mp4 --start 10 --end 30 --greedy \"What happens?\"
  cat question.txt | univi ask -m SmolLM2-135M-Instruct.Q4_1.gguf --json -
  echo '{ \"enum\": [\"yes\", \"no\"] }' > schema.json
  univi ask -m models/univi-nano --image scene.png --json-schema schema.json \"Is there a bee?\"

Videos: a folder of frames (one per second, in natural order of names), an animated GIF, or any file that ffmpeg reads.
Exit codes: 0 answered, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct AskArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub visuals: Visuals,
    #[command(flatten)]
    pub frames: FrameArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// QUESTION is the whole prompt, with one <image> for each picture and for each frame of a
    /// video: a run of one or two is pictures, a longer run is one video. No template is
    /// applied.
    #[arg(long, conflicts_with_all = ["template", "system"])]
    pub raw_prompt: bool,
    /// Answer with a JSON value that is valid for the JSON schema in this file.
    #[arg(long, value_name = "FILE")]
    pub json_schema: Option<PathBuf>,
    /// Print one JSON object with the answer, usage and timings instead of streaming.
    #[arg(long)]
    pub json: bool,
    /// The question; `-` reads it from stdin.
    #[arg(value_name = "QUESTION")]
    pub question: String,
}

/// Talk in several turns, with images and videos at any turn.
///
/// Reads one message per line, from the terminal or from a pipe. Ctrl-C stops an answer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi chat --model models/chat-univi-7b
  univi chat -m models/chat-univi-7b --image sheep.jpg
  printf '/image sheep.jpg\\nWhat is this?\\nAnd what is behind it?\\n' | univi chat -m models/chat-univi-7b --greedy

In the conversation:
  /image FILE     show a picture with the next message
  /video FILE     show a video (or a folder of frames) with the next message
  /reset          start over
  /save FILE      write the conversation as JSON
  /help, /quit

Exit codes: 0 ended by /quit or the end of input, 1 failed, 2 wrong command line.")]
pub struct ChatArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub visuals: Visuals,
    #[command(flatten)]
    pub frames: FrameArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// Check this machine against the reference's own outputs: one line per case with its error.
///
/// Runs every fixture that it finds under DIR. Fails where a case fails, and where there is none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi verify --fixtures tests/fixtures --device gpu
  univi verify --fixtures tests/fixtures --models models --filter smollm2
  univi verify --fixtures tests/fixtures --device cpu --json > report.json

Exit codes: 0 every case passed, 1 a case failed or none was found, 2 wrong command line, 130 interrupted.")]
pub struct VerifyArgs {
    /// Folder with `golden` and `gguf` fixtures, or one of the two itself.
    #[arg(long, value_name = "DIR")]
    pub fixtures: PathBuf,
    /// Folder with the real models that fixtures name by SHA-256; `cargo xtask models` fills it.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// What computes.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Run only cases whose names contain this: `merge/`, `models/gqa256-Q4_0`, or `logits`.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Print one JSON object with all cases instead of lines.
    #[arg(long)]
    pub json: bool,
}

/// Make a model folder of a checkpoint as it is published.
///
/// HF_DIR has config.json, safetensors or pytorch_model-*.bin, and a tokenizer. The vision tower is
/// the one in the shards, else the one of --vision-tower, else the one that config.json names,
/// inside or beside HF_DIR. The model is loaded once before it gets its name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi convert Chat-UniVi --vision-tower clip-vit-large-patch14 --out models/chat-univi-7b
  univi convert Chat-UniVi --quant q8_0 --shard-size 256MiB --out models/chat-univi-7b-q8
  univi convert SmolLM2-135M-Instruct --quant f16 --out models/smollm2

Exit codes: 0 converted, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct ConvertArgs {
    /// The checkpoint's folder.
    #[arg(value_name = "HF_DIR")]
    pub checkpoint: PathBuf,
    /// The folder of the CLIP that the model was made with. It has what the shards lack, and is
    /// refused where its sizes are others than theirs.
    #[arg(long, value_name = "DIR")]
    pub vision_tower: Option<PathBuf>,
    /// How the language model is stored: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, q6_k,
    /// q5_k_m, q5_k_s, q4_k_m, q4_k_s, q3_k_l, q3_k_m, q3_k_s, q2_k.
    #[arg(long, value_name = "TYPE", default_value = "q4_k_m", value_parser = quantization_plan)]
    pub quant: QuantizationPlan,
    /// How the vision side is stored.
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = quantization_plan)]
    pub vision_quant: QuantizationPlan,
    /// The prompt template that the model was tuned with: simple, simpleqa, v1 or bare [default:
    /// what the checkpoint says, else simple].
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// What to call the model [default: the folder's name].
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    #[command(flatten)]
    pub out: OutArgs,
}

/// Where a model folder goes.
#[derive(Debug, Args)]
pub struct OutArgs {
    /// The largest file of the language model, such as 64MiB, 1GB, or a number of bytes. GGUF can't
    /// split a tensor: one that is larger, as the embeddings of a 7B model are, has a file of its
    /// own.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size_bytes)]
    pub shard_size: u64,
    /// Where the model folder goes.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Overwrite a model that is there.
    #[arg(long)]
    pub force: bool,
}

/// Print what a model is, and fail where it would not load.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi inspect models/chat-univi-7b
  univi inspect model-00001-of-00004.gguf --tensors
  univi inspect models/chat-univi-7b/manifest.json --json

Exit codes: 0 it would load, 1 it would not, 2 wrong command line, 130 interrupted.")]
pub struct InspectArgs {
    /// A folder with a manifest.json, the manifest, a GGUF file, or one of a split model's files.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// List every tensor.
    #[arg(long)]
    pub tensors: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Make a model of random weights, as large as a real one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi synth --preset 7b --quant q4_0 --out models/random-7b
  univi synth --preset tiny --quant f16 --seed 3 --out models/random-tiny

Exit codes: 0 made, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct SynthArgs {
    /// How large: tiny, 7b, 7b-v1.5 or 13b.
    #[arg(long, value_name = "NAME", value_parser = preset)]
    pub preset: Preset,
    /// How the language model is stored; the types are those of `univi convert`.
    #[arg(long, value_name = "TYPE", default_value = "q4_0", value_parser = quantization_plan)]
    pub quant: QuantizationPlan,
    /// Where chance starts: the same seed makes the same files.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub out: OutArgs,
}

/// Train a model: the two stages of the paper, or the small model that ships with UniVi from
/// nothing.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  univi train nano --out training/nano
  univi train pretrain vicuna-7b --vision-tower clip-vit-large-patch14 --data captions.json --media images --out stage1
  univi train tune stage1 --vision-tower clip-vit-large-patch14 --data mixed.json --media media --out stage2

Exit codes: 0 trained, 1 failed, 2 wrong command line, 130 interrupted: what was learned is kept.")]
pub struct TrainArgs {
    /// What to train.
    #[command(subcommand)]
    pub what: Training,
}

/// What to train.
#[derive(Debug, Subcommand)]
pub enum Training {
    Nano(NanoArgs),
    Pretrain(StageArgs),
    Tune(StageArgs),
}

/// Make univi-nano from nothing: vision encoder, language, projector, and all together.
///
/// What was learned is written to the folder as it goes; the same command goes on after a break. At
/// the end the folder holds a checkpoint in Hugging Face's layout, `checkpoint`, with its
/// `checkpoint/vision-tower`, for `univi convert`. It takes hours; models/univi-nano/README.md says
/// how many, and on what.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask artwork
  univi train nano --out training/nano
  univi convert training/nano/checkpoint --quant q8_0 --vision-quant q8_0 --name univi-nano --out models/univi-nano
  univi train nano --out training/try --scale 0.02

Exit codes: 0 trained, 1 failed, 2 wrong command line, 130 interrupted: what was learned is kept.")]
pub struct NanoArgs {
    /// Where states, curves and the checkpoint go.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub world: WorldArgs,
    /// Makes all stages shorter or longer; 1 is the recipe of the model card.
    #[arg(long, value_name = "X", default_value_t = 1., value_parser = positive)]
    pub scale: f64,
    /// Where chance starts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Threads; another number gives other last bits.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Leave out what tells the frames of an event apart.
    #[arg(long)]
    pub no_temporal_position: bool,
}

/// Where the artwork of the emoji world lies.
#[derive(Debug, Args)]
pub struct WorldArgs {
    /// The folder of npm packages with the artwork; `cargo xtask artwork` makes it.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "crates/train/artwork/node_modules"
    )]
    pub artwork: PathBuf,
}

/// Train one stage on conversations about images and videos.
///
/// `pretrain` is the paper's first stage: the projector alone learns, from captions. `tune` is its
/// second: projector and language model learn, from conversations about images and videos mixed in
/// one file. Images and videos go through the code that inference runs. A folder of a checkpoint in
/// Hugging Face's layout goes in, and one comes out.
#[derive(Debug, Args)]
#[command(after_help = "\
The data is JSON as LLaVA and Chat-UniVi publish it:
  [{ \"id\": \"1\", \"image\": \"coco/1.jpg\", \"conversations\": [
      { \"from\": \"human\", \"value\": \"<image>\\nWhat is this?\" }, { \"from\": \"gpt\", \"value\": \"A dog.\" }] }]
with `image` (a path or several) or `video`, below the folder --media.

Examples:
  univi train pretrain vicuna-7b --vision-tower clip-vit-large-patch14 --data captions.json --media images --out stage1
  univi train tune stage1 --vision-tower clip-vit-large-patch14 --data mixed.json --media media --out stage2 --epochs 2
  univi train tune stage1 --data toy.json --media toy --out toy-out --batch 4 --rate 1e-3 --optimizer muon

Exit codes: 0 trained, 1 failed, 2 wrong command line, 130 interrupted: the same command goes on.")]
pub struct StageArgs {
    /// The checkpoint's folder; also what an earlier stage wrote.
    #[arg(value_name = "HF_DIR")]
    pub checkpoint: PathBuf,
    /// The folder of the CLIP that the model was made with. It has what the shards lack, and is
    /// refused where its sizes are others than theirs.
    #[arg(long, value_name = "DIR")]
    pub vision_tower: Option<PathBuf>,
    /// The conversations.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// The folder that paths in the data are relative to.
    #[arg(long, value_name = "DIR")]
    pub media: PathBuf,
    /// Where the trained checkpoint, the state and the curve go.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How often everything is learned [default: 1 for pretrain, 2 for tune].
    #[arg(long, value_name = "X", value_parser = positive)]
    pub epochs: Option<f64>,
    /// Samples of a step.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Samples that a thread computes at a time: fewer take less memory.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub micro_batch: u32,
    /// The learning rate at its highest [default: 2e-3 for pretrain, 2e-5 for tune].
    #[arg(long, value_name = "X", value_parser = positive_f32)]
    pub rate: Option<f32>,
    /// What the blocks' matrices learn by.
    #[arg(long, value_enum, default_value_t = OptimizerChoice::Adamw)]
    pub optimizer: OptimizerChoice,
    /// The vision encoder learns, too; where it comes from a folder of its own, it goes into
    /// `vision-tower`, as far as the block that the features come from.
    #[arg(long)]
    pub learn_vision: bool,
    /// The prompt template [default: v1 for models without one of their own].
    #[arg(long, value_name = "NAME", value_parser = ["simple", "simpleqa", "v1", "bare"])]
    pub template: Option<String>,
    /// Where chance starts: the order of samples.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Threads; another number gives other last bits.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Compute on an NVIDIA GPU; needs a `univi` that was built with `--features cuda`.
    #[arg(long)]
    pub cuda: bool,
}

/// What a matrix learns by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OptimizerChoice {
    /// AdamW for everything.
    Adamw,
    /// Muon for the matrices inside of blocks, AdamW for the rest.
    Muon,
}

/// Measure how often a model is right.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  univi eval nano
  univi eval nano --device cpu --questions 200 --styles unseen --misses 10

Exit codes: 0 measured, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct EvalArgs {
    /// On what.
    #[command(subcommand)]
    pub set: EvalSet,
}

/// What a model is measured on.
#[derive(Debug, Subcommand)]
pub enum EvalSet {
    Nano(EvalNanoArgs),
}

/// Questions about held-out scenes and clips of the emoji world.
///
/// Greedy answers count where they are the expected ones, letter by letter. Beside each share stand
/// that of a guess, and that of always giving the most frequent answer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi eval nano
  univi eval nano --device cpu --questions 200 --styles unseen --misses 10
  univi eval nano --json > scores.json

Exit codes: 0 measured, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct EvalNanoArgs {
    /// The model.
    #[arg(long, short, value_name = "MODEL", default_value = "models/univi-nano")]
    pub model: PathBuf,
    /// What computes.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    #[command(flatten)]
    pub kv_cache: KvCacheArg,
    /// Questions for each choice of styles.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub questions: u32,
    /// Whose artwork.
    #[arg(long, value_enum, default_value_t = StylesChoice::Both)]
    pub styles: StylesChoice,
    /// Show so many wrong answers.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub misses: u32,
    #[command(flatten)]
    pub world: WorldArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Whose artwork a model is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StylesChoice {
    /// The styles that it learned with, in scenes that it has not seen.
    Seen,
    /// A style that it has never seen.
    Unseen,
    /// One after the other.
    Both,
}

/// Serve a folder of models and pages to a browser.
///
/// As a page wants it that streams weights and takes up where it stopped: byte ranges, strong
/// ETags, CORS for every origin, cross-origin isolation, no compression. Any page that the browser
/// shows may read what is served.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi serve models
  univi serve www/dist --mount /models=models --port 8080 --log
  univi serve models --port 0 --json --throttle 100MB --fail 0.1 --corrupt 0.02 --seed 7
  univi serve models --fault 429,retry-after=2,times=1 --fault stall=10MB,path=00002-of,times=1

Faults: KIND, then any of path=TEXT (only files whose addresses hold this), times=N (only the first N requests for each file), rate=R (only that share of requests; the same requests at each run with the same --seed). Rules add up.
  400 .. 599           this status instead of the file; retry-after=S adds that header
  html                 a web page instead of the file, with status 200
  corrupt              one byte of the body is inverted
  shorten=BYTES        the file seems to end after so many bytes
  drop=BYTES           the connection breaks after so many bytes of the body
  stall=BYTES          the connection falls silent after so many bytes of the body, and stays open
  no-length            no Content-Length: the body comes in chunks
  ignore-range         the whole file with status 200, whatever range was asked for
  etag                 another ETag at each answer, as if the file had changed

With --json, the first line has `url` and `port`; then, for each request that is over, come `method`, `path`, `range`, `status`, `bytes` (of the body, as sent) and `faults`. Read them all: a full pipe stops the server.
Browsers offer WebGPU to pages of this machine, and of others through HTTPS only: --host alone does not bring it to them.

Exit codes: 1 failed, 2 wrong command line, 130 ended with Ctrl-C.")]
pub struct ServeArgs {
    /// The folder that is seen at /.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// A further folder and the address below which it is seen; may be given several times.
    #[arg(long = "mount", value_name = "/PATH=DIR", value_parser = Mount::parse)]
    pub mounts: Vec<Mount>,
    /// The port to listen on; 0 takes any free one.
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub port: u16,
    /// The address to listen on; 0.0.0.0 lets other machines in.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Print a line for each request to stderr.
    #[arg(long, conflicts_with = "json")]
    pub log: bool,
    /// Print a line of JSON with the address, and one for each request.
    #[arg(long)]
    pub json: bool,
    /// Send so many bytes per second at most, such as 100MB, over all connections together.
    #[arg(long, value_name = "BYTES", value_parser = size_bytes, help_heading = FAULTS)]
    pub throttle: Option<u64>,
    /// Answer this share of requests with 503: the same as --fault 503,rate=RATE.
    #[arg(long, value_name = "RATE", value_parser = fail, help_heading = FAULTS)]
    pub fail: Option<Fault>,
    /// Invert one byte in this share of answers: the same as --fault corrupt,rate=RATE.
    #[arg(long, value_name = "RATE", value_parser = corrupt, help_heading = FAULTS)]
    pub corrupt: Option<Fault>,
    /// What else goes wrong, see below; may be given several times.
    #[arg(long = "fault", value_name = "KIND[,..]", value_parser = Fault::parse, help_heading = FAULTS)]
    pub fault: Vec<Fault>,
    /// Where chance starts: the same seed, files and requests meet the same faults.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = FAULTS)]
    pub seed: u64,
}

/// Above what only tests want.
const FAULTS: &str = "Faults, to test what loads a model";

impl ServeArgs {
    /// All rules, whichever way they were given.
    pub fn faults(&self) -> Vec<Fault> {
        let shares = self.fail.iter().chain(&self.corrupt);
        shares.chain(&self.fault).cloned().collect()
    }
}

/// Draw which patches were merged into one token.
///
/// For a picture: the stages side by side over it. For a video: its events, their frames and times.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi visualize --model models/chat-univi-7b --image sheep.jpg --out merged.png
  univi visualize -m models/chat-univi-7b --image sheep.jpg --stage 2 --out coarse.png
  univi visualize -m models/chat-univi-7b --video clip.mp4 --max-frames 32 --out events.png

Exit codes: 0 drawn, 1 failed, 2 wrong command line, 130 interrupted.")]
#[command(group = clap::ArgGroup::new("visual").required(true).args(["image", "video"]))]
pub struct VisualizeArgs {
    /// The model whose vision tower looks: a folder with a manifest.json, or the manifest.
    #[arg(long, short, value_name = "MODEL")]
    pub model: PathBuf,
    /// What computes.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// The picture to draw on.
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// The video whose events are drawn: a file, an animated GIF, or a folder of frames.
    #[arg(long, value_name = "FILE")]
    pub video: Option<PathBuf>,
    #[command(flatten)]
    pub frames: FrameArgs,
    /// Which stage of merging: 0 is fine, 2 is coarse.
    #[arg(long, value_enum, default_value_t = StageChoice::All)]
    pub stage: StageChoice,
    /// Where the figure goes: a PNG file.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Which stages of merging are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StageChoice {
    /// Spatial stage 0.
    #[value(name = "0")]
    Zero,
    /// Spatial stage 1.
    #[value(name = "1")]
    One,
    /// Spatial stage 2.
    #[value(name = "2")]
    Two,
    /// All three.
    All,
}

/// A picture or a video on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisualPath {
    /// `--image FILE`
    Image(PathBuf),
    /// `--video FILE`
    Video(PathBuf),
}

/// Pictures and videos in the order in which they were given.
#[derive(Debug, Clone, Default)]
pub struct Visuals(pub Vec<VisualPath>);

/// The two options as clap sees them; it loses their order among each other.
#[derive(Debug, Args)]
struct UnorderedVisuals {
    /// A picture (PNG, JPEG, WebP, GIF or BMP); may be given several times.
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// A video: a file, an animated GIF, or a folder of frames; may be given several times.
    #[arg(long, value_name = "FILE|DIR")]
    video: Vec<PathBuf>,
}

impl Args for Visuals {
    fn augment_args(command: clap::Command) -> clap::Command {
        UnorderedVisuals::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        UnorderedVisuals::augment_args_for_update(command)
    }
}

impl clap::FromArgMatches for Visuals {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Visuals, clap::Error> {
        let given = |id: &str, visual: fn(PathBuf) -> VisualPath| -> Vec<(usize, VisualPath)> {
            let indices = matches.indices_of(id).into_iter().flatten();
            let paths = matches
                .get_many::<PathBuf>(id)
                .into_iter()
                .flatten()
                .cloned();
            indices.zip(paths.map(visual)).collect()
        };
        let mut all = given("image", VisualPath::Image);
        all.extend(given("video", VisualPath::Video));
        all.sort_by_key(|&(index, _)| index);
        Ok(Visuals(all.into_iter().map(|(_, visual)| visual).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Visuals::from_arg_matches(matches)?;
        Ok(())
    }
}

fn number(text: &str, expected: &str, fits: impl Fn(f64) -> bool) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|&n| fits(n))
        .ok_or_else(|| format!("expected {expected}"))
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, "a number above 0", |n| n > 0.0 && n.is_finite())
}

fn positive_f32(text: &str) -> Result<f32, String> {
    positive(text).map(|n| n as f32)
}

fn not_negative(text: &str) -> Result<f32, String> {
    number(text, "a number of at least 0", |n| {
        n >= 0.0 && n.is_finite()
    })
    .map(|n| n as f32)
}

/// A share or a probability, but not none at all.
pub fn share(text: &str) -> Result<f32, String> {
    number(text, "a number above 0, up to 1", |n| n > 0.0 && n <= 1.0).map(|n| n as f32)
}

fn fail(rate: &str) -> Result<Fault, String> {
    Fault::parse(&format!("503,rate={rate}"))
}

fn corrupt(rate: &str) -> Result<Fault, String> {
    Fault::parse(&format!("corrupt,rate={rate}"))
}

fn quantization_plan(text: &str) -> Result<QuantizationPlan, String> {
    QuantizationPlan::parse(text).map_err(|e| e.to_string())
}

fn preset(text: &str) -> Result<Preset, String> {
    Preset::parse(text).map_err(|e| e.to_string())
}

/// A number of bytes, with a decimal or a binary unit.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        unit => {
            return Err(format!(
                "unknown unit {unit:?}; there are B, kB, MB, GB, KiB, MiB and GiB"
            ));
        }
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "expected a whole number and a unit, such as 64MiB".to_string())?;
    match number.checked_mul(unit) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("expected more than 0 and less than 2^64 bytes".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn visuals_keep_their_order() {
        let line = [
            "univi", "ask", "-m", "m", "--image", "a", "--video", "b", "--image", "c", "what?",
        ];
        let Command::Ask(ask) = Cli::parse_from(line).command else {
            panic!("not ask")
        };
        let [a, b, c] = ["a", "b", "c"].map(PathBuf::from);
        assert_eq!(
            ask.visuals.0,
            [
                VisualPath::Image(a),
                VisualPath::Video(b),
                VisualPath::Image(c)
            ]
        );
    }
}
