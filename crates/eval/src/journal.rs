//! The journal of a run: what is run, then one line of JSON for each answer, as it comes.
//!
//! A run that is killed leaves a whole number of lines and perhaps a piece of one, which does not
//! count. The same command goes on behind them. A finished journal is put into the order of the
//! samples, so that however often a run was interrupted, and in however many shards it was done,
//! its bytes are the same.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use univi::{Error, Result};

use crate::{data::Fault, sample::Record};

/// The name of a journal in the folder of a run.
pub const JOURNAL_NAME: &str = "answers.jsonl";

/// Between two times that the disk is made to have all lines.
const SYNC: Duration = Duration::from_secs(1);

/// What is run: answers of another run don't belong to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The benchmark's name.
    pub benchmark: String,
    /// What answers.
    pub model: String,
    /// What tells the model from others of its name.
    pub model_sha256: String,
    /// SHA-256 of the questions.
    pub data_sha256: String,
    /// Samples of the whole run.
    pub samples: usize,
    /// Questions that can't be asked.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// How the model is asked: whatever may change an answer.
    pub options: Map<String, Value>,
    /// The command that gives this run.
    pub command: String,
    /// Which of the samples are done here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
}

/// Every `of`-th sample, beginning with the `number`-th, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which.
    pub number: usize,
    /// Of how many.
    pub of: usize,
}

impl Shard {
    /// Returns whether the sample of this index is one of them.
    pub fn has(self, index: usize) -> bool {
        index % self.of == self.number - 1
    }
}

impl FromStr for Shard {
    type Err = String;

    /// Reads `2/4`.
    fn from_str(text: &str) -> Result<Shard, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Shard { number, of }),
            _ => Err("expected I/N with I from 1 to N, as 2/4".into()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// The journal of one run in its folder.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    run: Run,
    records: BTreeMap<usize, Record>,
    file: File,
    synced: Instant,
}

impl Journal {
    /// Opens the journal in `folder` to go on, or begins one. What holds no answer, since its run
    /// failed at the first, is begun anew.
    ///
    /// # Errors
    /// `BadRequest` where it is of another run, naming what differs; `BadFile` for a line that
    /// can't be read; `Io`.
    pub fn open(folder: &Path, run: &Run) -> Result<Journal> {
        let path = folder.join(JOURNAL_NAME);
        let records = match path.is_file() {
            true => {
                let (found, mut records) = read(&path)?;
                if records.values().all(|record| record.error.is_some()) {
                    records.clear();
                } else if let Some(found) = found {
                    same(&found, run).map_err(|what| Error::BadRequest {
                        reason: format!(
                            "{} is of another run ({what}): choose another --out, or remove it",
                            path.display()
                        ),
                    })?;
                }
                records
            }
            false => BTreeMap::new(),
        };
        Journal::write(path, run.clone(), records)
    }

    /// Reads a journal to make a report of it.
    ///
    /// # Errors
    /// As [`Journal::open`]; `BadFile` where nothing is in it.
    pub fn load(folder: &Path) -> Result<(Run, Vec<Record>)> {
        let path = folder.join(JOURNAL_NAME);
        let (run, records) = read(&path)?;
        let run = run.ok_or_else(|| bad(&path, "no run was begun here".into()))?;
        Ok((run, records.into_values().collect()))
    }

    /// Returns what the journals of shards hold together. Nothing is written.
    ///
    /// # Errors
    /// `BadRequest` where they are not of one run, overlap, or lack answers, naming them.
    pub fn join(shards: &[PathBuf]) -> Result<(Run, Vec<Record>)> {
        let refuse = |reason: String| Error::BadRequest { reason };
        let mut whole: Option<Run> = None;
        let mut records = BTreeMap::new();
        for shard in shards {
            let (mut run, found) = Journal::load(shard)?;
            run.shard = None;
            if let Some(whole) = &whole {
                same(whole, &run).map_err(|what| {
                    refuse(format!("{} is of another run ({what})", shard.display()))
                })?;
            }
            whole.get_or_insert(run);
            for record in found {
                if let Some(twice) = records.insert(record.index, record) {
                    let id = twice.id;
                    let reason = format!("{} answers {id:?} once more", shard.display());
                    return Err(refuse(reason));
                }
            }
        }
        let run = whole.ok_or_else(|| refuse("there is nothing to merge".into()))?;
        if let Some(missing) = (0..run.samples).find(|index| !records.contains_key(index)) {
            let lacking = run.samples - records.len();
            return Err(refuse(format!(
                "{lacking} of {} answers are missing, the first is number {missing}: \
                 let all shards end before they are merged",
                run.samples
            )));
        }
        Ok((run, records.into_values().collect()))
    }

