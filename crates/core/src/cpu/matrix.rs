//! Weights as they are stored, multiplied exactly.

use std::{ops::Range, sync::Arc};

use candle_core::{D, Device, Tensor};
use rayon::prelude::*;

use super::{
    panel_products::{self, panel_products},
    row_products::{MOST_ROWS, row_products},
    values::{from_f32s, with_f32s},
};
use crate::{Error, Result, gguf::GgmlType};

/// Numbers dequantized at a time: a block of rows of about this size (256 KiB) stays in a core's
/// second-level cache between being written and being multiplied.
const BLOCK_NUMBERS: usize = 64 * 1024;

/// Weights `[rows, cols]`.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// In the type of the file. Multiplying dequantizes a block of rows at a time and is exact: the
    /// activations stay f32.
    Stored(Stored),
    /// In f32. Where this is a `candle_core::Var`, gradients reach it through
    /// [`embed`](crate::Backend::embed) and [`matmul`](crate::Backend::matmul).
    Plain(Tensor),
}

/// The bytes of a matrix and what they mean.
#[derive(Debug, Clone)]
pub struct Stored {
    ty: GgmlType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    bytes: Arc<Vec<u8>>,
}

impl Matrix {
    /// Room for a matrix, all bytes zero.
    pub(super) fn alloc(ty: GgmlType, rows: usize, cols: usize) -> Result<Matrix> {
        let row_bytes = ty.row_bytes(cols)?;
        let needed_bytes = rows as u64 * row_bytes as u64;
        let too_large = || Error::OutOfMemory {
            what: format!("a {ty} matrix of {rows} x {cols}"),
            needed_bytes,
            limit_bytes: 0,
        };
        let len = usize::try_from(needed_bytes).map_err(|_| too_large())?;
        Vec::<u8>::new()
            .try_reserve_exact(len)
            .map_err(|_| too_large())?;
        // Zeroed by the system where it can, which then takes no memory for what is never written.
        let bytes = vec![0; len];
        Ok(Matrix::Stored(Stored {
            ty,
            rows,
            cols,
            row_bytes,
            bytes: Arc::new(bytes),
        }))
    }

    /// Bytes of the matrix as it is stored.
    pub(super) fn stored_bytes(&self, range: Range<usize>) -> Vec<u8> {
        match self {
            Matrix::Stored(stored) => stored.bytes[range].to_vec(),
            Matrix::Plain(_) => panic!("numbers that are computed are not stored"),
        }
    }

    pub(super) fn write(&mut self, offset: usize, new: &[u8]) {
        let Matrix::Stored(stored) = self else {
            panic!("bytes are written to a matrix of f32")
        };
        let bytes =
            Arc::get_mut(&mut stored.bytes).expect("a matrix is written before it is shared");
        bytes[offset..offset + new.len()].copy_from_slice(new);
    }

    /// Row `ids[i]` becomes row `i`.
    pub(super) fn embed(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Matrix::Plain(table) => table.index_select(ids, 0),
            Matrix::Stored(stored) => {
                let ids = ids.to_vec1::<u32>()?;
                let mut values = vec![0.; ids.len() * stored.cols];
                for (row, id) in values.chunks_exact_mut(stored.cols).zip(&ids) {
                    stored.dequantize(*id as usize..*id as usize + 1, row);
                }
                Tensor::from_vec(values, (ids.len(), stored.cols), &Device::Cpu)
            }
        }
    }

    /// `x [t, cols]` times the transpose of the matrix: `[t, rows]`.
    pub(super) fn matmul(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let t = x.dim(0)?;
        match self {
            Matrix::Plain(weights) => x.matmul(&weights.t()?),
            // What is differentiated is composed of candle's operations.
            Matrix::Stored(stored)
                if t > 0 && (t <= MOST_ROWS || panel_products::PAY) && !x.track_op() =>
            {
                let Stored {
                    ty,
                    rows,
                    cols,
                    row_bytes,
                    bytes,
                } = stored;
                let products = if t <= MOST_ROWS {
                    row_products
                } else {
                    panel_products
                };
                let products = with_f32s(x, |x| products(*ty, bytes, *row_bytes, x, *cols))?;
                from_f32s(products, *rows)
            }
            Matrix::Stored(stored) => {
                let block_rows = (BLOCK_NUMBERS / stored.cols).max(1);
                let blocks = (0..stored.rows.div_ceil(block_rows))
                    .into_par_iter()
                    .map(|i| {
                        let rows = i * block_rows..((i + 1) * block_rows).min(stored.rows);
                        let mut values = vec![0.; rows.len() * stored.cols];
                        stored.dequantize(rows.clone(), &mut values);
                        x.matmul(
                            &Tensor::from_vec(values, (rows.len(), stored.cols), &Device::Cpu)?
                                .t()?,
                        )
                    });
                Tensor::cat(&blocks.collect::<candle_core::Result<Vec<_>>>()?, D::Minus1)
            }
        }
    }
}

impl Stored {
    fn dequantize(&self, rows: Range<usize>, values: &mut [f32]) {
        assert!(
            rows.end <= self.rows,
            "rows {rows:?} of a matrix of {}",
            self.rows
        );
        self.ty.dequantize(
            &self.bytes[rows.start * self.row_bytes..rows.end * self.row_bytes],
            values,
        );
    }
}
