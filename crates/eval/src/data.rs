//! Reading question files: JSON, JSON lines, tables; and finding what they name.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use univi::{Error, Result};

use crate::sample::{Media, Sample};

/// Where a benchmark's files lie.
#[derive(Debug, Clone)]
pub struct Data {
    folder: PathBuf,
    media: Option<PathBuf>,
}

/// What a benchmark's files hold.
#[derive(Debug, Default)]
pub struct Questions {
    /// In the order of the file.
    pub samples: Vec<Sample>,
    /// What can't be asked.
    pub faults: Vec<Fault>,
    /// SHA-256 of the files that were read, in hexadecimal.
    pub sha256: String,
}

/// Something wrong with one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Which: an id, or the line of a file.
    pub sample: String,
    /// What is wrong.
    pub reason: String,
}

/// A file of questions or answers, as it was read.
pub(crate) struct Entries {
    /// Each entry with where it stands.
    pub entries: Vec<(String, Map<String, Value>)>,
    pub faults: Vec<Fault>,
    pub sha256: String,
}

impl Data {
    /// Takes the folder of a benchmark, and the folder of its pictures or videos where they lie
    /// elsewhere.
    pub fn new(folder: impl Into<PathBuf>, media: Option<PathBuf>) -> Data {
        Data {
            folder: folder.into(),
            media,
        }
    }

    /// Checks that the folders are there.
    ///
    /// # Errors
    /// `Io` where one is not.
    pub(crate) fn check(&self) -> Result<()> {
        let gone = std::iter::once(&self.folder).chain(&self.media);
        let gone = gone.into_iter().find(|folder| !folder.is_dir());
        gone.map_or(Ok(()), |folder| {
            let reason = "there is no such folder".into();
            Err(Error::Io { reason }.in_file(folder.display().to_string()))
        })
    }

    /// Finds the first of these files that is there, `None` where none is.
    pub(crate) fn find(&self, names: &[&str]) -> Option<PathBuf> {
        let paths = names.iter().map(|name| self.folder.join(name));
        paths.into_iter().find(|path| path.is_file())
    }

    /// Reads the first of these files that is there: an array of objects, an object of objects
    /// (whose keys become the field `key`), or lines of objects.
    pub(crate) fn read(&self, names: &[&str]) -> Result<Entries> {
        let Some(path) = self.find(names) else {
            let expected = names.join(" or ");
            return Err(Error::Io {
                reason: format!("no question file: expected {expected} in this folder"),
            }
            .in_file(self.folder.display().to_string()));
        };
        entries(&path)
    }

    /// Reads the list that stands under `key` in one object.
    pub(crate) fn read_list(&self, name: &str, key: &str) -> Result<Entries> {
        let mut read = self.read(&[name])?;
        let Some((_, whole)) = read.entries.pop() else {
            return Ok(read);
        };
        let list = match whole.get(key) {
            Some(Value::Array(list)) => list.clone(),
            _ => {
                let reason = format!("there is no list {key:?}");
                return Err(bad(&self.folder.join(name), reason));
            }
        };
        for (i, value) in list.into_iter().enumerate() {
            let sample = format!("{name}[{key:?}][{i}]");
            match value {
                Value::Object(entry) => read.entries.push((sample, entry)),
                _ => read.faults.push(Fault {
                    sample,
                    reason: "this is no object".into(),
                }),
            }
        }
        Ok(read)
    }

    /// Finds a picture by the name that a question file gives it, in the folder of media or of the
    /// data, or in one of these folders below them.
    pub(crate) fn image(&self, name: &str, folders: &[&str]) -> Media {
        match self.locate(name, folders, &[""]) {
            Some(path) => Media::Image(path),
            None => Media::Missing(name.to_owned()),
        }
    }

    /// Finds a video by its name without an ending, also with `v_` before it. A folder of frames
    /// counts, too.
    pub(crate) fn video(&self, name: &str, folders: &[&str]) -> Media {
        const ENDINGS: [&str; 7] = [".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif", ""];
        let prefixed = format!("v_{name}");
        let found = self
            .locate(name, folders, &ENDINGS)
            .or_else(|| self.locate(&prefixed, folders, &ENDINGS));
        match found {
            Some(path) => Media::Video(path),
            None => Media::Missing(name.to_owned()),
        }
    }

