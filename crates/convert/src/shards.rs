//! Distribution of a model over several files, as llama.cpp's `gguf-split` does it.

use std::ops::Range;

use univi::{
    Error, Result,
    gguf::{MAX_SPLIT_FILES, Metadata, SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS},
};

use crate::TensorSpec;

/// Distributes tensors over files of at most `max_bytes` of data: ranges of `tensors`, at least
/// one. A tensor that is larger gets a file of its own.
pub fn plan_shards(tensors: &[TensorSpec], max_bytes: u64) -> Result<Vec<Range<usize>>> {
    let mut plan = Vec::new();
    let (mut start, mut used) = (0, 0u64);
    for (i, t) in tensors.iter().enumerate() {
        let bytes = t.bytes()?;
        if i > start && used.saturating_add(bytes) > max_bytes {
            plan.push(start..i);
            (start, used) = (i, 0);
        }
        used = used.saturating_add(bytes);
    }
    plan.push(start..tensors.len());
    if plan.len() > MAX_SPLIT_FILES {
        return Err(Error::BadRequest {
            reason: format!(
                "{} files of {max_bytes} bytes are too many: use larger ones",
                plan.len()
            ),
        });
    }
    Ok(plan)
}

/// Returns the metadata for file `index` of `count`: all of the model's for the first, only the
/// place in the set for the others.
pub fn shard_metadata(model: &Metadata, index: usize, count: usize, tensors: usize) -> Metadata {
    let mut metadata = if index == 0 {
        model.clone()
    } else {
        Metadata::new()
    };
    metadata.insert(SPLIT_NO, index as u16);
    metadata.insert(SPLIT_COUNT, count as u16);
    metadata.insert(SPLIT_TENSORS, tensors as i32);
    metadata
}
