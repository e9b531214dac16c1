//! `univi train`: the small model from nothing, or a stage of the paper's recipe on data of one's
//! own.

mod base;
mod diary;
mod folder;
mod media;
mod nano;
mod stage;
mod stage_args;

use clap::{Args, Subcommand};
use univi::Result;

use stage_args::{Stage, StageArgs};

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
    Nano(nano::NanoArgs),
    Pretrain(StageArgs),
    Tune(StageArgs),
}

/// Trains what was asked for.
///
/// # Errors
/// Whatever is wrong with checkpoint, data or folder; `Aborted` where Ctrl-C was pressed, with
/// everything kept.
pub fn run(args: TrainArgs) -> Result<()> {
    match args.what {
        Training::Nano(args) => nano::run(&args),
        Training::Pretrain(args) => stage::run(&args, Stage::Pretrain),
        Training::Tune(args) => stage::run(&args, Stage::Tune),
    }
}
