//! The vision side as a whole: encoder, merging, projector.

use super::{
    checks::{MAX_WIDTH, architecture, bad, count},
    clip::ClipConfig,
    merging::MergeConfig,
};
use crate::{Result, gguf::Metadata};

/// What turns visual tokens into embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectorConfig {
    /// The visual tokens are embeddings already.
    Identity,
    /// So many linear layers with biases, a GELU between two. One is the published model's
    /// projector.
    Mlp {
        /// Linear layers, at least 1.
        layers: usize,
    },
}

/// The vision side of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// The encoder.
    pub clip: ClipConfig,
    /// The merging.
    pub merge: MergeConfig,
    /// The projector.
    pub projector: ProjectorConfig,
    /// Channels of the embeddings: the width of the language model.
    pub width: usize,
}

const MAX_PROJECTOR_LAYERS: usize = 16;

impl VisionConfig {
    /// Reads and checks the keys of a GGUF file of architecture `clip`.
    ///
    /// # Errors
    /// `BadMetadata` that names the key.
    pub fn from_metadata(metadata: &Metadata) -> Result<VisionConfig> {
        architecture(metadata, "clip")?;
        if !metadata.iter().any(|(key, _)| key.starts_with("univi.")) {
            return bad(
                "univi.use_cluster",
                "is missing: this vision side was made for llama.cpp (mmproj), which has no \
                 merging; convert the Chat-UniVi checkpoint with `univi convert`",
            );
        }
        let width_key = "clip.vision.projection_dim";
        let config = VisionConfig {
            clip: ClipConfig::from_metadata(metadata)?,
            merge: MergeConfig::from_metadata(metadata)?,
            projector: ProjectorConfig::from_metadata(metadata)?,
            width: count(metadata, width_key, MAX_WIDTH)?,
        };
        if config.projector == ProjectorConfig::Identity && config.clip.width != config.width {
            return bad(
                width_key,
                format!(
                    "is {}, but nothing projects the encoder's {} channels",
                    config.width, config.clip.width
                ),
            );
        }
        Ok(config)
    }

    /// Returns the most tokens that a picture can become.
    pub fn image_tokens(&self) -> usize {
        let patches = self.clip.patches();
        if !self.merge.use_cluster {
            return patches;
        }
        let (mut tokens, mut all) = (patches, 0);
        for stage in &self.merge.spatial {
            tokens = stage.clusters_and_k(tokens).0;
            all += tokens;
        }
        all
    }

    /// Returns the most tokens that a clip of so many frames can become, where each event becomes
    /// as many as a picture.
    pub fn video_tokens(&self, frames: usize) -> usize {
        if !self.merge.use_cluster {
            return frames + self.image_tokens();
        }
        let (events, _) = self.merge.temporal.clusters_and_k(frames.max(1));
        events * self.image_tokens()
    }
}

impl ProjectorConfig {
    pub(super) fn from_metadata(metadata: &Metadata) -> Result<ProjectorConfig> {
        let key = "clip.projector_type";
        let kind = metadata.str(key)?;
        let layers = kind
            .strip_prefix("mlp")
            .and_then(|rest| rest.strip_suffix("x_gelu"))
            .and_then(|n| n.parse().ok());
        match (kind, layers) {
            ("identity", _) => Ok(ProjectorConfig::Identity),
            ("linear", _) => Ok(ProjectorConfig::Mlp { layers: 1 }),
            (_, Some(layers)) if (1..=MAX_PROJECTOR_LAYERS).contains(&layers) => {
                Ok(ProjectorConfig::Mlp { layers })
            }
            _ => bad(
                key,
                format!(
                    "is {kind:?}, expected \"linear\", \"identity\", or \"mlpNx_gelu\" with N from 1 to {MAX_PROJECTOR_LAYERS}"
                ),
            ),
        }
    }
}
