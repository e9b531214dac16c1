//! The self-test: fixtures that the original computed, run through this library.
//!
//! One module per kind of fixture. Each looks for its files wherever they lie below the root, so
//! any subset and any values of the documented layouts can be checked, and reports one [`Case`]
//! per comparison. The command line, the browser page and the tests all run these same functions.

pub mod clip;
pub mod dpc_knn;
pub mod e2e;
mod fixtures;
mod folders;
pub mod gguf_models;
pub mod gguf_raw;
pub mod gguf_shards;
pub mod llama;
pub mod merge;
pub mod preprocess;
pub mod prompt;
mod report;
pub mod sampling;
pub mod smollm2;
mod tensors;
pub mod tokenizer;
mod weights;

use univi::Backend;

pub use fixtures::{Fixtures, folders_with, read_json};
pub(crate) use fixtures::{files_of_folder, wrong_layout};
pub(crate) use folders::check_folders;
pub use report::{Case, Report};
pub use tensors::{Tensors, Values};
pub(crate) use weights::weights_of_part;

/// The kinds of fixtures, quick ones first. A case's name begins with its kind.
pub const KINDS: [&str; 13] = [
    "sampling",
    "preprocess",
    "tokenizer",
    "prompt",
    "dpc_knn",
    "merge",
    "clip",
    "llama",
    "raw",
    "e2e",
    "shards",
    "models",
    "smollm2",
];

/// Compares all fixtures of one of [`KINDS`]; an empty report where there are none.
pub async fn check<B: Backend>(kind: &str, backend: &B, fixtures: &dyn Fixtures) -> Report {
    match kind {
        "sampling" => sampling::check(fixtures),
        "preprocess" => preprocess::check(fixtures),
        "tokenizer" => tokenizer::check(fixtures),
        "prompt" => prompt::check(fixtures),
        "dpc_knn" => dpc_knn::check(backend, fixtures).await,
        "merge" => merge::check(backend, fixtures).await,
        "clip" => clip::check(backend, fixtures).await,
        "llama" => llama::check(backend, fixtures).await,
        "raw" => gguf_raw::check(backend, fixtures).await,
        "models" => gguf_models::check(backend, fixtures).await,
        "e2e" => e2e::check(backend, fixtures).await,
        "smollm2" => smollm2::check(backend, fixtures).await,
        "shards" => gguf_shards::check(backend, fixtures).await,
        _ => Report::default(),
    }
}
