//! Tensors as they lie in the files of a checkpoint.

use std::sync::{Arc, OnceLock};

use half::{bf16, f16};
use univi::{Error, Result};

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
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub file: String,
    pub offset: u64,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Of the archive's entry that the numbers lie in.
    pub checksum: Option<Arc<Checksum>>,
}

/// The checksum of a part of a file, which is compared once, before the first number is used.
#[derive(Debug)]
pub(super) struct Checksum {
    pub offset: u64,
    pub len: u64,
    pub crc32: u32,
    checked: OnceLock<Result<()>>,
}

/// Bytes that are read at a time to compute a checksum.
const CHECK_BYTES: u64 = 1 << 20;

impl Checksum {
    pub fn new(offset: u64, len: u64, crc32: u32) -> Checksum {
        Checksum {
            offset,
            len,
            crc32,
            checked: OnceLock::new(),
        }
    }

    /// Compares the bytes with their checksum; a second time it is known.
    ///
    /// # Errors
    /// `BadFile` where they differ, `Io`.
    pub fn check(&self, files: &dyn Files, file: &str) -> Result<()> {
        let check = || {
            let mut found = crc32fast::Hasher::new();
            let mut chunk = vec![0; self.len.min(CHECK_BYTES) as usize];
            for start in (0..self.len).step_by(CHECK_BYTES as usize) {
                let chunk = &mut chunk[..CHECK_BYTES.min(self.len - start) as usize];
                files.read(file, self.offset + start, chunk)?;
                found.update(chunk);
            }
            let found = found.finalize();
            // PyTorch can be told to leave checksums out, and writes 0.
            if found == self.crc32 || self.crc32 == 0 {
                return Ok(());
            }
            Err(Error::BadFile {
                format: "PyTorch checkpoint",
                reason: format!(
                    "bytes {} to {} have the checksum {found:08x}, the archive says {:08x}: \
                     the file is damaged, download it again",
                    self.offset,
                    self.offset + self.len,
                    self.crc32
                ),
            })
        };
        self.checked.get_or_init(check).clone()
    }
}

impl Stored {
    /// Appends `count` numbers from number `first` on.
    ///
    /// The range lies inside the tensor, whose extent was checked against the file when it was
    /// found.
    ///
    /// # Errors
    /// `Io`; `BadFile` where the bytes are not those of their checksum.
    pub fn read(
        &self,
        files: &dyn Files,
        first: usize,
        count: usize,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        if let Some(checksum) = &self.checksum {
            checksum.check(files, &self.file)?;
        }
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
