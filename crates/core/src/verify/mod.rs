//! The self-test: fixtures that the original computed, run through this library.
//!
//! One module per kind of fixture. Each looks for its files wherever they lie below the root, so
//! any subset and any values of the documented layouts can be checked, and reports one [`Case`]
//! per comparison. The command line, the browser page and the tests all run these same functions.

use std::collections::{BTreeMap, HashMap};

use serde::de::DeserializeOwned;

use crate::{
    Backend, Error, Result,
    checkpoint::{CheckpointPart, CheckpointTensor},
    gguf::GgmlType,
    model::{ExpectedTensor, Weights},
};

pub mod clip;
pub mod dpc_knn;
pub mod e2e;
pub mod gguf_models;
pub mod gguf_raw;
pub mod gguf_shards;
pub mod llama;
pub mod merge;
pub mod preprocess;
pub mod prompt;
pub mod sampling;
pub mod smollm2;
pub mod tokenizer;

/// Where fixtures come from: a folder, or what a page fetched.
pub trait Fixtures {
    /// The bytes of one file, named as [`list`](Fixtures::list) names it.
    ///
    /// # Errors
    /// `Io` where there is no such file.
    fn read(&self, path: &str) -> Result<Vec<u8>>;

    /// Every file below the root, as paths with `/`.
    fn list(&self) -> Vec<String>;

    /// A real model, too large to lie among the fixtures, which name it by its length and
    /// SHA-256 (hexadecimal). `None` where nobody said where models are.
    ///
    /// # Errors
    /// `Io` where models are, but not this one: how to get it.
    fn model(&self, bytes: u64, sha256: &str) -> Result<Option<Vec<u8>>> {
        let _ = (bytes, sha256);
        Ok(None)
    }

    /// Whether somebody wants to know of cases whose names begin so. Long ones are left out where
    /// nobody does; of others, more may be told than was asked for.
    fn wants(&self, begin: &str) -> bool {
        let _ = begin;
        true
    }
}

/// The kinds of fixtures, quick ones first. A case's name begins with its kind.
pub const KINDS: [&str; 13] = [
    "sampling",
    "preprocess",
    "tokenizer",
    "prompt",
    "dpc_knn",
    "merge",
    "clip",
    "llama",
    "raw",
    "e2e",
    "shards",
    "models",
    "smollm2",
];

/// Compares all fixtures of one of [`KINDS`]; an empty report where there are none.
pub async fn check<B: Backend>(kind: &str, backend: &B, fixtures: &dyn Fixtures) -> Report {
    match kind {
        "sampling" => sampling::check(fixtures),
        "preprocess" => preprocess::check(fixtures),
        "tokenizer" => tokenizer::check(fixtures),
        "prompt" => prompt::check(fixtures),
        "dpc_knn" => dpc_knn::check(backend, fixtures).await,
        "merge" => merge::check(backend, fixtures).await,
        "clip" => clip::check(backend, fixtures).await,
        "llama" => llama::check(backend, fixtures).await,
        "raw" => gguf_raw::check(backend, fixtures).await,
        "models" => gguf_models::check(backend, fixtures).await,
        "e2e" => e2e::check(backend, fixtures).await,
        "smollm2" => smollm2::check(backend, fixtures).await,
        "shards" => gguf_shards::check(backend, fixtures).await,
        _ => Report::default(),
    }
}

/// One comparison with the reference.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Case {
    /// What was compared, beginning with the kind of fixture: `preprocess/rgba crop`.
    pub name: String,
    /// The largest error found; 1 where something that must be equal is not.
    pub error: f64,
    /// The largest error allowed; 0 where values must be equal.
    pub tolerance: f64,
    /// Whether the error is within the tolerance.
    pub passed: bool,
    /// Where the error is, or why the comparison could not be made; empty where all is well.
    pub detail: String,
}

/// What a run of fixtures found.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Report {
    /// Every comparison made.
    pub cases: Vec<Case>,
    /// What could not be compared because a file that it needs is not there.
    pub missing: Vec<String>,
}

impl Report {
    /// Whether every comparison passed.
    pub fn passed(&self) -> bool {
        self.cases.iter().all(|case| case.passed)
    }

    /// The comparisons that did not pass.
    pub fn failures(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(|case| !case.passed)
    }

    /// Adds all of another report.
    pub fn extend(&mut self, other: Report) {
        self.cases.extend(other.cases);
        self.missing.extend(other.missing);
    }

