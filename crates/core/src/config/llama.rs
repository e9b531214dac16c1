//! The language model.

use super::{
    checks::{
        MAX_FFN, MAX_HEAD_DIM, MAX_HEADS, MAX_LAYERS, MAX_WIDTH, architecture, bad, check_head_dim,
        count, eps, opt_count, opt_count_or_none,
    },
    llama_keys,
};
use crate::{
    Result,
    backend::{Heads, MAX_POSITIONS},
    gguf::Metadata,
};

/// A language model of architecture `llama`.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Transformer blocks.
    pub layers: usize,
    /// Channels of a token between the blocks.
    pub width: usize,
    /// Heads of the attention.
    pub heads: Heads,
    /// Channels inside the SwiGLU.
    pub ffn: usize,
    /// Tokens that have an embedding and a logit.
    pub vocabulary: usize,
    /// Rotary positions.
    pub rope: RopeConfig,
    /// Of the RMS norms.
    pub eps: f32,
    /// Positions that the model was made for.
    pub context: usize,
}

/// Rotary positions (arXiv 2104.09864).
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Columns of a head that turn; even.
    pub rotary: usize,
    /// The base of the wavelengths: 10000 where nothing is said.
    pub theta: f64,
    /// Positions are divided by this: linear scaling. 1 for none.
    pub scale: f64,
}

const MAX_VOCABULARY: usize = 1 << 21;
const MAX_CONTEXT: usize = 1 << 24;

impl LlamaConfig {
    /// Numbers that a token takes in the KV cache: keys and values of all layers.
    pub fn kv_numbers(&self) -> u64 {
        2 * (self.layers * self.heads.kv_heads * self.heads.head_dim) as u64
    }

    /// Reads and checks the keys of a GGUF file of architecture `llama`.
    ///
    /// # Errors
    /// `BadMetadata` that names the key.
    pub fn from_metadata(metadata: &Metadata) -> Result<LlamaConfig> {
        architecture(metadata, "llama")?;
        let layers = count(metadata, "llama.block_count", MAX_LAYERS)?;
        let width = count(metadata, "llama.embedding_length", MAX_WIDTH)?;
        let ffn = count(metadata, "llama.feed_forward_length", MAX_FFN)?;
        let context = count(metadata, "llama.context_length", MAX_CONTEXT)?;
        // Up to the length of its window, a model with sliding windows computes what others do.
        let window = opt_count_or_none(metadata, llama_keys::SLIDING_WINDOW)?;
        let context = context.min(window.unwrap_or(MAX_POSITIONS));

        let heads_key = "llama.attention.head_count";
        let heads = count(metadata, heads_key, MAX_HEADS)?;
        let kv_heads_key = "llama.attention.head_count_kv";
        let kv_heads = opt_count(metadata, kv_heads_key, MAX_HEADS)?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            return bad(
                kv_heads_key,
                format!("is {kv_heads}, which does not divide the {heads} heads of {heads_key}"),
            );
        }
        let key_dim_key = "llama.attention.key_length";
        let head_dim = match opt_count(metadata, key_dim_key, MAX_HEAD_DIM)? {
            Some(head_dim) => head_dim,
            None if width % heads != 0 => {
                return bad(
                    heads_key,
                    format!("is {heads}, which does not divide the width {width}"),
                );
            }
            None => width / heads,
        };
        if head_dim > MAX_HEAD_DIM {
            return bad(
                heads_key,
                format!("is {heads}: heads of {head_dim} columns, expected up to {MAX_HEAD_DIM}"),
            );
        }
        let value_dim_key = "llama.attention.value_length";
        if let Some(value_dim) =
            opt_count(metadata, value_dim_key, MAX_HEAD_DIM)?.filter(|&dim| dim != head_dim)
        {
            return bad(
                value_dim_key,
                format!("is {value_dim}, expected {head_dim} as for keys"),
            );
        }

        check_head_dim(heads_key, head_dim)?;
        llama_keys::refuse_other_kinds(metadata, head_dim)?;

