//! Quantizing: which tensor gets which type, and the numbers themselves.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use half::{bf16, f16};

use super::{GgmlType, bad};
use crate::{Error, Result};

/// A mix of types for a whole model, by llama.cpp's names: `q4_k_m` gives the tensors that suffer most
/// from rounding more bits than the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are llama.cpp's.
pub enum Recipe {
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
}

impl Recipe {
    /// Every recipe.
    pub const ALL: [Recipe; 17] = [
        Recipe::F32,
        Recipe::F16,
        Recipe::BF16,
        Recipe::Q4_0,
        Recipe::Q4_1,
        Recipe::Q5_0,
        Recipe::Q5_1,
        Recipe::Q8_0,
        Recipe::Q2K,
        Recipe::Q3KS,
        Recipe::Q3KM,
        Recipe::Q3KL,
        Recipe::Q4KS,
        Recipe::Q4KM,
        Recipe::Q5KS,
        Recipe::Q5KM,
        Recipe::Q6K,
    ];

    /// (name, llama.cpp's number in `general.file_type`, type of most matrices)
    const fn facts(self) -> (&'static str, u32, GgmlType) {
        match self {
            Recipe::F32 => ("f32", 0, GgmlType::F32),
            Recipe::F16 => ("f16", 1, GgmlType::F16),
            Recipe::BF16 => ("bf16", 32, GgmlType::BF16),
            Recipe::Q4_0 => ("q4_0", 2, GgmlType::Q4_0),
            Recipe::Q4_1 => ("q4_1", 3, GgmlType::Q4_1),
            Recipe::Q5_0 => ("q5_0", 8, GgmlType::Q5_0),
            Recipe::Q5_1 => ("q5_1", 9, GgmlType::Q5_1),
            Recipe::Q8_0 => ("q8_0", 7, GgmlType::Q8_0),
            Recipe::Q2K => ("q2_k", 10, GgmlType::Q2K),
            Recipe::Q3KS => ("q3_k_s", 11, GgmlType::Q3K),
            Recipe::Q3KM => ("q3_k_m", 12, GgmlType::Q3K),
            Recipe::Q3KL => ("q3_k_l", 13, GgmlType::Q3K),
            Recipe::Q4KS => ("q4_k_s", 14, GgmlType::Q4K),
            Recipe::Q4KM => ("q4_k_m", 15, GgmlType::Q4K),
            Recipe::Q5KS => ("q5_k_s", 16, GgmlType::Q5K),
            Recipe::Q5KM => ("q5_k_m", 17, GgmlType::Q5K),
            Recipe::Q6K => ("q6_k", 18, GgmlType::Q6K),
        }
    }

    /// The name, such as `q4_k_m`.
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    /// llama.cpp's number for `general.file_type`.
    pub const fn file_type(self) -> u32 {
        self.facts().1
    }

    /// The type of most matrices.
    pub const fn base(self) -> GgmlType {
        self.facts().2
    }

    /// The recipe of this name; upper and lower case are the same.
    ///
    /// # Errors
    /// [`Error::BadRequest`] that lists the names.
    pub fn parse(name: &str) -> Result<Recipe> {
        Recipe::ALL
            .into_iter()
            .find(|r| r.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| Error::BadRequest {
                reason: format!(
                    "unknown quantization {name:?}; there are {}",
                    Recipe::ALL.map(Recipe::name).join(", ")
                ),
            })
    }

    /// The type for each tensor of a LLaMA, given by name and shape, as llama.cpp's quantizer chooses it.
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

    /// The type for each tensor of a vision tower: matrices get the base type, positions, biases and norms stay F32.
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
        } else if cols % base.block_len() != 0 || base == GgmlType::Q8_0 {
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
            (Recipe::Q2K, "attn_v") => {
                if heads_per_kv >= 4 {
                    Q4K
                } else {
                    Q3K
                }
            }
            (Recipe::Q3KM, "attn_v") => {
                if layer < 2 {
                    Q5K
                } else {
                    Q4K
                }
            }
            (Recipe::Q3KL, "attn_v" | "ffn_down" | "attn_output") => Q5K,
            (Recipe::Q4KS, "attn_v") if layer < 4 => Q5K,
            (Recipe::Q4KS, "ffn_down") if layer < layers / 8 => Q5K,
            (Recipe::Q4KM | Recipe::Q5KM, "attn_v" | "ffn_down") if sensitive => Q6K,
            (Recipe::Q2K, "ffn_down" | "attn_output") => Q3K,
            (Recipe::Q3KM, "ffn_down") => {
                if layer < layers / 16 {
                    Q5K
                } else {
                    Q4K
                }
            }
            (Recipe::Q3KM, "attn_output") => Q4K,
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
    if cols % wanted.block_len() == 0 {
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
    if cols % narrow.block_len() == 0 {
        narrow
    } else {
        GgmlType::F16
    }
}

/// Stores whole rows of numbers as `ty`.
///
/// # Errors
/// [`Error::BadRequest`] for the types that nothing here can write (`IQ4_NL`, `IQ4_XS`) and for rows that are not whole blocks;
/// [`Error::BadFile`] for numbers that the type can't hold (NaN, infinity, too large).
pub fn quantize(ty: GgmlType, numbers: &[f32]) -> Result<Vec<u8>> {
    let size = ty.row_bytes(numbers.len())?;
    if let Some(at) = numbers.iter().position(|x| !x.is_finite()) {
        return Err(bad(format!(
            "number {at} to be stored is {}: the checkpoint is damaged",
            numbers[at]
        )));
    }
    let bytes = match ty {
        GgmlType::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        GgmlType::F16 => numbers
            .iter()
            .flat_map(|&x| f16::from_f32(x).to_le_bytes())
            .collect(),
        GgmlType::BF16 => numbers
            .iter()
            .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
            .collect(),
        GgmlType::Q4_0 => blocks(GgmlDType::Q4_0, numbers)?,
        GgmlType::Q4_1 => blocks(GgmlDType::Q4_1, numbers)?,
        GgmlType::Q5_0 => blocks(GgmlDType::Q5_0, numbers)?,
        GgmlType::Q5_1 => blocks(GgmlDType::Q5_1, numbers)?,
        GgmlType::Q8_0 => blocks(GgmlDType::Q8_0, numbers)?,
        GgmlType::Q2K => blocks(GgmlDType::Q2K, numbers)?,
        GgmlType::Q3K => blocks(GgmlDType::Q3K, numbers)?,
        GgmlType::Q4K => blocks(GgmlDType::Q4K, numbers)?,
        GgmlType::Q5K => blocks(GgmlDType::Q5K, numbers)?,
        GgmlType::Q6K => blocks(GgmlDType::Q6K, numbers)?,
        GgmlType::Iq4Nl | GgmlType::Iq4Xs => {
            return Err(Error::BadRequest {
                reason: format!("{ty} is read, but not written: use q4_k_m"),
            });
        }
    };
    debug_assert_eq!(bytes.len(), size);
    match ty.first_not_finite(&bytes) {
        None => Ok(bytes),
        Some(block) => Err(bad(format!(
            "numbers near {} are too large for {ty}: use f32",
            block * ty.block_len()
        ))),
    }
}

fn blocks(ty: GgmlDType, numbers: &[f32]) -> Result<Vec<u8>> {
    let blocks = Tensor::from_slice(numbers, numbers.len(), &Device::Cpu)
        .and_then(|x| QTensor::quantize(&x, ty))
        .and_then(|q| q.data().map(|bytes| bytes.into_owned()));
    blocks.map_err(|e| Error::BadRequest {
        reason: format!("quantizing to {ty:?}: {e}"),
    })
}
