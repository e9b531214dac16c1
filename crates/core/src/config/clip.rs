//! The vision encoder.

use super::checks::{
    MAX_FFN, MAX_HEAD_DIM, MAX_HEADS, MAX_LAYERS, MAX_WIDTH, bad, check_head_dim, count, eps,
};
use crate::{Result, backend::Activation, gguf::Metadata};

/// A CLIP vision transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipConfig {
    /// Width and height of a picture.
    pub image_px: usize,
    /// Width and height of a patch; divides `image_px`.
    pub patch_px: usize,
    /// Channels of a token.
    pub width: usize,
    /// Channels inside the MLP.
    pub ffn: usize,
    /// Blocks that run: as far as the layer whose output are the features.
    pub blocks: usize,
    /// Attention heads; divide `width`.
    pub heads: usize,
    /// Of the layer norms.
    pub eps: f32,
    /// Inside the MLP.
    pub activation: Activation,
    /// Subtracted from each of red, green and blue, which range from 0 to 1.
    pub mean: [f32; 3],
    /// Divides them after that.
    pub std: [f32; 3],
}

const MAX_IMAGE_PX: usize = 4096;
const MAX_PATCHES: usize = 1 << 14;

impl ClipConfig {
    pub(super) fn from_metadata(metadata: &Metadata) -> Result<ClipConfig> {
        let width = count(metadata, "clip.vision.embedding_length", MAX_WIDTH)?;
        let heads_key = "clip.vision.attention.head_count";
        let heads = count(metadata, heads_key, MAX_HEADS)?;
        if width % heads != 0 || width / heads > MAX_HEAD_DIM {
            return bad(
                heads_key,
                format!(
                    "is {heads}, expected a divisor of the width {width} that leaves heads of up to {MAX_HEAD_DIM}"
                ),
            );
        }
        check_head_dim(heads_key, width / heads)?;
        let patch_key = "clip.vision.patch_size";
        let image_px = count(metadata, "clip.vision.image_size", MAX_IMAGE_PX)?;
        let patch_px = count(metadata, patch_key, image_px)?;
        if image_px % patch_px != 0 || (image_px / patch_px).pow(2) > MAX_PATCHES {
            let reason = format!(
                "is {patch_px}, expected a divisor of the picture's {image_px} that leaves up to {MAX_PATCHES} patches"
            );
            return bad(patch_key, reason);
        }
        let (gelu_key, silu_key) = ("clip.use_gelu", "clip.use_silu");
        let gelu = metadata.opt_bool(gelu_key)?.unwrap_or(false);
        if metadata.opt_bool(silu_key)? == Some(true) {
            return bad(silu_key, "is true: only GELU and quick GELU are supported");
        }
        let config = ClipConfig {
            image_px,
            patch_px,
            width,
            ffn: count(metadata, "clip.vision.feed_forward_length", MAX_FFN)?,
            blocks: ClipConfig::blocks(metadata)?,
            heads,
            eps: eps(metadata, "clip.vision.attention.layer_norm_epsilon")?,
            activation: if gelu {
                Activation::Gelu
            } else {
                Activation::QuickGelu
            },
            mean: three(metadata, "clip.vision.image_mean")?,
            std: three(metadata, "clip.vision.image_std")?,
        };
        match config.std.iter().all(|&std| std > 0.) {
            true => Ok(config),
            false => bad(
                "clip.vision.image_std",
                format!("is {:?}, expected numbers above 0", config.std),
            ),
        }
    }

    /// Blocks up to the layer that the features come from.
    fn blocks(metadata: &Metadata) -> Result<usize> {
        let (count_key, layer_key) = ("clip.vision.block_count", "clip.vision.feature_layer");
        let stored = count(metadata, count_key, MAX_LAYERS)?;
        let layer = metadata.i32(layer_key)?;
        // Layer 0 is what goes into the first block; from the end, -1 is what comes out of the
        // last.
        let blocks = if layer < 0 {
            stored as i64 + 1 + layer as i64
        } else {
            layer as i64
        };
        match usize::try_from(blocks) {
            Ok(blocks) if blocks <= stored => Ok(blocks),
            _ => bad(
                layer_key,
                format!(
                    "is {layer}, expected {} to {stored} for the {stored} blocks of {count_key}",
                    -(stored as i64) - 1
                ),
            ),
        }
    }

    /// Patches in a row or column of a picture.
    pub fn grid(&self) -> usize {
        self.image_px / self.patch_px
    }

    /// Patches of a picture.
    pub fn patches(&self) -> usize {
        self.grid() * self.grid()
    }
}

fn three(metadata: &Metadata, key: &str) -> Result<[f32; 3]> {
    let found = metadata.f32s(key)?;
    match <[f32; 3]>::try_from(found) {
        Ok(three) if three.iter().all(|x| x.is_finite()) => Ok(three),
        _ => bad(key, format!("is {found:?}, expected three finite numbers")),
    }
}
