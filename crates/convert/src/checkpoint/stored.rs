//! Tensors as they lie in the files of a checkpoint.

use half::{bf16, f16};
use univi::Result;

use super::files::Files;

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
