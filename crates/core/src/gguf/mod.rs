//! GGUF files, read as a stream of chunks that is never trusted.
//!
//! ```text
//! chunks of bytes -> Parser -> Event::Header (metadata, tensor table), then Event::Data in order
//! several files of one set -> Shards (one metadata, one tensor table)
//! ```
//!
//! What is read is what llama.cpp reads: version 2 and 3, little-endian, tensors one after the
//! other in the order of the table. [`GgmlType::dequantize`] is the truth that all kernels are
//! tested against.

mod blocks;
mod ggml_type;
mod metadata;
mod parser;
mod quantization_plan;
mod split;

pub use blocks::IQ4_VALUES;
pub(crate) use blocks::{BlockWork, Blocks, row_sixteens};
pub use ggml_type::GgmlType;
pub use metadata::{Array, Metadata, Value};
pub use parser::{Event, FiniteCheck, MAX_HEADER_BYTES, Parser, parse};
pub use quantization_plan::QuantizationPlan;
pub use split::{MAX_SPLIT_FILES, SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS, Shards, SplitName};

/// A tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// The name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// How the numbers are stored.
    pub ty: GgmlType,
    /// Outermost dimension first: the reverse of the order in the file. One to four dimensions,
    /// none of them 0.
    pub shape: Vec<usize>,
    /// Where the data starts, in bytes from the start of the file.
    pub offset: u64,
    /// Length of the data.
    pub bytes: u64,
}

impl TensorInfo {
    /// Rows of the tensor seen as a matrix: 1 for a vector, else the outermost dimension.
    pub fn rows(&self) -> usize {
        if self.shape.len() == 1 {
            1
        } else {
            self.shape[0]
        }
    }

    /// Columns of the tensor seen as a matrix: all numbers of a row, so 588 for a patch convolution
    /// `[width, 3, 14, 14]`.
    pub fn cols(&self) -> usize {
        self.elements() / self.rows()
    }

    /// Returns the count of all numbers. The parser has checked that the product does not overflow.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What stands before the data of a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Keys and values.
    pub metadata: Metadata,
    /// The tensors in file order; their data follow one another without overlap.
    pub tensors: Vec<TensorInfo>,
    /// Where the data starts, in bytes from the start of the file.
    pub data_offset: u64,
    /// What the start of every tensor is a multiple of, counted from `data_offset`.
    pub alignment: u64,
    /// The least length of the file: the end of the last tensor.
    pub file_bytes: u64,
}

impl Header {
    /// Returns the tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|t| t.name == name)
    }
}

/// What every file begins with.
pub const MAGIC: &[u8; 4] = b"GGUF";
/// The newest version of the format.
pub const VERSION: u32 = 3;
/// The alignment of files without `general.alignment`.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// The most dimensions of a tensor: llama.cpp's limit.
pub const MAX_DIMS: usize = 4;
/// The longest name of a tensor: llama.cpp's limit.
pub const MAX_NAME_BYTES: usize = 63;

/// Rounds `position` up to a multiple of `alignment`, a power of two; `None` where 64 bits
/// overflow.
pub fn align(position: u64, alignment: u64) -> Option<u64> {
    Some(position.checked_add(alignment - 1)? & !(alignment - 1))
}

fn bad(reason: impl Into<String>) -> crate::Error {
    crate::Error::BadFile {
        format: "GGUF",
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
