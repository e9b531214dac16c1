//! What is known of a vision tower: from the names and shapes of its tensors, from its
//! configuration, and from the name of a published one.

use std::collections::BTreeSet;

use univi::{Error, Result};

use super::{
    config::{Config, wrong},
    weights::Weights,
};

/// A CLIP vision tower among the tensors of a folder.
pub(super) struct TowerNames {
    /// What the names of its tensors begin with, such as `model.vision_tower.vision_model.`.
    pub prefix: String,
}

/// Tensors that only a vision tower has, by the ends of their names.
const MARKS: [&str; 5] = [
    "embeddings.class_embedding",
    "embeddings.patch_embedding.weight",
    "embeddings.position_embedding.weight",
    "pre_layrnorm.weight",
    "encoder.layers.0.self_attn.q_proj.weight",
];

impl TowerNames {
    /// Returns the tower among `weights`, under whatever prefix; `None` where there is none.
    ///
    /// # Errors
    /// `BadFile` where there are two.
    pub fn find(weights: &Weights) -> Result<Option<TowerNames>> {
        let mut prefixes = BTreeSet::new();
        for name in weights.names() {
            let prefix = MARKS.iter().find_map(|mark| name.strip_suffix(mark));
            // CLIP's text half has the same layers.
            prefixes.extend(prefix.filter(|prefix| !prefix.ends_with("text_model.")));
        }
        let mut prefixes = prefixes.into_iter();
        let first = prefixes.next();
        if let (Some(first), Some(second)) = (first, prefixes.next()) {
            return Err(Error::BadFile {
                format: "checkpoint",
                reason: format!("has two vision towers, {first}* and {second}*"),
            });
        }
        Ok(first.map(|prefix| TowerNames {
            prefix: prefix.to_string(),
        }))
    }

    /// Returns the tower's sizes, as far as its tensors say them: all but the heads.
    pub fn sizes(&self, weights: &Weights) -> Result<Config> {
        let shape = |name: &str| -> Result<Option<&[usize]>> {
            let name = format!("{}{name}", self.prefix);
            Ok(weights.get(&name).map(|stored| &stored.shape[..]))
        };
        let unknown = |name: &str| wrong_shape(&format!("{}{name}", self.prefix), weights);
        let number = |n: usize| u32::try_from(n).ok();
        let mut sizes = Config::default();
        let patch_name = "embeddings.patch_embedding.weight";
        match shape(patch_name)? {
            None => {}
            Some(&[width, 3, patch, other]) if patch == other => {
                (sizes.hidden_size, sizes.patch_size) = (number(width), number(patch));
            }
            Some(_) => return Err(unknown(patch_name)),
        }
        let position_name = "embeddings.position_embedding.weight";
        match shape(position_name)? {
            None => {}
            Some(&[positions, width]) => {
                sizes.hidden_size = sizes.hidden_size.or(number(width));
                let patches = positions.saturating_sub(1);
                let grid = patches.isqrt();
                if grid * grid != patches {
                    return Err(unknown(position_name));
                }
                let patch = sizes.patch_size.map(|patch| patch as usize);
                sizes.image_size = patch
                    .and_then(|patch| grid.checked_mul(patch))
                    .and_then(number);
            }
            Some(_) => return Err(unknown(position_name)),
        }
        let ffn_name = "encoder.layers.0.mlp.fc1.weight";
        match shape(ffn_name)? {
            None => {}
            Some(&[ffn, _]) => sizes.intermediate_size = number(ffn),
            Some(_) => return Err(unknown(ffn_name)),
        }
        let layers = format!("{}encoder.layers.", self.prefix);
        let of_layer = |name: &str| -> Option<usize> {
            name.strip_prefix(&layers)?.split('.').next()?.parse().ok()
        };
        let last = weights.names().filter_map(of_layer).max();
        sizes.num_hidden_layers = last.and_then(|last| number(last.saturating_add(1)));
        Ok(sizes)
    }
}

fn wrong_shape(name: &str, weights: &Weights) -> Error {
    let shape = weights.get(name).map(|stored| stored.shape.clone());
    Error::BadFile {
        format: "checkpoint",
        reason: format!(
            "tensor {name} has shape {:?}, which is no vision tower's",
            shape.unwrap_or_default()
        ),
    }
}

/// The configurations of OpenAI's published towers, by the last part of their names: what tensors
/// don't say is the same for all of them.
pub(super) fn published(name: &str) -> Option<Config> {
    let (width, ffn, blocks) = match last_part(name) {
        "clip-vit-base-patch32" | "clip-vit-base-patch16" => (768, 3072, 12),
        "clip-vit-large-patch14" | "clip-vit-large-patch14-336" => (1024, 4096, 24),
        _ => return None,
    };
    let config = Config {
        hidden_size: Some(width),
        intermediate_size: Some(ffn),
        num_hidden_layers: Some(blocks),
        num_attention_heads: Some(width / 64),
        ..sizes_of_name(name)
    };
    Some(config.with_clip_defaults())
}

/// What the name of a tower says by itself: `..-patch14-336` has patches of 14 pixels and pictures
/// of 336.
pub(super) fn sizes_of_name(name: &str) -> Config {
    let name = last_part(name);
    let Some((before, sizes)) = name.split_once("-patch") else {
        return Config::default();
    };
    let mut sizes = sizes.split('-').map(|size| size.parse().ok());
    let patch_size = sizes.next().flatten();
    // OpenAI's names leave the usual size out.
    let usual = matches!(before, "clip-vit-base" | "clip-vit-large").then_some(224);
    Config {
        patch_size,
        image_size: sizes.next().flatten().or(usual),
        ..Config::default()
    }
}

fn last_part(name: &str) -> &str {
    let name = name.trim_end_matches(['/', '\\']);
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// Refuses two descriptions of one tower that say different sizes, each named by where it is from.
///
/// # Errors
/// `BadFile` that names both sizes.
pub(super) fn check_agree(a: &Config, from_a: &str, b: &Config, from_b: &str) -> Result<()> {
    let pairs = [
        (a.image_size, b.image_size, "pictures of", "pixels"),
        (a.patch_size, b.patch_size, "patches of", "pixels"),
        (a.hidden_size, b.hidden_size, "a width of", "channels"),
        (
            a.num_attention_heads,
            b.num_attention_heads,
            "attention of",
            "heads",
        ),
        (
            a.intermediate_size,
            b.intermediate_size,
            "layers of",
            "channels inside",
        ),
    ];
    for (a, b, before, behind) in pairs {
        if let (Some(a), Some(b)) = (a, b)
            && a != b
        {
            return Err(wrong(format!(
                "the vision tower has {before} {a} {behind} {from_a}, but {b} {from_b}: \
                 name the tower that the model was made with"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
