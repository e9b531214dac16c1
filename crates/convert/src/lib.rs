//! From published checkpoints to GGUF files: reading, quantizing, writing.
//!
//! ```text
//! checkpoint::Files -> Checkpoint -> Part -> quantize -> Writer -> bytes
//! ```
//!
//! Like [`univi`], this crate opens no file and no connection: its callers read and write.

pub mod checkpoint;
mod quantize;
mod shards;
mod writer;

pub use quantize::quantize;
pub use shards::{plan_shards, shard_metadata};
pub use writer::{TensorSpec, Writer, check_specs};

fn bad(reason: impl Into<String>) -> univi::Error {
    univi::Error::BadFile {
        format: "GGUF",
        reason: reason.into(),
    }
}
