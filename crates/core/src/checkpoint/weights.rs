//! Where the tensors of a checkpoint lie, and their numbers.

use std::collections::{BTreeMap, BTreeSet};

use half::{bf16, f16};
use serde::Deserialize;

use super::{Files, config, torch};
use crate::{Error, Result};

/// How a checkpoint stores numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dtype {
    F16,
    BF16,
    F32,
    F64,
    /// Integers, truth values, eight-bit floats: no weight of a model that is read.
    Other {
        name: String,
        bits: usize,
    },
}

impl Dtype {
    pub fn bits(&self) -> usize {
        match self {
            Dtype::F16 | Dtype::BF16 => 16,
            Dtype::F32 => 32,
            Dtype::F64 => 64,
            Dtype::Other { bits, .. } => *bits,
        }
    }
}

/// A tensor on the disk: row-major, without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub file: String,
    pub offset: u64,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl Stored {
    /// Appends `count` numbers from number `first` on.
    ///
    /// The range lies inside the tensor, whose extent was checked against the file when it was
    /// found.
    pub fn read(
        &self,
        files: &dyn Files,
        first: usize,
        count: usize,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let size = self.dtype.bits() / 8;
        let mut bytes = vec![0; count * size];
        files.read(&self.file, self.offset + (first * size) as u64, &mut bytes)?;
        let pairs = bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
        match self.dtype {
            Dtype::F16 => out.extend(pairs.map(|b| f16::from_le_bytes(b).to_f32())),
            Dtype::BF16 => out.extend(pairs.map(|b| bf16::from_le_bytes(b).to_f32())),
            Dtype::F32 => out.extend(
                bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            ),
            Dtype::F64 => out.extend(bytes.chunks_exact(8).map(|b| {
                f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32
            })),
            Dtype::Other { .. } => unreachable!("refused when the part was put together"),
        }
        Ok(())
    }
}

/// The tensors of a checkpoint by name.
#[derive(Debug, Default)]
pub(super) struct Weights {
    tensors: BTreeMap<String, Stored>,
}

/// Tables that name the shard of each tensor, and the files of checkpoints without shards.
const LAYOUTS: [(&str, bool); 4] = [
    ("model.safetensors.index.json", true),
    ("model.safetensors", false),
    ("pytorch_model.bin.index.json", true),
    ("pytorch_model.bin", false),
];

/// safetensors' own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    pub fn open(files: &dyn Files) -> Result<Weights> {
        for (name, is_index) in LAYOUTS {
            if files.len(name)?.is_none() {
                continue;
            }
            return if is_index {
                Weights::of_index(files, name)
            } else {
                Weights::of_files(files, [name])
            };
        }
        let names = LAYOUTS.map(|(name, _)| name).join(", ");
        Err(Error::BadFile {
            format: "checkpoint",
            reason: format!("has no weights: none of {names} is there"),
        })
    }

    fn of_index(files: &dyn Files, index: &str) -> Result<Weights> {
        let wrong = |reason: String| {
            Error::BadFile {
                format: "checkpoint",
                reason,
            }
            .in_file(index)
        };
        let map = config::json::<Index>(files, index)?
            .ok_or_else(|| wrong("is missing".into()))?
            .weight_map;
        let shards: BTreeSet<&str> = map.values().map(String::as_str).collect();
        for shard in &shards {
            if shard.is_empty() || *shard == ".." || shard.contains(['/', '\\', ':']) {
                return Err(wrong(format!(
                    "names a shard {shard:?}, which is no file name"
                )));
            }
        }
        let weights = Weights::of_files(files, shards)?;
        match map
            .iter()
            .find(|(name, _)| !weights.tensors.contains_key(*name))
        {
            Some((name, shard)) => Err(wrong(format!(
                "tensor {name} should be in {shard}, but is not"
            ))),
            None => Ok(weights),
        }
    }

    fn of_files<'n>(
        files: &dyn Files,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Weights> {
        let mut weights = Weights::default();
        for file in names {
            let len = files.len(file)?.ok_or_else(|| {
                Error::BadFile {
                    format: "checkpoint",
                    reason: "is missing: download all shards".into(),
                }
                .in_file(file)
            })?;
            let found = if file.ends_with(".safetensors") {
                safetensors(files, file, len)
            } else {
                torch::tensors(files, file, len)
            };
            for (name, stored) in found.map_err(|e| e.in_file(file))? {
                if let Some(other) = weights.tensors.insert(name.clone(), stored) {
                    let reason = format!("tensor {name} is also in {}", other.file);
                    return Err(Error::BadFile {
                        format: "checkpoint",
                        reason,
                    }
                    .in_file(file));
                }
            }
        }
        Ok(weights)
    }

    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}

/// The table of a safetensors file of `len` bytes.
fn safetensors(files: &dyn Files, file: &str, len: u64) -> Result<Vec<(String, Stored)>> {
    let bad = |reason: String| Error::BadFile {
        format: "safetensors",
        reason,
    };
    if len < 8 {
        return Err(bad(format!(
            "has {len} bytes, too few for a header: download it again"
        )));
    }
    let mut prefix = [0; 8];
    files.read(file, 0, &mut prefix)?;
    let header_bytes = u64::from_le_bytes(prefix);
    let data = header_bytes.saturating_add(8);
    if header_bytes > MAX_HEADER_BYTES || data > len {
        return Err(bad(format!(
            "claims a header of {header_bytes} bytes, but has {len}: it is cut off, or another kind of file"
        )));
    }
    let mut header = vec![0; header_bytes as usize];
    files.read(file, 8, &mut header)?;
    let table: safetensors::tensor::Metadata =
        serde_json::from_slice(&header).map_err(|e| bad(e.to_string()))?;
    let mut tensors = Vec::new();
    for (name, info) in table.tensors() {
        let (start, end) = info.data_offsets;
        let elements = info.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let bits = elements.and_then(|n| n.checked_mul(info.dtype.bitsize()));
        if end < start || bits != (end - start).checked_mul(8) {
            return Err(bad(format!(
                "tensor {name}: shape {:?} does not fill bytes {start} to {end}",
                info.shape
            )));
        }
        if data + end as u64 > len {
            return Err(bad(format!(
                "tensor {name} ends at byte {}, but the file has {len}: download it again",
                data + end as u64
            )));
        }
        let dtype = match info.dtype {
            safetensors::Dtype::F16 => Dtype::F16,
            safetensors::Dtype::BF16 => Dtype::BF16,
            safetensors::Dtype::F32 => Dtype::F32,
            safetensors::Dtype::F64 => Dtype::F64,
            other => Dtype::Other {
                name: format!("{other:?}"),
                bits: other.bitsize(),
            },
        };
        let stored = Stored {
            file: file.to_string(),
            offset: data + start as u64,
            dtype,
            shape: info.shape.clone(),
        };
        tensors.push((name, stored));
    }
    Ok(tensors)
}
