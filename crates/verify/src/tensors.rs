//! Fixtures of tensors.

use std::collections::{BTreeMap, HashMap};

use univi::{Error, Result};

use crate::Fixtures;

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

    /// Returns the names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns what the file says of itself under `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Returns a tensor's shape.
    ///
    /// # Errors
    /// `MissingTensor`.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        self.get(name).map(|(shape, _)| &shape[..])
    }

    /// Returns a tensor of floats.
    ///
    /// # Errors
    /// `MissingTensor`, `UnsupportedType`.
    pub fn f32(&self, name: &str) -> Result<&[f32]> {
        match self.get(name)? {
            (_, Values::F32(values)) => Ok(values),
            (_, other) => Err(of_type(name, other, "F32, F16 and BF16")),
        }
    }

    /// Returns a tensor of integers.
    ///
    /// # Errors
    /// `MissingTensor`, `UnsupportedType`.
    pub fn i64(&self, name: &str) -> Result<&[i64]> {
        match self.get(name)? {
            (_, Values::I64(values)) => Ok(values),
            (_, other) => Err(of_type(name, other, "I64")),
        }
    }

    /// Returns a tensor of bytes.
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
