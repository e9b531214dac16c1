//! The two stages of the paper, and what a run of one is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::values::{positive, positive_f32};

/// Train one stage on conversations about images and videos.
///
/// `pretrain` is the paper's first stage: the projector alone learns, from captions. `tune` is its
/// second: projector and language model learn, from conversations about images and videos mixed in
/// one file. Images and videos go through the code that inference runs. A folder of a checkpoint in
/// Hugging Face's layout goes in, and one comes out.
#[derive(Debug, Args)]
#[command(after_help = "\
The data is JSON or JSON lines as LLaVA, Chat-UniVi and Video-ChatGPT publish it:
  [{ \"id\": \"1\", \"image\": \"coco/1.jpg\", \"conversations\": [
      { \"from\": \"human\", \"value\": \"<image>\\nWhat is this?\" }, { \"from\": \"gpt\", \"value\": \"A dog.\" }] },
   { \"q\": \"What happens?\", \"a\": \"It rains.\", \"video_id\": \"v_1\" }]
with `image` and `video` (a path or several) below a folder --media, `<image>` and `<video>` where they belong.
Samples whose media are missing or damaged, that are empty or too long, are skipped and named.

Examples:
  univi train pretrain vicuna-7b --vision-tower clip-vit-large-patch14 --data captions.json --media images --out stage1
  univi train tune stage1 --vision-tower clip-vit-large-patch14 --data mixed.json --media media --out stage2 --epochs 2
  univi train tune vicuna-7b --projector mm_projector.bin --vision-tower clip-vit-large-patch14 \\
      --data llava.json --data video_chat.jsonl --media coco --media videos --out stage2
  univi train tune stage1 --data toy.json --media toy --out toy-out --batch 4 --rate 1e-3 --optimizer muon

Exit codes: 0 trained, 1 failed, 2 wrong command line, 130 interrupted: the same command goes on.")]
pub struct StageArgs {
    /// The checkpoint's folder: a LLaMA's or Vicuna's, or what an earlier stage wrote.
    #[arg(value_name = "HF_DIR")]
    pub checkpoint: PathBuf,
    /// The folder of the CLIP that the model was made with. It has what the shards lack, and is
    /// refused where its sizes are others than theirs.
    #[arg(long, value_name = "DIR")]
    pub vision_tower: Option<PathBuf>,
    /// The projector of an earlier stage, for a checkpoint without one: `mm_projector.bin`.
    #[arg(long, value_name = "FILE")]
    pub projector: Option<PathBuf>,
    /// The conversations; may be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    pub data: Vec<PathBuf>,
    /// A folder that paths in the data are relative to; may be given several times, and the first
    /// that has a file counts.
    #[arg(long, value_name = "DIR")]
    pub media: Vec<PathBuf>,
    /// Samples that may be skipped before training is refused or stops [default: 1 % of them, at
    /// least 10].
    #[arg(long, value_name = "N")]
    pub skip_limit: Option<usize>,
    /// Where the trained checkpoint, the state and the curve go.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Begin anew and overwrite what another run, or another program, has left in the folder.
    #[arg(long)]
    pub force: bool,
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

/// A stage of the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The projector learns.
    Pretrain,
    /// Projector and language model learn.
    Tune,
}

impl Stage {
    /// Returns the command's name.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Pretrain => "pretrain",
            Stage::Tune => "tune",
        }
    }

    /// Returns whether a tensor of this name is trained.
    pub fn learns(self, vision: bool) -> fn(&str) -> bool {
        match (self, vision) {
            (Stage::Pretrain, false) => |name| name.starts_with("mm."),
            (Stage::Pretrain, true) => |name| name.starts_with("mm.") || name.starts_with("v."),
            (Stage::Tune, false) => |name| !name.starts_with("v."),
            (Stage::Tune, true) => |_| true,
        }
    }

    /// The paper's learning rate and epochs.
    pub fn defaults(self) -> (f32, f64) {
        match self {
            Stage::Pretrain => (2e-3, 1.),
            Stage::Tune => (2e-5, 2.),
        }
    }
}
