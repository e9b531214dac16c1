//! `univi train`: the small model from nothing, or a stage of the paper's recipe on data of one's
//! own.

mod base;
mod diary;
mod media;
mod nano;
mod stage;

use std::{fs, path::Path};

use clap::{Args, Subcommand};
use univi::{Error, Result};
use univi_train::{
    state::{RunIdentity, StateFile},
    whole_file,
};

use crate::{files, folder_lock::FolderLock};

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
    Pretrain(stage::StageArgs),
    Tune(stage::StageArgs),
}

/// Trains what was asked for.
///
/// # Errors
/// Whatever is wrong with checkpoint, data or folder; `Aborted` where Ctrl-C was pressed, with
/// everything kept.
pub fn run(args: TrainArgs) -> Result<()> {
    match args.what {
        Training::Nano(args) => nano::run(&args),
        Training::Pretrain(args) => stage::run(&args, stage::Stage::Pretrain),
        Training::Tune(args) => stage::run(&args, stage::Stage::Tune),
    }
}

/// Writes the files of a checkpoint, each whole.
fn write_folder(path: &Path, folder: &univi_train::export::Folder) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| files::io_error(path, &e))?;
    folder
        .iter()
        .try_for_each(|(name, bytes)| whole_file::write(&path.join(name), bytes))
}

/// Makes the folder of a run where there is none, locks it, and removes what a run that was killed
/// has left of files.
fn lock(out: &Path) -> Result<FolderLock> {
    fs::create_dir_all(out).map_err(|e| files::io_error(out, &e))?;
    let lock = FolderLock::take(out)?;
    whole_file::remove_unfinished(out)?;
    Ok(lock)
}

/// Refuses a folder to write to that is one of those that are read.
fn refuse_input<'a>(out: &Path, mut inputs: impl Iterator<Item = &'a Path>) -> Result<()> {
    let Ok(place) = out.canonicalize() else {
        return Ok(()); // It is not there yet.
    };
    match inputs.find(|input| input.canonicalize().is_ok_and(|input| input == place)) {
        None => Ok(()),
        Some(input) => Err(Error::BadRequest {
            reason: format!(
                "--out is {}, which is read: name another folder",
                files::name(input)
            ),
        }),
    }
}

/// Finds out whether a run may write to `out`, and whether it goes on from the state there; changes
/// nothing.
///
/// # Errors
/// `BadRequest` for the state of another run, or where one of `names` is there without a state, and
/// not `force`.
fn claim(
    out: &Path,
    state: &Path,
    run: &RunIdentity,
    force: bool,
    names: &[String],
) -> Result<bool> {
    if force {
        return Ok(false);
    }
    if state.is_file() {
        let checked = StateFile::open(state).and_then(|file| file.check_run(run));
        return checked
            .map(|()| true)
            .map_err(|e| e.in_file(files::name(state)));
    }
    match names.iter().find(|name| out.join(name).exists()) {
        None => Ok(false),
        Some(name) => Err(Error::BadRequest {
            reason: format!(
                "{} is there already and of no run of this command: name another folder, or \
                 overwrite it with --force",
                files::name(&out.join(name))
            ),
        }),
    }
}
