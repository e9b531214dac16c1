//! How long answers of a run took. What a clock says differs from run to run, so it stands beside
//! the answers, in a file that no report is made of and no shard is joined by.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use univi::Result;
use univi_eval::Journal;

use crate::files;

/// The name of the file in the folder of a run.
const TIMINGS_NAME: &str = "timings.jsonl";

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Timing {
    /// The position among all samples.
    index: usize,
    /// Seconds until the first token of each answer.
    prefill_s: Vec<f64>,
}

/// The file, to go on with.
#[derive(Debug)]
pub struct Timings {
    path: PathBuf,
    file: File,
    by_index: BTreeMap<usize, Vec<f64>>,
}

impl Timings {
    /// Opens the file in `folder`, or begins one. Only what belongs to an answer of the journal is
    /// kept; a line that can't be read is none.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(folder: &Path, journal: &Journal) -> Result<Timings> {
        let path = folder.join(TIMINGS_NAME);
        let text = match path.is_file() {
            true => files::read(&path)?,
            false => Vec::new(),
        };
        let text = String::from_utf8_lossy(&text);
        let read = text.lines().filter_map(|line| {
            let timing: Timing = serde_json::from_str(line).ok()?;
            Some((timing.index, timing.prefill_s))
        });
        let by_index: BTreeMap<usize, Vec<f64>> =
            read.filter(|(index, _)| journal.has(*index)).collect();
        let kept: String = by_index
            .iter()
            .map(|(&index, prefill_s)| line(index, prefill_s.clone()))
            .collect();
        files::write(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|e| files::io_error(&path, &e))?;
        Ok(Timings {
            path,
            file,
            by_index,
        })
    }

    /// Adds what the answers to one sample took.
    ///
    /// # Errors
    /// `Io`.
    pub fn add(&mut self, index: usize, prefill_s: Vec<f64>) -> Result<()> {
        let written = self
            .file
            .write_all(line(index, prefill_s.clone()).as_bytes());
        written.map_err(|e| files::io_error(&self.path, &e))?;
        self.by_index.insert(index, prefill_s);
        Ok(())
    }

    /// Returns the median of seconds until the first token; `None` where nothing was measured.
    pub fn median_prefill_s(&self) -> Option<f64> {
        let mut all: Vec<f64> = self.by_index.values().flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }
}

fn line(index: usize, prefill_s: Vec<f64>) -> String {
    let timing = Timing { index, prefill_s };
    serde_json::to_string(&timing).unwrap_or_default() + "\n"
}
