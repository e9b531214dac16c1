//! The folder that a run of training writes to: whose it is, and how its files are written.

use std::{fs, path::Path};

use univi::{Error, Result};
use univi_train::{
    state::{RunIdentity, StateFile},
    whole_file,
};

use super::diary::is_diary;
use crate::{files, folder_lock::FolderLock};

/// Writes the files of a checkpoint, each whole.
pub fn write_folder(path: &Path, folder: &univi_train::export::Folder) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| files::io_error(path, &e))?;
    folder
        .iter()
        .try_for_each(|(name, bytes)| files::write(&path.join(name), bytes))
}

/// Makes the folder of a run where there is none, locks it, and removes what a run that was killed
/// has left of files.
pub fn lock(out: &Path) -> Result<FolderLock> {
    fs::create_dir_all(out).map_err(|e| files::io_error(out, &e))?;
    let lock = FolderLock::take(out)?;
    whole_file::remove_unfinished(out).map_err(|e| files::io_error(out, &e))?;
    Ok(lock)
}

/// Refuses a folder to write to that is one of those that are read.
pub fn refuse_input<'a>(out: &Path, mut inputs: impl Iterator<Item = &'a Path>) -> Result<()> {
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
/// not `force`. A diary alone is what a run leaves that was killed, or met a full disk, before its
/// first state: nothing of it can be gone on from, and the next run writes over it.
pub fn claim(
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
    let is_taken = |path: &Path| path.exists() && !is_diary(path);
    match names.iter().find(|name| is_taken(&out.join(name))) {
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
