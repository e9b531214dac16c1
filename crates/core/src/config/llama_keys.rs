//! The keys that llama.cpp knows for architecture `llama`, and what becomes of each: read, a
//! remark, or a change of what is computed, which is refused unless its value changes nothing.

use super::checks::bad;
use crate::{
    Result,
    gguf::{Metadata, Value},
};

pub(super) const SLIDING_WINDOW: &str = "llama.attention.sliding_window";

/// What all keys of the architecture begin with.
const PREFIX: &str = "llama.";

/// Keys that `LlamaConfig` and `RopeConfig` read.
const READ: [&str; 16] = [
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
];

/// Keys that change nothing: they say where a model comes from, or belong to kinds of scaling and
/// of norms that [`READ`] refuses by itself, or to the use as an embedding model.
const REMARKS: [&str; 7] = [
    "tensor_data_layout",
    "pooling_type",
    "attention.layer_norm_epsilon",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
];

/// What keys mean that are refused, by a part of their name.
const MEANINGS: [(&str, &str); 16] = [
    ("expert", "mixtures of experts"),
    ("moe", "mixtures of experts"),
    ("sliding_window", "patterns of sliding windows"),
    ("_swa", "sliding windows"),
    ("softcapping", "soft-capped logits"),
    ("logit_scale", "scaled logits"),
    ("residual_scale", "scaled residuals"),
    ("embedding_scale", "scaled embeddings"),
    (
        "attention.scale",
        "scores of attention that are scaled otherwise than by the head size",
    ),
    ("attention.output_scale", "scaled outputs of attention"),
    ("attention.value_scale", "scaled values of attention"),
    ("attention.causal", "attention that is not causal"),
    (
        "attention.max_alibi_bias",
        "positions as biases of attention (ALiBi)",
    ),
    ("attention.clamp_kqv", "clamped queries, keys and values"),
    (
        "parallel_residual",
        "attention and feed-forward in parallel",
    ),
    ("rope.", "this scaling of rotary positions"),
];

/// Refuses models that share LLaMA's architecture name and compute something else.
///
/// A value of 0, false or nothing is what llama.cpp assumes where a key is absent, except that
/// attention is causal.
///
/// # Errors
/// `BadMetadata` that names the key, and what it would change.
pub(super) fn refuse_other_kinds(metadata: &Metadata, head_dim: usize) -> Result<()> {
    for (key, value) in metadata.iter() {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        if READ.contains(&name) || REMARKS.contains(&name) || is_neutral(name, value, head_dim) {
            continue;
        }
        let meaning = MEANINGS.iter().find(|(part, _)| name.contains(part));
        return match meaning {
            Some((_, what)) => bad(key, format!("is {value}: {what} are not supported")),
            None => bad(
                key,
                format!("is {value}: what it changes is not known, and may be the results"),
            ),
        };
    }
    Ok(())
}

/// Whether a model computes the same with this key as without it.
fn is_neutral(name: &str, value: &Value, head_dim: usize) -> bool {
    let number = number(value);
    match name {
        "attention.causal" => *value == Value::Bool(true),
        "attention.scale" => {
            let scale = (head_dim as f64).sqrt().recip();
            number.is_some_and(|found| found == 0. || (found / scale - 1.).abs() < 1e-5)
        }
        "logit_scale"
        | "residual_scale"
        | "embedding_scale"
        | "attention.output_scale"
        | "attention.value_scale"
        | "rope.scaling.attn_factor"
        | "rope.scaling.alpha"
        | "rope.scaling.yarn_attn_factor" => matches!(number, Some(0. | 1.)),
        "hidden_activation" => *value == Value::from("silu"),
        _ => match value {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => {
                let zeros = list
                    .integers()
                    .is_some_and(|all| all.iter().all(|&n| n == 0));
                list.is_empty() || zeros
            }
            _ => number == Some(0.),
        },
    }
}

/// A number or truth value.
fn number(value: &Value) -> Option<f64> {
    Some(match *value {
        Value::U8(x) => x.into(),
        Value::I8(x) => x.into(),
        Value::U16(x) => x.into(),
        Value::I16(x) => x.into(),
        Value::U32(x) => x.into(),
        Value::I32(x) => x.into(),
        Value::U64(x) => x as f64,
        Value::I64(x) => x as f64,
        Value::F32(x) => x.into(),
        Value::F64(x) => x,
        Value::Bool(x) => u8::from(x).into(),
        Value::String(_) | Value::Array(_) => return None,
    })
}
