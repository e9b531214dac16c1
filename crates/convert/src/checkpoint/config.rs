//! `config.json` of a language model or of a CLIP.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use univi::{Error, Result};

use super::{
    files::{CONFIG_NAME, Files, read_json},
    other_folder::other_folder,
};

/// The keys of all layouts that are read; those of the others are absent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub model_type: Option<String>,
    pub architectures: Option<Vec<String>>,
    pub quantization_config: Option<Value>,

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
    pub use_sliding_window: Option<bool>,
    pub tie_word_embeddings: Option<bool>,
    pub attention_bias: Option<bool>,
    pub mlp_bias: Option<bool>,

    pub mm_hidden_size: Option<u32>,
    pub mm_projector_type: Option<String>,
    pub mm_vision_tower: Option<String>,
    pub mm_vision_select_layer: Option<i32>,
    pub mm_vision_select_feature: Option<String>,
    pub mm_use_im_start_end: Option<bool>,
    pub mm_use_im_patch_token: Option<bool>,
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

    /// Keys that are not read.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// How rotary positions are stretched; newer files keep the base here too.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rope {
    pub rope_type: Option<String>,
    /// The older name; newer files have both.
    pub r#type: Option<String>,
    pub factor: Option<f32>,
    pub rope_theta: Option<f32>,
}

impl Rope {
    /// Returns the factor that positions are divided by; 1 for none.
    ///
    /// # Errors
    /// `BadFile` for any other way of scaling, for one that is not named, or without a factor.
    pub fn linear_factor(&self) -> Result<f32> {
        let kind = self.rope_type.as_deref().or(self.r#type.as_deref());
        match (kind, self.factor) {
            (None | Some("default"), None | Some(1.)) => Ok(1.),
            // llama.cpp takes a factor without a type as linear.
            (None | Some("linear"), Some(factor)) => Ok(factor),
            (Some("linear"), None) => Err(wrong("rope_scaling has no factor")),
            (Some(kind), _) => Err(wrong(format!(
                "rope_scaling is of type {kind:?}; only \"linear\" is supported"
            ))),
        }
    }
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
    /// Fills in the values that a CLIP's configuration may leave out: those of Hugging Face's
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
        match read_json(files, CONFIG_NAME)? {
            Some(config) => Ok(config),
            None => Err(other_folder(files)?.map_or_else(
                || wrong("is missing: this is no folder of a checkpoint"),
                |reason| Error::BadFile {
                    format: "checkpoint",
                    reason,
                },
            )),
        }
    }

    /// Refuses a language model that computes something else than a LLaMA.
    ///
    /// # Errors
    /// `BadFile` that names the key.
    pub fn check_is_llama(&self) -> Result<()> {
        const KINDS: [&str; 5] = ["llama", "mistral", "llava", "llava_llama", "chatunivi"];
        let named = |names: &[String]| {
            let mut names = names.iter();
            names.any(|name| {
                ["Llama", "Mistral"]
                    .iter()
                    .any(|known| name.contains(known))
            })
        };
        let known = match (&self.architectures, &self.model_type) {
            (Some(names), _) if named(names) => true,
            (_, Some(kind)) => KINDS.contains(&&*kind.to_lowercase()),
            (Some(names), None) => names.is_empty(),
            (None, None) => true,
        };
        if !known {
            let kind = self.model_type.as_deref().unwrap_or_default();
            let names = self.architectures.as_deref().unwrap_or_default().join(", ");
            return Err(wrong(format!(
                "model_type is {kind:?} ({names}): only LLaMA and what computes alike is supported"
            )));
        }
        if let Some(how) = self
            .quantization_config
            .as_ref()
            .filter(|how| !how.is_null())
        {
            let method = how["quant_method"].as_str().unwrap_or("an unnamed method");
            return Err(wrong(format!(
                "quantization_config: the weights are quantized already ({method}): \
                 take the model's original weights"
            )));
        }
        match self
            .others
            .iter()
            .find(|(key, value)| changes_computation(key, value))
        {
            None => Ok(()),
            Some((key, value)) => Err(wrong(format!(
                "{key} is {value}: this changes what a LLaMA computes, and is not supported"
            ))),
        }
    }

    /// Returns the window of attention, where positions farther back are not seen.
    pub fn window(&self) -> Option<u32> {
        self.sliding_window
            .filter(|&n| n > 0 && self.use_sliding_window != Some(false))
    }

    /// Reads a number that there is no default for.
    pub fn required(&self, key: &str, value: Option<u32>) -> Result<u32> {
        value.filter(|&n| n > 0).ok_or_else(|| match value {
            None => wrong(format!("{key} is missing")),
            Some(n) => wrong(format!("{key} is {n}, expected at least 1")),
        })
    }
}

/// Whether a key of relatives of LLaMA, which have the same tensors, makes them compute something
/// else.
fn changes_computation(key: &str, value: &Value) -> bool {
    let number = value.as_f64();
    match key {
        "embedding_multiplier"
        | "residual_multiplier"
        | "logits_scaling"
        | "logit_scale"
        | "scale_emb"
        | "partial_rotary_factor"
        | "rotary_pct" => number.is_some_and(|number| number != 1. && number != 0.),
        "attention_multiplier"
        | "scale_depth"
        | "dim_model_base"
        | "attn_logit_softcapping"
        | "final_logit_softcapping"
        | "query_pre_attn_scalar"
        | "clip_qkv"
        | "num_local_experts"
        | "num_experts"
        | "n_routed_experts"
        | "no_rope_layer_interval"
        | "rope_local_base_freq" => number.is_some_and(|number| number != 0.),
        "use_qk_norm"
        | "qk_norm"
        | "qk_layernorm"
        | "alibi"
        | "use_parallel_residual"
        | "parallel_attn"
        | "attention_out_bias" => *value == Value::Bool(true),
        // 1 for a layer that has rotary positions.
        "no_rope_layers" => value
            .as_array()
            .is_some_and(|layers| layers.iter().any(|layer| layer.as_u64() != Some(1))),
        "layer_types" => value.as_array().is_some_and(|layers| {
            let full = |layer: &Value| layer.as_str() == Some("full_attention");
            !layers.iter().all(full)
        }),
        _ => false,
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
