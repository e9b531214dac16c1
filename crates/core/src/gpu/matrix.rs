//! Stored weights on the device, as the bytes of the GGUF file.

use super::{
    device::Gpu,
    memory::{Binding, Buffer},
};
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

impl Matrix {
    /// See [`crate::backend::Backend::alloc_matrix`].
    pub(super) fn new(gpu: &Gpu, ty: GgmlType, rows: usize, cols: usize) -> Result<Matrix> {
        let row_bytes = ty.row_bytes(cols)?;
        let max_bytes = gpu.0.memory.max_bytes();
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
            let buffer = gpu.persistent(rows as u64 * row_bytes as u64, what)?;
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
    pub(super) fn write(&self, gpu: &Gpu, offset: usize, mut bytes: &[u8]) {
        let end = self.rows as u64 * self.row_bytes as u64;
        let mut offset = offset as u64;
        assert!(
            offset.is_multiple_of(4)
                && offset + bytes.len() as u64 <= end
                && (bytes.len().is_multiple_of(4) || offset + bytes.len() as u64 == end),
            "{} bytes at {offset} of {end}",
            bytes.len()
        );
        for part in &self.parts {
            let first = part.first as u64 * self.row_bytes as u64;
            let part_bytes = part.rows as u64 * self.row_bytes as u64;
            if bytes.is_empty() || offset >= first + part_bytes {
                continue;
            }
            let count = bytes.len().min((first + part_bytes - offset) as usize);
            let (now, rest) = bytes.split_at(count);
            gpu.write(&part.buffer, offset - first, now);
            offset += count as u64;
            bytes = rest;
        }
    }

    /// See [`crate::backend::Backend::read_matrix`].
    pub(super) async fn read(&self, gpu: &Gpu, offset: usize, bytes: usize) -> Result<Vec<u8>> {
        let mut read = Vec::with_capacity(bytes);
        for part in &self.parts {
            let first = part.first * self.row_bytes;
            let from = (offset + read.len()).saturating_sub(first);
            let count = (part.rows * self.row_bytes)
                .saturating_sub(from)
                .min(bytes - read.len());
            if count > 0 {
                let binding = Binding {
                    buffer: &part.buffer,
                    offset: from as u64,
                };
                // Whole words are copied; behind the last byte there is room.
                let words = gpu
                    .read_bytes(binding, count.next_multiple_of(4) as u64)
                    .await?;
                read.extend_from_slice(&words[..count]);
            }
        }
        Ok(read)
    }
}
