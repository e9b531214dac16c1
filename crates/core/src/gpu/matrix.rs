//! Stored weights on the device, as the bytes of the GGUF file.

use super::{
    device::Gpu,
    kernels,
    memory::{Binding, Buffer},
    tensor::Tensor,
};
use crate::{Backend, Error, Result, gguf::GgmlType};

/// Weights `[rows, cols]`, split by rows where they are larger than what a kernel may see at once.
pub struct Matrix {
    pub(super) ty: GgmlType,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_bytes: usize,
    pub(super) parts: Vec<MatrixShard>,
}

/// Consecutive rows that are in one buffer, alone or with those of other matrices.
pub(super) struct MatrixShard {
    pub first: usize,
    pub rows: usize,
    pub buffer: Buffer,
    /// The first of them in the buffer, whose rows have all the same length.
    pub buffer_row: usize,
}

/// Bytes that are copied from buffer to buffer before the old ones are waited to be free.
const STACKED_AT_ONCE: u64 = 256 << 20;

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
                buffer_row: 0,
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
            let before = part.buffer_row as u64 * self.row_bytes as u64;
            gpu.write(&part.buffer, before + offset - first, now);
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
                    offset: (part.buffer_row * self.row_bytes + from) as u64,
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

    /// See [`crate::backend::Backend::stack`].
    pub(super) async fn stack(gpu: &Gpu, matrices: &mut [&mut Matrix]) -> Result<()> {
        let alike = |a: &Matrix, b: &Matrix| {
            (a.ty, a.row_bytes) == (b.ty, b.row_bytes) && [a, b].iter().all(|m| m.can_be_stacked())
        };
        for run in matrices.chunk_by_mut(|a, b| alike(a, b)) {
            let bytes = |m: &Matrix| m.rows as u64 * m.row_bytes as u64;
            let total = run.iter().map(|matrix| bytes(matrix)).sum();
            if run.len() < 2 || total > gpu.0.memory.max_bytes() {
                continue;
            }
            let what = || format!("{} matrices beside each other", run.len());
            let buffer = match gpu.persistent(total, what) {
                // Where there is no room for both, they stay as they are.
                Err(Error::OutOfMemory { .. }) => continue,
                other => other?,
            };
            let mut buffer_row = 0;
            for matrix in run {
                let [part] = matrix.parts.as_mut_slice() else {
                    unreachable!("what is stacked has one part");
                };
                let words = Tensor {
                    buffer: part.buffer.clone(),
                    offset: 0,
                    rows: 1,
                    cols: part.rows * matrix.row_bytes / 4,
                };
                let to = buffer_row * matrix.row_bytes / 4;
                kernels::copy(gpu, &words, 0, words.len(), buffer.binding(), to);
                part.buffer = buffer.clone();
                part.buffer_row = buffer_row;
                buffer_row += part.rows;
            }
            // A device frees what was copied when it comes to it: not the whole model twice.
            let mut stacked = gpu.0.stacked_bytes.get() + total;
            if stacked >= STACKED_AT_ONCE {
                gpu.finish().await?;
                stacked = 0;
            }
            gpu.0.stacked_bytes.set(stacked);
        }
        Ok(())
    }

    /// Whether it lies in one buffer of its own, whole words of it, in whole blocks of 32 columns:
    /// what follows a row is then never read with it.
    fn can_be_stacked(&self) -> bool {
        let [part] = self.parts.as_slice() else {
            return false;
        };
        part.buffer_row == 0
            && self.cols.is_multiple_of(32)
            && (self.rows * self.row_bytes).is_multiple_of(4)
    }
}
