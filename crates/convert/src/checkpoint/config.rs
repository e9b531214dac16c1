//! `config.json` of a language model or of a CLIP.

use serde::Deserialize;
use univi::{Error, Result};

use super::files::{Files, read_json};

pub(super) const CONFIG_NAME: &str = "config.json";

/// The keys of all layouts that are read; those of the others are absent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub hidden_size: Option<u32>,
    pub intermediate_size: Option<u32>,
    pub num_hidden_layers: Option<u32>,
    pub num_attention_heads: Option<u32>,
    pub hidden_act: Option<String>,

    pub num_key_value_heads: Option<u32>,
    pub head_dim: Option<u32>,
    pub vocab_size: Option<u32>,
    pub max_position_embeddings: Option<u32>,
    pub rms_norm_eps: Option<f32>,
    pub rope_theta: Option<f32>,
    pub rope_scaling: Option<Rope>,
    pub rope_parameters: Option<Rope>,
    pub sliding_window: Option<u32>,
    pub tie_word_embeddings: Option<bool>,
    pub attention_bias: Option<bool>,
    pub mlp_bias: Option<bool>,

    pub mm_hidden_size: Option<u32>,
    pub mm_projector_type: Option<String>,
    pub mm_vision_tower: Option<String>,
    pub mm_vision_select_layer: Option<i32>,
    pub mm_vision_select_feature: Option<String>,
    pub mm_use_im_start_end: Option<bool>,
    /// Chat-UniVi's own.
    pub config: Option<Clusters>,
    /// UniVi's own: the template that a model was trained with.
    pub univi_template: Option<String>,

    pub image_size: Option<u32>,
    pub patch_size: Option<u32>,
    pub num_channels: Option<u32>,
    pub layer_norm_eps: Option<f32>,
    /// CLIP with both halves.
    pub vision_config: Option<Box<Config>>,
}

/// How rotary positions are stretched; newer files keep the base here too.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rope {
    #[serde(alias = "type")]
    pub rope_type: Option<String>,
    pub factor: Option<f32>,
    pub rope_theta: Option<f32>,
}

/// Chat-UniVi's merging.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Clusters {
    pub use_cluster: Option<bool>,
    pub spatial_cluster_rate0: Option<f32>,
    pub spatial_cluster_rate1: Option<f32>,
    pub spatial_cluster_rate2: Option<f32>,
    pub temporal_cluster_rate: Option<f32>,
    pub temporal_position: Option<String>,
}

impl Config {
    /// With the values that a CLIP's configuration may leave out: those of Hugging Face's
    /// `CLIPVisionConfig`.
    pub fn with_clip_defaults(mut self) -> Config {
        self.hidden_size.get_or_insert(768);
        self.intermediate_size.get_or_insert(3072);
        self.num_hidden_layers.get_or_insert(12);
        self.num_attention_heads.get_or_insert(12);
        self.image_size.get_or_insert(224);
        self.patch_size.get_or_insert(32);
        self.layer_norm_eps.get_or_insert(1e-5);
        self
    }

    pub fn read(files: &dyn Files) -> Result<Config> {
        read_json(files, CONFIG_NAME)?
            .ok_or_else(|| wrong("is missing: this is no folder of a checkpoint"))
    }

    /// A number that there is no default for.
    pub fn required(&self, key: &str, value: Option<u32>) -> Result<u32> {
        value.filter(|&n| n > 0).ok_or_else(|| match value {
            None => wrong(format!("{key} is missing")),
            Some(n) => wrong(format!("{key} is {n}, expected at least 1")),
        })
    }
}

/// Something about `config.json`.
pub(super) fn wrong(reason: impl Into<String>) -> Error {
    Error::BadFile {
        format: "checkpoint",
        reason: reason.into(),
    }
    .in_file(CONFIG_NAME)
}