    /// Records an error that was measured elsewhere. NaN never passes.
    pub fn measured(
        &mut self,
        name: impl Into<String>,
        error: f64,
        tolerance: f64,
        detail: impl Into<String>,
    ) {
        self.cases.push(Case {
            name: name.into(),
            error,
            tolerance,
            passed: error <= tolerance,
            detail: detail.into(),
        });
    }

    /// Compares floats: the largest absolute difference must be at most `tolerance`.
    pub fn close(
        &mut self,
        name: impl Into<String>,
        found: &[f32],
        expected: &[f32],
        tolerance: f64,
    ) {
        if found.len() != expected.len() {
            let detail = format!("{} values, expected {}", found.len(), expected.len());
            return self.measured(name, f64::INFINITY, tolerance, detail);
        }
        let (mut worst, mut error) = (0, 0.0);
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let difference = f64::from(f - e).abs();
            // NaN is worse than anything, and must not be compared away.
            if difference > error || difference.is_nan() {
                (worst, error) = (i, difference);
                if error.is_nan() {
                    break;
                }
            }
        }
        let detail = match found.get(worst) {
            Some(f) if error > 0.0 || error.is_nan() => {
                format!("worst at {worst}: {f}, expected {}", expected[worst])
            }
            _ => String::new(),
        };
        self.measured(name, error, tolerance, detail);
    }

    /// Compares values that must be equal; of lists the first difference is told.
    pub fn equal<T: PartialEq + std::fmt::Debug>(
        &mut self,
        name: impl Into<String>,
        found: &[T],
        expected: &[T],
    ) {
        let differs = |i: &usize| found.get(*i) != expected.get(*i);
        let detail = match (0..found.len().max(expected.len())).find(differs) {
            None => String::new(),
            Some(i) => format!(
                "at {i} of {}: {:?}, expected {:?} of {}",
                found.len(),
                found.get(i),
                expected.get(i),
                expected.len()
            ),
        };
        let error = if detail.is_empty() { 0.0 } else { 1.0 };
        self.measured(name, error, 0.0, detail);
    }

    /// Compares texts, which must be equal.
    pub fn equal_text(&mut self, name: impl Into<String>, found: &str, expected: &str) {
        let detail = match found == expected {
            true => String::new(),
            false => format!("{found:?}, expected {expected:?}"),
        };
        let error = if detail.is_empty() { 0.0 } else { 1.0 };
        self.measured(name, error, 0.0, detail);
    }

    /// Records a check that could not be carried out.
    pub fn failed(&mut self, name: &str, error: &Error) {
        self.measured(name, f64::INFINITY, 0.0, error.to_string());
    }

    /// Runs `check`; an error that it returns is a failed case, not the end of the run.
    pub fn attempt(&mut self, name: &str, check: impl FnOnce(&mut Report) -> Result<()>) {
        if let Err(error) = check(self) {
            self.failed(name, &error);
        }
    }
}

/// What to say of a fixture that is not as its README describes it.
fn wrong_layout(what: &str, expected: &str) -> Error {
    Error::BadFile {
        format: "fixture",
        reason: format!("{what}: expected {expected}"),
    }
}

/// The folders, each with its closing `/` or empty, in which `file` lies: `golden/` for a
/// `file` of `sampling/frame_indices.json`.
pub fn folders_with(fixtures: &dyn Fixtures, file: &str) -> Vec<String> {
    let is_folder = |folder: &&str| folder.is_empty() || folder.ends_with('/');
    let mut folders: Vec<String> = fixtures
        .list()
        .iter()
        .filter_map(|path| path.strip_suffix(file).filter(is_folder).map(String::from))
        .collect();
    folders.sort();
    folders
}

/// The files right in `folder`, which ends with `/`, as a checkpoint is read from.
fn files_of_folder(fixtures: &dyn Fixtures, folder: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for path in fixtures.list() {
        if let Some(name) = path.strip_prefix(folder).filter(|name| !name.contains('/')) {
            files.insert(name.to_string(), fixtures.read(&path)?);
        }
    }
    Ok(files)
}

/// The tensors of a side of a checkpoint, in f32.
fn weights_of_part<B: Backend>(backend: &B, part: &CheckpointPart<'_>) -> Result<Weights<B>> {
    let wanted = |tensor: &CheckpointTensor<'_>| ExpectedTensor {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        optional: false,
    };
    let mut weights = Weights::new(backend.clone(), part.tensors.iter().map(wanted).collect());
    for tensor in &part.tensors {
        weights.begin(&tensor.name, GgmlType::F32, &tensor.shape)?;
        let values = tensor.read(0..tensor.rows())?;
        weights.write(&tensor.name, 0, bytemuck::cast_slice(&values));
    }
    Ok(weights)
}

