//! Metadata becomes validated structs: strings turn into enums here and nowhere else, and every
//! number is checked before it sizes anything.

mod checks;
mod clip;
mod llama;
mod llama_keys;
mod merging;
#[cfg(test)]
mod tests;
mod vision;

pub use clip::ClipConfig;
pub use llama::{LlamaConfig, RopeConfig};
pub(crate) use merging::pooled_grid;
pub use merging::{ClusterConfig, ClusterRate, MergeConfig, MergeMethod, TemporalPosition};
pub use vision::{ProjectorConfig, VisionConfig};
