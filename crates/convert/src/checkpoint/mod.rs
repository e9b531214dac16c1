//! Checkpoints as they are published: folders in the layout of Hugging Face. What comes out is what
//! goes into GGUF files: metadata, and tensors one at a time under the names of llama.cpp.
//!
//! ```text
//! Files -> Checkpoint -> CheckpointPart (language model, or vision side)
//!       -> metadata and tensors -> Conversion -> GGUF files
//! ```
//!
//! | folder holds | `Checkpoint::llm` | `Checkpoint::vision` |
//! |---|---|---|
//! | a Chat-UniVi or LLaVA-like model, with or without a CLIP tower in its shards | yes | yes, with a tower from elsewhere where it has none |
//! | a LLaMA | yes | no |
//! | a CLIP, or its vision half | no | [`Checkpoint::tower`]: without projector |
//!
//! Weights are safetensors or zip pickles of `torch.save`; nothing in a pickle is ever executed.
//!
//! # Metadata
//!
//! The language model gets llama.cpp's keys (`general.*`, `llama.*`, `tokenizer.ggml.*`), and
//! these:
//!
//! | key | type | from |
//! |---|---|---|
//! | `univi.template` | string | `univi_template`, `simple` where it is absent, or what the caller says |
//! | `univi.use_im_start_end` | bool | `mm_use_im_start_end` |
//!
//! The vision side is of architecture `clip` and has:
//!
//! | key | type | from |
//! |---|---|---|
//! | `clip.has_vision_encoder` | bool | true |
//! | `clip.use_gelu` | bool | `hidden_act` is `gelu`, else `quick_gelu` |
//! | `clip.projector_type` | string | `mm_projector_type`: `linear`, `mlpNx_gelu`, `identity` |
//! | `clip.vision.image_size`, `.patch_size`, `.embedding_length`, `.feed_forward_length`, `.block_count`, `.attention.head_count` | u32 | CLIP's configuration |
//! | `clip.vision.attention.layer_norm_epsilon` | f32 | `layer_norm_eps` |
//! | `clip.vision.image_mean`, `.image_std` | f32 × 3 | `preprocessor_config.json`, else CLIP's own |
//! | `clip.vision.projection_dim` | u32 | width of the language model; of the tower where it stands alone |
//! | `clip.vision.feature_layer` | i32 | `mm_vision_select_layer` (-2) |
//! | `univi.use_cluster` | bool | `config.use_cluster`, false where it is absent |
//! | `univi.spatial_cluster_rate` | f32 × 3 | `config.spatial_cluster_rate0`, `1`, `2` (64, 32, 16) |
//! | `univi.spatial_cluster_k` | i32 × 3 | 5, 3, 3 |
//! | `univi.temporal_cluster_rate` | f32 | `config.temporal_cluster_rate` (1/16) |
//! | `univi.temporal_cluster_k` | u32 | 5 |
//! | `univi.temporal_position` | string | `config.temporal_position`, else `none` |
//! | `univi.frame_rate` | f32 | 1 |
//! | `univi.max_frames` | u32 | 64 |
//!
//! Tensors that never run (blocks behind the feature layer, the last norm, CLIP's text half,
//! `rotary_emb.inv_freq`) stay behind.

mod archive_entry;
mod config;
mod files;
mod llama;
mod other_folder;
mod part;
mod pickle;
mod recognize;
mod safetensors;
mod stored;
mod tensor_reader;
mod torch;
mod tower;
mod vision;
mod vocabulary;
mod weights;

pub use files::Files;
pub use llama::source_name as llama_source_name;
pub use part::{CheckpointPart, CheckpointTensor};
pub use tensor_reader::{Span, StoredRows, TensorReader};
pub use vision::source_name as vision_source_name;

use std::collections::BTreeMap;

use univi::{Error, Result};

use self::{config::Config, files::read_small, weights::Weights};

/// Refuses tensors that have no place in what a checkpoint is taken for: something would be
/// computed without them.
fn refuse_unknown(names: &[&str], place: &str) -> Result<()> {
    const SHOWN: usize = 5;
    if names.is_empty() {
        return Ok(());
    }
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = names[..names.len().min(SHOWN)].join(", ");
    let (plural, have) = match names.len() {
        1 => ("", "has"),
        _ => ("s", "have"),
    };
    Err(Error::BadFile {
        format: "checkpoint",
        reason: format!("tensor{plural} {shown}{more} {have} no place in {place}"),
    })
}

