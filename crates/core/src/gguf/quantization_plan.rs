//! Which tensor of a model gets which type.

use super::GgmlType;
use crate::{Error, Result};

/// A mix of types for a whole model, by llama.cpp's names: `q4_k_m` gives the tensors that suffer
/// most from rounding more bits than the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are llama.cpp's.
pub enum QuantizationPlan {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3KS,
    Q3KM,
    Q3KL,
    Q4KS,
    Q4KM,
    Q5KS,
    Q5KM,
    Q6K,
    IQ4NL,
    IQ4XS,
}

impl QuantizationPlan {
    /// Every recipe.
    pub const ALL: [QuantizationPlan; 19] = [
        QuantizationPlan::F32,
        QuantizationPlan::F16,
        QuantizationPlan::BF16,
        QuantizationPlan::Q4_0,
        QuantizationPlan::Q4_1,
        QuantizationPlan::Q5_0,
        QuantizationPlan::Q5_1,
        QuantizationPlan::Q8_0,
        QuantizationPlan::Q2K,
        QuantizationPlan::Q3KS,
        QuantizationPlan::Q3KM,
        QuantizationPlan::Q3KL,
        QuantizationPlan::Q4KS,
        QuantizationPlan::Q4KM,
        QuantizationPlan::Q5KS,
        QuantizationPlan::Q5KM,
        QuantizationPlan::Q6K,
        QuantizationPlan::IQ4NL,
        QuantizationPlan::IQ4XS,
    ];

    /// (name, llama.cpp's number in `general.file_type`, type of most matrices)
    const fn facts(self) -> (&'static str, u32, GgmlType) {
        match self {
            QuantizationPlan::F32 => ("f32", 0, GgmlType::F32),
            QuantizationPlan::F16 => ("f16", 1, GgmlType::F16),
            QuantizationPlan::BF16 => ("bf16", 32, GgmlType::BF16),
            QuantizationPlan::Q4_0 => ("q4_0", 2, GgmlType::Q4_0),
            QuantizationPlan::Q4_1 => ("q4_1", 3, GgmlType::Q4_1),
            QuantizationPlan::Q5_0 => ("q5_0", 8, GgmlType::Q5_0),
            QuantizationPlan::Q5_1 => ("q5_1", 9, GgmlType::Q5_1),
            QuantizationPlan::Q8_0 => ("q8_0", 7, GgmlType::Q8_0),
            QuantizationPlan::Q2K => ("q2_k", 10, GgmlType::Q2K),
            QuantizationPlan::Q3KS => ("q3_k_s", 11, GgmlType::Q3K),
            QuantizationPlan::Q3KM => ("q3_k_m", 12, GgmlType::Q3K),
            QuantizationPlan::Q3KL => ("q3_k_l", 13, GgmlType::Q3K),
            QuantizationPlan::Q4KS => ("q4_k_s", 14, GgmlType::Q4K),
            QuantizationPlan::Q4KM => ("q4_k_m", 15, GgmlType::Q4K),
            QuantizationPlan::Q5KS => ("q5_k_s", 16, GgmlType::Q5K),
            QuantizationPlan::Q5KM => ("q5_k_m", 17, GgmlType::Q5K),
            QuantizationPlan::Q6K => ("q6_k", 18, GgmlType::Q6K),
            QuantizationPlan::IQ4NL => ("iq4_nl", 25, GgmlType::Iq4Nl),
            QuantizationPlan::IQ4XS => ("iq4_xs", 30, GgmlType::Iq4Xs),
        }
    }

    /// Returns the name, such as `q4_k_m`.
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    /// Returns llama.cpp's number for `general.file_type`.
    pub const fn file_type(self) -> u32 {
        self.facts().1
    }

    /// Returns the type of most matrices.
    pub const fn base(self) -> GgmlType {
        self.facts().2
    }

    /// Returns the recipe of this name; upper and lower case are the same.
    ///
    /// # Errors
    /// [`Error::BadRequest`] that lists the names.
    pub fn parse(name: &str) -> Result<QuantizationPlan> {
        QuantizationPlan::ALL
            .into_iter()
            .find(|r| r.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| Error::BadRequest {
                reason: format!(
                    "unknown quantization {name:?}; there are {}",
                    QuantizationPlan::ALL.map(QuantizationPlan::name).join(", ")
                ),
            })
    }

    /// Returns all types that a LLaMA of this recipe has, if it is deep and wide enough for any
    /// mixture.
    pub fn types(self) -> Vec<GgmlType> {
        const PARTS: [&str; 7] = [
            "attn_q",
            "attn_k",
            "attn_v",
            "attn_output",
            "ffn_gate",
            "ffn_up",
            "ffn_down",
        ];
        let of_layers = (0..32).flat_map(|i| PARTS.map(|part| format!("blk.{i}.{part}.weight")));
        let names: Vec<String> = ["token_embd.weight", "output.weight"]
            .map(String::from)
            .into_iter()
            .chain(of_layers)
            .collect();
        let tensors: Vec<(&str, &[usize])> = names
            .iter()
            .map(|name| (&**name, &[256, 256][..]))
            .collect();
        let mut types = self.llm_types(&tensors, 1);
        types.sort_unstable();
        types.dedup();
        types
    }

