//! `univi train`: the small model from nothing, or a stage of the paper's recipe on data of one's
//! own.

mod diary;
mod nano;
mod stage;

use std::{fs, path::Path};

use univi::Result;

use crate::{
    args::{TrainArgs, Training},
    files,
};

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

/// Writes the files of a checkpoint.
fn write_folder(path: &Path, folder: &univi_train::export::Folder) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| files::io_error(path, &e))?;
    for (name, bytes) in folder {
        let path = path.join(name);
        fs::write(&path, bytes).map_err(|e| files::io_error(&path, &e))?;
    }
    Ok(())
}