/// Shapes and numbers of tensors, by their names.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The largest file that [`read_tensors`] reads.
const MAX_READ_BYTES: u64 = 1 << 30;

/// Reads all tensors of one file, safetensors or a pickle: shapes and numbers, by their names. For
/// small files, such as a projector's.
///
/// # Errors
/// `BadFile`, `UnsupportedType`, `Io`, named with the file.
pub fn read_tensors(files: &dyn Files, name: &str) -> Result<Tensors> {
    if let Some(len) = files.len(name)?.filter(|&len| len > MAX_READ_BYTES) {
        let reason = format!("has {len} bytes, expected at most {MAX_READ_BYTES}");
        let format = "checkpoint";
        return Err(Error::BadFile { format, reason }.in_file(name));
    }
    let weights = Weights::of_files(files, [name])?;
    let read = |source: &str| {
        let stored = weights.get(source).expect("it is one of them");
        let shape = stored.shape.clone();
        let order = part::RowOrder::Same;
        let tensor = CheckpointTensor::new(source.to_string(), shape, source, stored, order)?;
        let values = tensor.read(files, 0..tensor.rows())?;
        Ok((source.to_string(), (tensor.shape, values)))
    };
    weights.names().map(read).collect()
}

/// A published checkpoint: its configuration, and where its tensors are. No weights are read yet.
pub struct Checkpoint<'a> {
    files: &'a dyn Files,
    config: Config,
    weights: Weights,
}

impl<'a> Checkpoint<'a> {
    /// Reads `config.json` and the tables of tensors.
    ///
    /// # Errors
    /// Whatever is missing or damaged, named with the file.
    pub fn open(files: &'a dyn Files) -> Result<Checkpoint<'a>> {
        Ok(Checkpoint {
            files,
            config: Config::read(files)?,
            weights: Weights::open(files)?,
        })
    }

    /// Returns the tower that the model was made with, as `config.json` names it: a folder, or a
    /// name on a hub.
    pub fn tower_name(&self) -> Option<&str> {
        self.config.mm_vision_tower.as_deref()
    }

    /// Returns whether the shards hold a projector.
    pub fn has_projector(&self) -> bool {
        let mut names = self.weights.names();
        names.any(|name| name.starts_with("model.mm_projector."))
    }

    /// Returns whether there is a projector, or a tower that the model calls for: whether this is
    /// more than a language model.
    pub fn has_vision(&self) -> bool {
        self.config.mm_vision_tower.is_some() || self.config.mm_hidden_size.is_some()
    }

    /// Returns the language model, and the vision side where there is one; `tower` is the folder of
    /// the tower that the model was made with, where one is known.
    ///
    /// # Errors
    /// As [`Checkpoint::llm`] and [`Checkpoint::vision`]; `BadFile` without a tokenizer.
    pub fn parts(
        &self,
        tower: Option<&Checkpoint<'a>>,
    ) -> Result<(CheckpointPart<'a>, Option<CheckpointPart<'a>>)> {
        let llm = self.llm()?;
        if self.tokenizer_file()?.is_none() {
            return Err(Error::BadFile {
                format: "checkpoint",
                reason: "has no tokenizer: neither tokenizer.model nor tokenizer.json is there; \
                         download it with the weights"
                    .into(),
            });
        }
        let has_vision = self.has_vision() || self.has_tower() || tower.is_some();
        let vision = has_vision.then(|| self.vision(tower)).transpose()?;
        Ok((llm, vision))
    }

    /// Returns a small file of the checkpoint, `None` where there is none of this name.
    ///
    /// # Errors
    /// `Io`; `BadFile` for a file that is not small, or is something else than its name says.
    pub fn small_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        read_small(self.files, name)
    }

    /// Returns the licence that the folder's `README.md` names in its header.
    ///
    /// # Errors
    /// `Io`.
    pub fn license(&self) -> Result<Option<String>> {
        let Some(readme) = read_small(self.files, "README.md")? else {
            return Ok(None);
        };
        let readme = String::from_utf8_lossy(&readme);
        let mut lines = readme.lines();
        if lines.next().map(str::trim) != Some("---") {
            return Ok(None);
        }
        let header = lines.take_while(|line| line.trim() != "---");
        let named = header
            .filter_map(|line| line.strip_prefix("license:"))
            .map(|name| name.trim().trim_matches(['"', '\'']));
        Ok(named.map(str::to_string).find(|name| !name.is_empty()))
    }
}

#[cfg(test)]
mod tests;