    fn locate(&self, name: &str, folders: &[&str], endings: &[&str]) -> Option<PathBuf> {
        // A name in a file of strangers must not lead out of the folder.
        let name = name.replace('\\', "/");
        let is_inside = |path: &Path| {
            path.components()
                .all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        if name.is_empty() || !is_inside(Path::new(&name)) {
            return None;
        }
        let below = |root: &Path| -> Vec<PathBuf> {
            let folders = folders.iter().map(|folder| root.join(folder));
            std::iter::once(root.to_owned()).chain(folders).collect()
        };
        let roots = self.media.iter().chain([&self.folder]);
        for root in roots.flat_map(|root| below(root)) {
            for ending in endings {
                let path = root.join(format!("{name}{ending}"));
                if path.exists() {
                    return Some(path);
                }
            }
        }
        None
    }
}

impl Entries {
    /// Returns the entries by a field of theirs, and what is wrong with the rest. Of several with
    /// one value the first counts; that they are the same is no fault.
    pub(crate) fn by(self, key: &str) -> (HashMap<String, Map<String, Value>>, Vec<Fault>) {
        let mut by = HashMap::new();
        let mut faults = self.faults;
        for (sample, entry) in self.entries {
            let reason = match text(&entry, key) {
                Err(reason) => reason,
                Ok(value) => match by.entry(value) {
                    Entry::Vacant(free) => {
                        free.insert(entry);
                        continue;
                    }
                    Entry::Occupied(first) if *first.get() == entry => continue,
                    Entry::Occupied(_) => TWICE.into(),
                },
            };
            faults.push(Fault { sample, reason });
        }
        (by, faults)
    }
}

impl Questions {
    /// Collects the samples that `make` makes of entries; what it refuses becomes a fault.
    pub(crate) fn collect(
        entries: Entries,
        mut make: impl FnMut(&Map<String, Value>) -> Result<Sample, String>,
    ) -> Questions {
        let mut questions = Questions {
            samples: Vec::new(),
            faults: entries.faults,
            sha256: entries.sha256,
        };
        for (place, entry) in &entries.entries {
            match make(entry) {
                Ok(sample) => questions.samples.push(sample),
                Err(reason) => questions.faults.push(Fault {
                    sample: place.clone(),
                    reason,
                }),
            }
        }
        questions
    }

    /// Has the identity of another file count, too.
    pub(crate) fn also_of(&mut self, sha256: &str) {
        let both = format!("{} {sha256}", self.sha256);
        self.sha256 = hex::encode(Sha256::digest(both));
    }

    pub(crate) fn drop_duplicates(&mut self) {
        let mut seen = HashSet::new();
        let faults = &mut self.faults;
        self.samples.retain(|sample| {
            let is_new = seen.insert(sample.id.clone());
            if !is_new {
                faults.push(Fault {
                    sample: sample.id.clone(),
                    reason: TWICE.into(),
                });
            }
            is_new
        });
    }
}

/// Returns the text of a field.
pub(crate) fn text(entry: &Map<String, Value>, key: &str) -> Result<String, String> {
    match entry.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err(format!("{key:?} is no text")),
        None => Err(format!("there is no {key:?}")),
    }
}

/// Returns these fields, as far as they are there.
pub(crate) fn source(entry: &Map<String, Value>, keys: &[&str]) -> Map<String, Value> {
    let fields = keys.iter().filter_map(|&key| {
        let value = entry.get(key)?;
        Some((key.to_owned(), value.clone()))
    });
    fields.collect()
}

/// Returns what ten people said: texts, or objects with an `answer`.
pub(crate) fn answers(value: &Value) -> Option<Vec<String>> {
    let of = |answer: &Value| match answer {
        Value::String(text) => Some(text.clone()),
        Value::Object(answer) => Some(answer.get("answer")?.as_str()?.to_owned()),
        _ => None,
    };
    value.as_array()?.iter().map(of).collect()
}

fn bad(path: &Path, reason: String) -> Error {
    Error::BadFile {
        format: "questions",
        reason,
    }
    .in_file(path.display().to_string())
}

