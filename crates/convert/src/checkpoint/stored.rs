//! Tensors as they lie in the files of a checkpoint.

use std::sync::Arc;

use half::{bf16, f16};

use super::archive_entry::ArchiveEntry;

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

    /// Returns the numbers that whole numbers of bytes stand for.
    pub fn decode(&self, bytes: &[u8]) -> Vec<f32> {
        let pairs = bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
        match self {
            Dtype::F16 => pairs.map(|b| f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::BF16 => pairs.map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
            Dtype::F32 => bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            Dtype::F64 => bytes
                .chunks_exact(8)
                .map(|b| {
                    f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32
                })
                .collect(),
            Dtype::Other { .. } => unreachable!("refused when the part was put together"),
        }
    }
}

/// A tensor on the disk: row-major, without gaps.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub file: String,
    /// Of its first byte, from the start of the file, or of `entry`'s data.
    pub offset: u64,
    /// The archive's entry that the numbers lie in.
    pub entry: Option<Arc<ArchiveEntry>>,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}
