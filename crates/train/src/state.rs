//! States of a stage on the disk: what it has learned, and what it needs to go on.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use safetensors::{Dtype, View, tensor::Metadata};
use univi::{Error, Result};

use crate::whole_file;

/// What makes a run the one that it is: base, data, stage, batch, seed, recipe. Two runs with the
/// same entries learn the same.
pub type RunIdentity = BTreeMap<String, String>;

/// The largest header of a state.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The metadata's keys.
const STEP: &str = "step";
const RUN: &str = "run";

/// A tensor that is fetched when it is written: a state needs no memory of its own size.
pub struct Fetched<'a> {
    len: usize,
    fetch: Box<dyn Fn() -> Result<Vec<f32>> + 'a>,
    failed: &'a RefCell<Option<Error>>,
}

impl<'a> Fetched<'a> {
    /// `len` numbers that `fetch` will return; its errors go to `failed`.
    pub fn new(
        len: usize,
        failed: &'a RefCell<Option<Error>>,
        fetch: impl Fn() -> Result<Vec<f32>> + 'a,
    ) -> Fetched<'a> {
        Fetched {
            len,
            fetch: Box::new(fetch),
            failed,
        }
    }
}

impl View for Fetched<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        std::slice::from_ref(&self.len)
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let numbers = (self.fetch)().unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            vec![0.; self.len]
        });
        Cow::Owned(bytemuck::cast_slice(&numbers).to_vec())
    }

    fn data_len(&self) -> usize {
        self.len * size_of::<f32>()
    }
}

/// Writes a state whole.
///
/// # Errors
/// `Io`, or what fetching a tensor `failed` with.
pub fn write(
    path: &Path,
    step: u64,
    run: &RunIdentity,
    tensors: Vec<(String, Fetched)>,
    failed: &RefCell<Option<Error>>,
) -> Result<()> {
    let run = serde_json::to_string(run).map_err(|e| io(e.to_string()))?;
    let about = HashMap::from([(STEP.into(), step.to_string()), (RUN.into(), run)]);
    let in_file = |reason: String| io(reason).in_file(path.display().to_string());
    let fill = |temporary: &Path| {
        let written = safetensors::serialize_to_file(tensors, Some(about), temporary);
        written.map_err(|e| in_file(e.to_string()))?;
        failed.borrow_mut().take().map_or(Ok(()), Err)
    };
    whole_file::write_with(path, fill, |e| in_file(e.to_string()))
}

/// A state that is read tensor by tensor.
pub struct StateFile {
    file: RefCell<File>,
    data: u64,
    header: Metadata,
    /// The next step.
    pub step: u64,
    /// Of which run it is; `None` for states that don't say so.
    pub run: Option<RunIdentity>,
}

impl StateFile {
    /// Opens a state and reads its table.
    ///
    /// # Errors
    /// `Io`; `BadFile` for what is no whole state.
    pub fn open(path: &Path) -> Result<StateFile> {
        let mut file = File::open(path).map_err(|e| io(e.to_string()))?;
        let len = file.metadata().map_err(|e| io(e.to_string()))?.len();
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix)
            .map_err(|_| bad_state("it has no header".into()))?;
        let header_bytes = u64::from_le_bytes(prefix);
        if header_bytes > MAX_HEADER_BYTES || header_bytes + 8 > len {
            return Err(bad_state(format!(
                "it claims a header of {header_bytes} bytes"
            )));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header)
            .map_err(|e| io(e.to_string()))?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| bad_state(e.to_string()))?;
        let data = 8 + header_bytes;
        for (name, info) in header.tensors() {
            let (start, end) = info.data_offsets;
            let numbers = info.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            let bytes = numbers.and_then(|n| n.checked_mul(size_of::<f32>()));
            if info.dtype != Dtype::F32 || end < start || bytes != Some(end - start) {
                return Err(bad_state(format!(
                    "{name} is not f32, or not where it should be"
                )));
            }
            if end as u64 > len - data {
                return Err(bad_state(format!("{name} is missing: the file is cut off")));
            }
        }
        let about = |key| header.metadata().as_ref()?.get(key);
        let step = about(STEP)
            .and_then(|step| step.parse().ok())
            .ok_or_else(|| bad_state("it has no step".into()))?;
        let run = about(RUN).map(|run| serde_json::from_str(run));
        let run = run.transpose().map_err(|e| bad_state(e.to_string()))?;
        Ok(StateFile {
            file: RefCell::new(file),
            data,
            header,
            step,
            run,
        })
    }

    /// Returns the numbers of a tensor; `None` where there is none of this name.
    ///
    /// # Errors
    /// `Io`.
    pub fn read(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(info) = self.header.info(name) else {
            return Ok(None);
        };
        let (start, end) = info.data_offsets;
        let mut numbers = vec![0f32; (end - start) / size_of::<f32>()];
        let mut file = self.file.borrow_mut();
        file.seek(SeekFrom::Start(self.data + start as u64))
            .and_then(|_| file.read_exact(bytemuck::cast_slice_mut(&mut numbers)))
            .map_err(|e| io(e.to_string()))?;
        Ok(Some(numbers))
    }

    /// Checks that the state belongs to a run.
    ///
    /// # Errors
    /// `BadRequest` that names what differs.
    pub fn check_run(&self, run: &RunIdentity) -> Result<()> {
        let mine = |reason: String| Err(Error::BadRequest { reason });
        let Some(stored) = &self.run else {
            return mine("it does not say which run it belongs to; name another folder".into());
        };
        let missing = String::from("not set");
        let keys: BTreeSet<&String> = stored.keys().chain(run.keys()).collect();
        let differences: Vec<String> = keys
            .into_iter()
            .filter_map(|key| {
                let [was, is] = [stored, run].map(|run| run.get(key).unwrap_or(&missing));
                (was != is).then(|| format!("{key} was {was} and is {is}"))
            })
            .collect();
        if !differences.is_empty() {
            return mine(format!(
                "it belongs to another run: {}; name another folder, or begin anew with --force",
                differences.join(", ")
            ));
        }
        Ok(())
    }
}

fn io(reason: String) -> Error {
    Error::Io { reason }
}

/// What is wrong with a file that should be a state.
pub(crate) fn bad_state(reason: String) -> Error {
    Error::BadFile {
        format: "training state",
        reason,
    }
}