/// Reads a file of entries.
///
/// # Errors
/// `Io`; `BadFile` for what is neither JSON nor lines of it.
pub(crate) fn entries(path: &Path) -> Result<Entries> {
    let bytes = fs::read(path).map_err(|error| {
        Error::Io {
            reason: error.to_string(),
        }
        .in_file(path.display().to_string())
    })?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let text = String::from_utf8(bytes).map_err(|_| bad(path, "the file is no UTF-8".into()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_table = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("tsv"));
    let values = match is_table {
        true => table(text).map(|rows| {
            let rows = rows.into_iter();
            let value = |(line, row)| (format!("{name}:{line}"), Ok(Value::Object(row)));
            rows.map(value).collect()
        }),
        false => json(text, &name),
    };
    let mut read = Entries {
        entries: Vec::new(),
        faults: Vec::new(),
        sha256,
    };
    for (sample, value) in values.map_err(|reason| bad(path, reason))? {
        match value {
            Ok(Value::Object(entry)) => read.entries.push((sample, entry)),
            Ok(_) => read.faults.push(Fault {
                sample,
                reason: "this is no object".into(),
            }),
            Err(reason) => read.faults.push(Fault { sample, reason }),
        }
    }
    Ok(read)
}

type Values = Vec<(String, Result<Value, String>)>;

/// What is wrong with the second of two samples of one id.
const TWICE: &str = "this id stands there twice; the first one counts";

/// A file that is one value. An object keeps keys that stand there twice.
enum Whole {
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Whole, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or an object")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Whole, A::Error> {
                let mut all = Vec::new();
                while let Some(value) = list.next_element()? {
                    all.push(value);
                }
                Ok(Whole::List(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Whole, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = object.next_entry()? {
                    all.push(entry);
                }
                Ok(Whole::Object(all))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// Reads an array, an object of objects, or lines. Broken lines cost themselves.
fn json(text: &str, name: &str) -> Result<Values, String> {
    match serde_json::from_str(text) {
        Ok(Whole::List(all)) => {
            let all = all.into_iter().enumerate();
            Ok(all
                .map(|(i, value)| (format!("{name}[{i}]"), Ok(value)))
                .collect())
        }
        Ok(Whole::Object(mut all))
            if !all.is_empty() && all.iter().all(|(_, value)| value.is_object()) =>
        {
            // The order is that of the keys; among equal ones that of the file.
            all.sort_by(|(a, _), (b, _)| a.cmp(b));
            let mut last: Option<String> = None;
            let entry = |(key, mut value): (String, Value)| {
                let place = format!("{name}[{key:?}]");
                if last.as_ref() == Some(&key) {
                    return (place, Err(TWICE.into()));
                }
                if let Value::Object(entry) = &mut value {
                    entry.insert("key".into(), Value::String(key.clone()));
                }
                last = Some(key);
                (place, Ok(value))
            };
            Ok(all.into_iter().map(entry).collect())
        }
        Ok(Whole::Object(fields)) => {
            let value = Value::Object(fields.into_iter().collect());
            Ok(vec![(name.to_owned(), Ok(value))])
        }
        Err(_) => {
            let lines = text.lines().enumerate();
            let lines = lines.filter(|(_, line)| !line.trim().is_empty());
            let values: Values = lines
                .map(|(i, line)| {
                    let value = serde_json::from_str(line).map_err(|error| error.to_string());
                    (format!("{name}:{}", i + 1), value)
                })
                .collect();
            match values.iter().any(|(_, value)| value.is_ok()) {
                true => Ok(values),
                false if values.is_empty() => Err("the file is empty".into()),
                false => Err("this is neither JSON nor lines of JSON".into()),
            }
        }
    }
}

/// A row by its columns' names, and the number of its line.
type NumberedRow = (usize, Map<String, Value>);

/// Reads a table of texts between tabs, with quotes around texts that hold tabs, line ends or
/// quotes, which are doubled then. An empty field is left out. Returns rows with their lines.
fn table(text: &str) -> Result<Vec<NumberedRow>, String> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut begun, mut quoted) = (1, 1, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            '\t' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push((begun, std::mem::take(&mut row)));
                begun = line;
            }
            c => field.push(c),
        }
    }
    if quoted {
        return Err(format!("line {begun}: a quote has no end"));
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push((begun, row));
    }
    let mut rows = rows.into_iter();
    let (_, names) = rows.next().ok_or("the file is empty")?;
    let entry = |(line, row): (usize, Vec<String>)| {
        let fields = names.iter().cloned().zip(row);
        let fields = fields.filter(|(_, field)| !field.is_empty());
        let fields = fields.map(|(name, field)| (name, Value::String(field)));
        (line, fields.collect())
    };
    Ok(rows.map(entry).collect())
}
