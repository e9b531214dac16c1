//! From published checkpoints to GGUF files: reading, quantizing, writing.
//!
//! ```text
//! checkpoint::Files -> Checkpoint -> Conversion: files, each with its header and its tensors
//! bytes of a tensor's span -> TensorReader -> StoredRows -> CheckpointTensor::encode -> its data
//! ```
//!
//! Like [`univi`], this crate opens no file and no connection: its callers read and write.

mod card;
pub mod checkpoint;
mod conversion;
mod importance;
mod quantize;
mod shards;
mod writer;

pub use card::{CARD_MARK, CARD_NAME, Origin};
pub use conversion::{Conversion, ConversionOptions, PlannedFile, PlannedTensor};
pub use importance::{ImportanceMatrix, MAX_IMPORTANCE_BYTES};
pub use quantize::{quantize, quantize_weighted};
pub use shards::{plan_shards, shard_metadata};
pub use writer::{TensorSpec, Writer, check_specs, header};

fn bad(reason: impl Into<String>) -> univi::Error {
    univi::Error::BadFile {
        format: "GGUF",
        reason: reason.into(),
    }
}