    /// Writes a whole run into `folder`.
    ///
    /// # Errors
    /// `BadRequest` where answers of another run are there; `Io`.
    pub fn put(folder: &Path, run: &Run, records: &[Record]) -> Result<()> {
        let records = records.iter().cloned().map(|record| (record.index, record));
        let records = records.collect();
        let mut journal = Journal::open(folder, run)?;
        journal.records = records;
        journal.finish()
    }

    /// Returns whether this sample needs no answer any more. One that failed does.
    pub fn has(&self, index: usize) -> bool {
        let record = self.records.get(&index);
        record.is_some_and(|record| record.error.is_none())
    }

    /// Returns all records in the order of the samples.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Adds an answer. It is with the system when this returns, and on the disk within a second of
    /// answers.
    ///
    /// # Errors
    /// `Io`.
    pub fn add(&mut self, record: Record) -> Result<()> {
        let written = self.file.write_all(line(&record).as_bytes());
        written.map_err(|error| io(&self.path, &error))?;
        self.records.insert(record.index, record);
        if self.synced.elapsed() >= SYNC {
            self.file
                .sync_data()
                .map_err(|error| io(&self.path, &error))?;
            self.synced = Instant::now();
        }
        Ok(())
    }

    /// Puts all lines into the order of the samples.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(&mut self) -> Result<()> {
        let records = std::mem::take(&mut self.records);
        *self = Journal::write(self.path.clone(), self.run.clone(), records)?;
        Ok(())
    }

    /// Writes a whole journal beside the one that is there, and puts it into its place.
    fn write(path: PathBuf, run: Run, records: BTreeMap<usize, Record>) -> Result<Journal> {
        let fresh = path.with_extension("jsonl.part");
        let failed = |error: std::io::Error| io(&path, &error);
        let mut text = line(&run);
        for record in records.values() {
            text += &line(record);
        }
        let mut file = File::create(&fresh).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        drop(file);
        fs::rename(&fresh, &path).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(&path);
        Ok(Journal {
            file: file.map_err(failed)?,
            synced: Instant::now(),
            path,
            run,
            records,
        })
    }
}

/// Reads the run, where its line is whole, and the records; the last line of an index counts.
fn read(path: &Path) -> Result<(Option<Run>, BTreeMap<usize, Record>)> {
    let text = fs::read_to_string(path).map_err(|error| io(path, &error))?;
    // Behind the last line end is a piece of a line at most.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines().enumerate();
    let mut run = None;
    if let Some((_, first)) = lines.next() {
        let parsed = serde_json::from_str(first);
        run = Some(parsed.map_err(|error| bad(path, format!("line 1: {error}")))?);
    }
    let mut records = BTreeMap::new();
    for (i, text) in lines {
        let parsed = serde_json::from_str(text);
        let record: Record =
            parsed.map_err(|error| bad(path, format!("line {}: {error}", i + 1)))?;
        records.insert(record.index, record);
    }
    Ok((run, records))
}

/// Names what differs between two runs.
fn same(a: &Run, b: &Run) -> Result<(), String> {
    let differ = |name: &str, a: &dyn fmt::Display, b: &dyn fmt::Display| {
        Err(format!("{name}: {a}, not {b}"))
    };
    if a.benchmark != b.benchmark {
        return differ("benchmark", &a.benchmark, &b.benchmark);
    }
    if a.model_sha256 != b.model_sha256 {
        return differ("model", &a.model, &format!("this {}", b.model));
    }
    if a.data_sha256 != b.data_sha256 || a.samples != b.samples || a.faults != b.faults {
        return Err("the questions are others".into());
    }
    if a.shard != b.shard {
        let name = |shard: Option<Shard>| shard.map_or("all".into(), |shard| shard.to_string());
        return differ("shard", &name(a.shard), &name(b.shard));
    }
    for key in a.options.keys().chain(b.options.keys()) {
        let (a, b) = (a.options.get(key), b.options.get(key));
        if a != b {
            let show = |value: Option<&Value>| value.map_or("none".into(), Value::to_string);
            return differ(key, &show(a), &show(b));
        }
    }
    Ok(())
}

fn line(value: &impl Serialize) -> String {
    // Neither has anything that JSON can't say.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

fn io(path: &Path, error: &std::io::Error) -> Error {
    Error::Io {
        reason: error.to_string(),
    }
    .in_file(path.display().to_string())
}

fn bad(path: &Path, reason: String) -> Error {
    Error::BadFile {
        format: "journal",
        reason,
    }
    .in_file(path.display().to_string())
}
