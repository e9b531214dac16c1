//! The journal of a conversion: which of its files are finished, so that another run goes on.
//!
//! Lines of JSON: what is converted, then each finished file. A line that is cut off, as a run that
//! was killed leaves one, does not count.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use univi::Result;

use crate::files;

/// The name of the journal in the folder of a model that is not finished.
pub const JOURNAL_NAME: &str = "conversion.unfinished";

/// A file that was written whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedFile {
    /// The name in the model's folder.
    pub name: String,
    /// The length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in lower-case hexadecimal digits.
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Title {
    conversion: String,
}

/// A journal that lines are added to.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Reads the journal of `folder`: the identity of the conversion, and its finished files;
    /// `None` where there is none.
    pub fn read(folder: &Path) -> Option<(String, Vec<FinishedFile>)> {
        let text = fs::read_to_string(folder.join(JOURNAL_NAME)).ok()?;
        let mut lines = text.lines();
        let title: Title = serde_json::from_str(lines.next()?).ok()?;
        let finished = lines.map_while(|line| serde_json::from_str(line).ok());
        Some((title.conversion, finished.collect()))
    }

    /// Begins a journal, with the files that are finished already.
    ///
    /// # Errors
    /// `Io`.
    pub fn begin(folder: &Path, conversion: &str, finished: &[FinishedFile]) -> Result<Journal> {
        let path = folder.join(JOURNAL_NAME);
        let title = Title {
            conversion: conversion.to_string(),
        };
        let mut text = line(&title);
        for file in finished {
            text += &line(file);
        }
        files::write(&path, text.as_bytes())?;
        let opened = OpenOptions::new().append(true).open(&path);
        let file = opened.map_err(|e| files::io_error(&path, &e))?;
        Ok(Journal { path, file })
    }

    /// Notes a finished file, which is on the disk by now.
    ///
    /// # Errors
    /// `Io`.
    pub fn add(&mut self, finished: &FinishedFile) -> Result<()> {
        let written = self.file.write_all(line(finished).as_bytes());
        written
            .and_then(|()| self.file.sync_data())
            .map_err(|e| files::io_error(&self.path, &e))
    }
}

fn line(value: &impl Serialize) -> String {
    // Neither has anything that JSON can't say.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}