    /// Returns the type for each tensor of a LLaMA, given by name and shape, as llama.cpp's
    /// quantizer chooses it.
    ///
    /// `heads_per_kv` is the number of query heads that share a key and value head.
    pub fn llm_types(self, tensors: &[(&str, &[usize])], heads_per_kv: usize) -> Vec<GgmlType> {
        let layers = tensors
            .iter()
            .filter_map(|(name, _)| layer(name))
            .max()
            .map_or(0, |last| last + 1);
        let tied = !tensors.iter().any(|(name, _)| *name == "output.weight");
        tensors
            .iter()
            .map(|(name, shape)| {
                if shape.len() < 2 {
                    return GgmlType::F32;
                }
                let cols = shape[shape.len() - 1];
                let wanted = if *name == "output.weight" || (tied && *name == "token_embd.weight") {
                    self.output_type(cols)
                } else {
                    self.matrix_type(name, layers, heads_per_kv)
                };
                fitting(wanted, cols)
            })
            .collect()
    }

    /// Returns the type for each tensor of a vision tower: matrices get the base type, positions,
    /// biases and norms stay F32.
    pub fn vision_types(self, tensors: &[(&str, &[usize])]) -> Vec<GgmlType> {
        let one = |(name, shape): &(&str, &[usize])| {
            if shape.len() < 2 || *name == "v.position_embd.weight" {
                GgmlType::F32
            } else {
                fitting(self.base(), shape[shape.len() - 1])
            }
        };
        tensors.iter().map(one).collect()
    }

    /// The matrix that makes the logits; its errors are not averaged out by later layers.
    fn output_type(self, cols: usize) -> GgmlType {
        let base = self.base();
        if !base.is_quantized() {
            base
        } else if !cols.is_multiple_of(base.block_len()) || base == GgmlType::Q8_0 {
            GgmlType::Q8_0
        } else {
            GgmlType::Q6K
        }
    }

    fn matrix_type(self, name: &str, layers: usize, heads_per_kv: usize) -> GgmlType {
        use GgmlType::{Q3K, Q4K, Q5K, Q6K};
        let base = self.base();
        let Some(layer) = layer(name) else {
            return base;
        };
        // The first and the last eighth, and every third layer between.
        let sensitive =
            layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
        let matrix = name
            .strip_suffix(".weight")
            .and_then(|n| n.rsplit('.').next())
            .unwrap_or_default();
        match (self, matrix) {
            (QuantizationPlan::Q2K, "attn_v") => {
                if heads_per_kv >= 4 {
                    Q4K
                } else {
                    Q3K
                }
            }
            (QuantizationPlan::Q3KM, "attn_v") => {
                if layer < 2 {
                    Q5K
                } else {
                    Q4K
                }
            }
            (QuantizationPlan::Q3KL, "attn_v" | "ffn_down" | "attn_output") => Q5K,
            (QuantizationPlan::Q4KS, "attn_v") if layer < 4 => Q5K,
            (QuantizationPlan::Q4KS, "ffn_down") if layer < layers / 8 => Q5K,
            (QuantizationPlan::Q4KM | QuantizationPlan::Q5KM, "attn_v" | "ffn_down")
                if sensitive =>
            {
                Q6K
            }
            (QuantizationPlan::Q2K, "ffn_down" | "attn_output") => Q3K,
            (QuantizationPlan::Q3KM, "ffn_down") => {
                if layer < layers / 16 {
                    Q5K
                } else {
                    Q4K
                }
            }
            (QuantizationPlan::Q3KM, "attn_output") => Q4K,
            (QuantizationPlan::IQ4NL | QuantizationPlan::IQ4XS, "attn_v") if heads_per_kv >= 4 => {
                Q5K
            }
            (QuantizationPlan::IQ4NL | QuantizationPlan::IQ4XS, "ffn_down")
                if layer < layers / 8 =>
            {
                Q5K
            }
            _ => base,
        }
    }
}

/// The `N` of `blk.N.`.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// `wanted`, or what llama.cpp takes instead where rows are not whole blocks.
fn fitting(wanted: GgmlType, cols: usize) -> GgmlType {
    if cols.is_multiple_of(wanted.block_len()) {
        return wanted;
    }
    let narrow = match wanted {
        GgmlType::Q2K | GgmlType::Q3K => GgmlType::Q4_0,
        GgmlType::Q4K => GgmlType::Q5_0,
        GgmlType::Q5K => GgmlType::Q5_1,
        GgmlType::Q6K => GgmlType::Q8_0,
        GgmlType::Iq4Xs => GgmlType::Iq4Nl,
        _ => GgmlType::F16,
    };
    if cols.is_multiple_of(narrow.block_len()) {
        narrow
    } else {
        GgmlType::F16
    }
}
