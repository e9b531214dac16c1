//! Files of safetensors: a header that describes the tensors, and their numbers.

use univi::{Error, Result};

use super::{
    files::Ends,
    stored::{Dtype, Stored},
};

/// safetensors' own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The table of a safetensors file.
pub(super) fn tensors(mut ends: Ends) -> Result<Vec<(String, Stored)>> {
    let len = ends.len;
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
    ends.read(0, &mut prefix)?;
    let header_bytes = u64::from_le_bytes(prefix);
    let data = header_bytes.saturating_add(8);
    if header_bytes > MAX_HEADER_BYTES || data > len {
        return Err(bad(format!(
            "claims a header of {header_bytes} bytes, but has {len}: it is cut off, or another kind of file"
        )));
    }
    let mut header = vec![0; header_bytes as usize];
    ends.read(8, &mut header)?;
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
        let last = data.saturating_add(end as u64);
        if last > len {
            return Err(bad(format!(
                "tensor {name} ends at byte {last}, but the file has {len}: download it again"
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
            file: ends.file.to_string(),
            offset: data + start as u64,
            entry: None,
            dtype,
            shape: info.shape.clone(),
        };
        tensors.push((name, stored));
    }
    Ok(tensors)
}
