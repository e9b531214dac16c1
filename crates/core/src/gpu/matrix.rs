//! Stored weights on the device, as the bytes of the GGUF file.

use super::{Gpu, memory::Buffer};
use crate::{Error, Result, gguf::GgmlType};

/// Weights `[rows, cols]`, split by rows where they are larger than what a kernel may see at once.
pub struct Matrix {
    pub(super) ty: GgmlType,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_bytes: usize,
    pub(super) parts: Vec<MatrixShard>,
}

/// Consecutive rows in a buffer of their own.
pub(super) struct MatrixShard {
    pub first: usize,
    pub rows: usize,
    pub buffer: Buffer,
}

impl Gpu {
    /// See [`crate::backend::Backend::alloc_matrix`].
    pub(super) fn new_matrix(&self, ty: GgmlType, rows: usize, cols: usize) -> Result<Matrix> {
        let row_bytes = ty.row_bytes(cols)?;
        let max_bytes = self.0.memory.max_bytes();
        let what = || format!("a matrix of {rows} x {cols} {}", ty.name());
        // Parts begin at multiples of 4 bytes, so that writes do; a row may be 2 bytes more.
        let max_rows = match max_bytes / row_bytes.max(1) as u64 {
            fit if fit >= rows as u64 => rows,
            fit => fit as usize / 2 * 2,
        };
        if max_rows == 0 && rows > 0 {
            let needed_bytes = 2 * row_bytes as u64;
            return Err(Error::OutOfMemory {
                what: what(),
                needed_bytes,
                limit_bytes: max_bytes,
            });
        }
        let mut parts = Vec::new();
        for first in (0..rows).step_by(max_rows.max(1)) {
            let rows = max_rows.min(rows - first);
            let buffer = self.persistent(rows as u64 * row_bytes as u64, what)?;
            parts.push(MatrixShard {
                first,
                rows,
                buffer,
            });
        }
        Ok(Matrix {
            ty,
            rows,
            cols,
            row_bytes,
            parts,
        })
    }

    /// See [`crate::backend::Backend::write_matrix`].
    pub(super) fn fill_matrix(&self, matrix: &Matrix, offset: usize, mut bytes: &[u8]) {
        let end = matrix.rows as u64 * matrix.row_bytes as u64;
        let mut offset = offset as u64;
        assert!(
            offset.is_multiple_of(4)
                && offset + bytes.len() as u64 <= end
                && (bytes.len().is_multiple_of(4) || offset + bytes.len() as u64 == end),
            "{} bytes at {offset} of {end}",
            bytes.len()
        );
        for part in &matrix.parts {
            let first = part.first as u64 * matrix.row_bytes as u64;
            let part_bytes = part.rows as u64 * matrix.row_bytes as u64;
            if bytes.is_empty() || offset >= first + part_bytes {
                continue;
            }
            let count = bytes.len().min((first + part_bytes - offset) as usize);
            let (now, rest) = bytes.split_at(count);
            self.write(&part.buffer, offset - first, now);
            offset += count as u64;
            bytes = rest;
        }
    }

    /// Writes `bytes` at byte `offset`, filled up to whole words.
    pub(super) fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        let mut recorder = self.0.recorder.borrow_mut();
        let (words, rest) = bytes.split_at(bytes.len() / 4 * 4);
        if !words.is_empty() {
            recorder.upload(buffer, offset, words);
        }
        if !rest.is_empty() {
            let mut word = [0; 4];
            word[..rest.len()].copy_from_slice(rest);
            recorder.upload(buffer, offset + words.len() as u64, &word);
        }
    }

    /// A buffer that lives as long as the model.
    pub(super) fn persistent(&self, bytes: u64, what: impl Fn() -> String) -> Result<Buffer> {
        let limit_bytes = self.0.memory.max_bytes();
        let refused = || Error::OutOfMemory {
            what: what(),
            needed_bytes: bytes,
            limit_bytes,
        };
        if bytes > limit_bytes {
            return Err(refused());
        }
        let buffer = self.0.memory.alloc(bytes);
        // Natively a refusal is known by now; in a browser it comes with the next read.
        match self.0.errors.take() {
            Err(Error::OutOfMemory { .. }) => Err(Error::OutOfMemory {
                what: what(),
                needed_bytes: bytes,
                limit_bytes: 0,
            }),
            Err(error) => Err(error),
            Ok(()) => Ok(buffer),
        }
    }
}