/// Reads a JSON fixture.
///
/// # Errors
/// `Io` where it is not there, `BadFile` where it is not of the documented layout.
pub fn read_json<T: DeserializeOwned>(fixtures: &dyn Fixtures, path: &str) -> Result<T> {
    serde_json::from_slice(&fixtures.read(path)?).map_err(|e| {
        Error::BadFile {
            format: "fixture",
            reason: e.to_string(),
        }
        .in_file(path)
    })
}

/// The values of one tensor of a fixture.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Stored as F32, F16 or BF16.
    F32(Vec<f32>),
    /// Stored as I64.
    I64(Vec<i64>),
    /// Stored as U8.
    U8(Vec<u8>),
}

/// The tensors of a safetensors fixture, by name: shape, outermost dimension first, and values.
#[derive(Debug, Clone, Default)]
pub struct Tensors {
    tensors: BTreeMap<String, (Vec<usize>, Values)>,
    metadata: HashMap<String, String>,
}

impl Tensors {
    /// Reads a safetensors fixture.
    ///
    /// # Errors
    /// `Io` where it is not there, `BadFile` where it is not safetensors of the types above.
    pub fn read(fixtures: &dyn Fixtures, path: &str) -> Result<Tensors> {
        let bytes = fixtures.read(path)?;
        let wrong = |reason: String| {
            Error::BadFile {
                format: "safetensors",
                reason,
            }
            .in_file(path)
        };
        let file =
            safetensors::SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let data = view.data();
            let values = match view.dtype() {
                safetensors::Dtype::F32 => Values::F32(each(data, f32::from_le_bytes)),
                safetensors::Dtype::F16 => {
                    Values::F32(each(data, |b| half::f16::from_le_bytes(b).to_f32()))
                }
                safetensors::Dtype::BF16 => {
                    Values::F32(each(data, |b| half::bf16::from_le_bytes(b).to_f32()))
                }
                safetensors::Dtype::I64 => Values::I64(each(data, i64::from_le_bytes)),
                safetensors::Dtype::U8 => Values::U8(data.to_vec()),
                other => return Err(wrong(format!("{name} is stored as {other:?}"))),
            };
            tensors.insert(name.to_string(), (view.shape().to_vec(), values));
        }
        let (_, header) =
            safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| wrong(e.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Tensors { tensors, metadata })
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What the file says of itself under `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// A tensor's shape.
    ///
    /// # Errors
    /// `MissingTensor`.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        self.get(name).map(|(shape, _)| &shape[..])
    }

    /// A tensor of floats.
    ///
    /// # Errors
    /// `MissingTensor`, `UnsupportedType`.
    pub fn f32(&self, name: &str) -> Result<&[f32]> {
        match self.get(name)? {
            (_, Values::F32(values)) => Ok(values),
            (_, other) => Err(of_type(name, other, "F32, F16 and BF16")),
        }
    }

    /// A tensor of integers.
    ///
    /// # Errors
    /// `MissingTensor`, `UnsupportedType`.
    pub fn i64(&self, name: &str) -> Result<&[i64]> {
        match self.get(name)? {
            (_, Values::I64(values)) => Ok(values),
            (_, other) => Err(of_type(name, other, "I64")),
        }
    }

    /// A tensor of bytes.
    ///
    /// # Errors
    /// `MissingTensor`, `UnsupportedType`.
    pub fn u8(&self, name: &str) -> Result<&[u8]> {
        match self.get(name)? {
            (_, Values::U8(values)) => Ok(values),
            (_, other) => Err(of_type(name, other, "U8")),
        }
    }

    fn get(&self, name: &str) -> Result<&(Vec<usize>, Values)> {
        self.tensors
            .get(name)
            .ok_or_else(|| Error::MissingTensor { name: name.into() })
    }
}

fn of_type(name: &str, found: &Values, supported: &str) -> Error {
    let found = match found {
        Values::F32(_) => "floats",
        Values::I64(_) => "I64",
        Values::U8(_) => "U8",
    };
    Error::UnsupportedType {
        name: name.into(),
        found: found.into(),
        supported: supported.into(),
    }
}

fn each<const N: usize, T>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|b| value(*b)).collect()
}
