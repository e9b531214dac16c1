//! All tensors of a checkpoint, whatever files they are in.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use univi::{Error, Result, signature::Signature};

use super::{
    files::{Ends, Files, read_json, refuse_impostor},
    other_folder::other_folder,
    safetensors,
    stored::Stored,
    torch,
};

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
        let reason = match other_folder(files)? {
            Some(reason) => reason,
            None => {
                let names = LAYOUTS.map(|(name, _)| name).join(", ");
                format!("has no weights: none of {names} is there")
            }
        };
        Err(Error::BadFile {
            format: "checkpoint",
            reason,
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
        let map = read_json::<Index>(files, index)?
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

    pub fn of_files<'n>(
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
            let is_safetensors = file.ends_with(".safetensors");
            let ends = Ends::open(files, file, len)?;
            let expected = match is_safetensors {
                true => Signature::Safetensors,
                false => Signature::Zip,
            };
            refuse_impostor(ends.signature(), Some(expected)).map_err(|e| e.in_file(file))?;
            let found = if is_safetensors {
                safetensors::tensors(ends)
            } else {
                torch::tensors(ends)
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