        Ok(LlamaConfig {
            layers,
            width,
            heads: Heads {
                heads,
                kv_heads,
                head_dim,
            },
            ffn,
            vocabulary: vocabulary(metadata)?,
            rope: RopeConfig::from_metadata(metadata, head_dim)?,
            eps: eps(metadata, "llama.attention.layer_norm_rms_epsilon")?,
            context,
        })
    }
}

/// The tokens that the vocabulary in the file has, else what the file says there are.
fn vocabulary(metadata: &Metadata) -> Result<usize> {
    let (key, tokens_key) = ("llama.vocab_size", "tokenizer.ggml.tokens");
    let tokens = metadata.opt_strings(tokens_key)?.map(<[String]>::len);
    match (opt_count(metadata, key, MAX_VOCABULARY)?, tokens) {
        (None, None) => bad(key, format!("is missing, and so is {tokens_key}")),
        (Some(said), Some(tokens)) if said != tokens => bad(
            key,
            format!("is {said}, but {tokens_key} has {tokens} tokens"),
        ),
        (Some(n), _) => Ok(n),
        (None, Some(n)) if (1..=MAX_VOCABULARY).contains(&n) => Ok(n),
        (None, Some(n)) => bad(
            tokens_key,
            format!("has {n} tokens, expected 1 to {MAX_VOCABULARY}"),
        ),
    }
}

impl RopeConfig {
    pub(super) fn from_metadata(metadata: &Metadata, head_dim: usize) -> Result<RopeConfig> {
        let rotary_key = "llama.rope.dimension_count";
        let rotary = opt_count(metadata, rotary_key, MAX_HEAD_DIM)?.unwrap_or(head_dim);
        // A LLaMA turns whole heads.
        if rotary % 2 != 0 || rotary != head_dim {
            return bad(
                rotary_key,
                format!("is {rotary}, expected all {head_dim} columns of a head, in pairs"),
            );
        }
        let theta_key = "llama.rope.freq_base";
        let theta = metadata.opt_f32(theta_key)?.unwrap_or(10000.) as f64;
        if theta < 1. {
            return bad(theta_key, format!("is {theta}, expected at least 1"));
        }
        let (kind_key, factor_key) = ("llama.rope.scaling.type", "llama.rope.scaling.factor");
        // The second is the older name. Of a factor of 0, as of none, llama.cpp makes 1; and
        // where no type stands, it scales linearly.
        let factor = match metadata.opt_f32(factor_key)? {
            Some(factor) => Some(factor),
            None => metadata.opt_f32("llama.rope.scale_linear")?,
        };
        let scale = match (metadata.opt_str(kind_key)?, factor) {
            (Some("none"), _) => 1.,
            (None, None | Some(0.)) => 1.,
            (Some("linear"), None) => return bad(factor_key, "is missing, but scaling is linear"),
            (None | Some("linear"), Some(factor)) => factor as f64,
            (Some(kind), _) => {
                return bad(
                    kind_key,
                    format!("is {kind:?}, supported are \"none\" and \"linear\""),
                );
            }
        };
        if scale <= 0. {
            return bad(factor_key, format!("is {scale}, expected more than 0"));
        }
        Ok(RopeConfig {
            rotary,
            theta,
            scale,
        })
    }

    /// Returns `[context, rotary]`: for each position `rotary / 2` cosines, then as many sines.
    /// `factors` (`rope_freqs.weight`, LLaMA 3.1's scaling) divide the frequencies.
    pub fn table(&self, context: usize, factors: Option<&[f32]>) -> Vec<f32> {
        let pairs = self.rotary / 2;
        let frequencies: Vec<f64> = (0..pairs)
            .map(|pair| {
                let factor = factors.map_or(1., |factors| factors[pair] as f64);
                self.theta.powf(-(pair as f64) / pairs as f64) / (factor * self.scale)
            })
            .collect();
        let mut table = Vec::with_capacity(context * self.rotary);
        for position in 0..context {
            let angles = frequencies
                .iter()
                .map(|frequency| position as f64 * frequency);
            table.extend(angles.clone().map(|angle| angle.cos() as f32));
            table.extend(angles.map(|angle| angle.sin() as f32));
        }
        table
    }
}
