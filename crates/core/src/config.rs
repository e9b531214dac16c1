//! Metadata becomes validated structs: strings turn into enums here and nowhere else, and every
//! number is checked before it sizes anything.

mod llama_keys;

use crate::{
    Error, Result,
    backend::{Activation, Heads, MAX_NEIGHBOURS, MAX_POSITIONS},
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

/// How patches become dynamic visual tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeConfig {
    /// Without, the LLM sees every patch of a picture, and of a clip the means over time and over
    /// space.
    pub use_cluster: bool,
    /// The stages of merging, each on the tokens of the one before.
    pub spatial: [ClusterConfig; 3],
    /// How frames become events.
    pub temporal: ClusterConfig,
    /// What tells the frames of an event apart.
    pub temporal_position: TemporalPosition,
    /// Frames that a clip is thinned out to.
    pub max_frames: usize,
    /// Frames per second that a clip is looked at.
    pub frame_rate: f64,
}

/// One clustering.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClusterConfig {
    /// How many clusters.
    pub rate: ClusterRate,
    /// Neighbours that make a density, where there are at least as many clusters.
    pub k: usize,
}

/// How many clusters a number of tokens becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClusterRate {
    /// Always as many, as far as there are so many tokens.
    Count(usize),
    /// A share of the tokens, from 0 to 1, rounded up.
    Share(f64),
}

/// What is added to the tokens of a frame before the frames of an event merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemporalPosition {
    /// Nothing: published checkpoints.
    None,
    /// The sinusoids of the frame's number.
    Sinusoidal,
}

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

/// Everything from 1 to a bound that no real model comes near.
fn count(metadata: &Metadata, key: &str, most: usize) -> Result<usize> {
    in_range(key, metadata.u32(key)?, most)
}

/// As [`count`]; `None` where the key is absent.
fn opt_count(metadata: &Metadata, key: &str, most: usize) -> Result<Option<usize>> {
    metadata
        .opt_u32(key)?
        .map(|n| in_range(key, n, most))
        .transpose()
}

/// As [`opt_count`]; `None` also for 0.
fn opt_count_or_none(metadata: &Metadata, key: &str) -> Result<Option<usize>> {
    Ok(metadata
        .opt_u32(key)?
        .filter(|&n| n > 0)
        .map(|n| n as usize))
}

fn in_range(key: &str, n: u32, most: usize) -> Result<usize> {
    let n = n as usize;
    if (1..=most).contains(&n) {
        Ok(n)
    } else {
        bad(key, format!("is {n}, expected 1 to {most}"))
    }
}

fn bad<T>(key: &str, reason: impl Into<String>) -> Result<T> {
    Err(Error::BadMetadata {
        key: key.to_string(),
        reason: reason.into(),
    })
}

const MAX_LAYERS: usize = 1024;
const MAX_WIDTH: usize = 1 << 16;
const MAX_FFN: usize = 1 << 18;
const MAX_HEADS: usize = 1024;
const MAX_HEAD_DIM: usize = 1024;
const MAX_VOCABULARY: usize = 1 << 21;
const MAX_CONTEXT: usize = 1 << 24;
const MAX_IMAGE_PX: usize = 4096;
const MAX_PATCHES: usize = 1 << 14;
const MAX_CLUSTERS: usize = 1 << 14;
const MAX_FRAMES: usize = 4096;
const MAX_PROJECTOR_LAYERS: usize = 16;

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

/// Kernels of attention take the columns of a head four at a time.
fn check_head_dim(key: &str, head_dim: usize) -> Result<()> {
    match head_dim % 4 {
        0 => Ok(()),
        _ => bad(
            key,
            format!("makes heads of {head_dim} columns, expected a multiple of 4"),
        ),
    }
}

fn architecture(metadata: &Metadata, expected: &str) -> Result<()> {
    let (key, type_key) = ("general.architecture", "general.type");
    if metadata.opt_str(type_key)? == Some("adapter") {
        return bad(
            type_key,
            "is \"adapter\": this is a LoRA adapter, not a model; merge it into its base model first",
        );
    }
    match metadata.str(key)? {
        found if found == expected => Ok(()),
        found => bad(key, format!("is {found:?}, expected {expected:?}")),
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

fn eps(metadata: &Metadata, key: &str) -> Result<f32> {
    match metadata.f32(key)? {
        eps if eps > 0. && eps < 1. => Ok(eps),
        eps => bad(key, format!("is {eps}, expected a number between 0 and 1")),
    }
}

impl RopeConfig {
    fn from_metadata(metadata: &Metadata, head_dim: usize) -> Result<RopeConfig> {
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

    /// `[context, rotary]`: for each position `rotary / 2` cosines, then as many sines. `factors`
    /// (`rope_freqs.weight`, LLaMA 3.1's scaling) divide the frequencies.
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

    /// Most tokens that a picture can become.
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
}

impl ClipConfig {
    fn from_metadata(metadata: &Metadata) -> Result<ClipConfig> {
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

impl ClusterConfig {
    /// Clusters of `n` tokens, and the neighbours that make a density.
    pub fn clusters_and_k(&self, n: usize) -> (usize, usize) {
        let clusters = match self.rate {
            ClusterRate::Count(count) => count,
            ClusterRate::Share(share) => (n as f64 * share).ceil() as usize,
        };
        let clusters = clusters.clamp(1, n);
        let k = if self.k > clusters {
            (clusters / 2).clamp(1, 3)
        } else {
            self.k
        };
        (clusters, k)
    }
}

impl ClusterRate {
    /// A rate as the reference writes it: above 1 a count, up to 1 a share.
    ///
    /// # Errors
    /// `BadRequest` for anything else.
    pub fn new(rate: f32) -> Result<ClusterRate> {
        if rate > 1. && rate <= MAX_CLUSTERS as f32 {
            return Ok(ClusterRate::Count(rate.ceil() as usize));
        }
        if rate > 0. && rate <= 1. {
            // The decimal number that was meant, not the f32 next to it: a tenth of 10 is 1, not 2.
            return Ok(ClusterRate::Share(
                rate.to_string().parse().unwrap_or(rate as f64),
            ));
        }
        Err(Error::BadRequest {
            reason: format!(
                "a cluster rate of {rate}: expected a share above 0 and up to 1, or a count up to {MAX_CLUSTERS}"
            ),
        })
    }

    fn from_metadata(key: &str, rate: f32) -> Result<ClusterRate> {
        ClusterRate::new(rate).or_else(|error| bad(key, error.to_string()))
    }
}

impl MergeConfig {
    fn from_metadata(metadata: &Metadata) -> Result<MergeConfig> {
        let (rate_key, k_key) = ("univi.spatial_cluster_rate", "univi.spatial_cluster_k");
        let (rates, ks) = (metadata.f32s(rate_key)?, metadata.ints(k_key)?);
        let (&[a, b, c], &[i, j, k]) = (rates, &ks[..]) else {
            return bad(
                rate_key,
                format!("is {rates:?} and {k_key} is {ks:?}, expected three stages"),
            );
        };
        let stage = |rate, k| {
            Ok(ClusterConfig {
                rate: ClusterRate::from_metadata(rate_key, rate)?,
                k: neighbours(k_key, k)?,
            })
        };
        let (rate_key, k_key) = ("univi.temporal_cluster_rate", "univi.temporal_cluster_k");
        let temporal = ClusterConfig {
            rate: ClusterRate::from_metadata(rate_key, metadata.f32(rate_key)?)?,
            k: count(metadata, k_key, MAX_NEIGHBOURS)?,
        };
        let position_key = "univi.temporal_position";
        let temporal_position = match metadata.opt_str(position_key)? {
            None | Some("none") => TemporalPosition::None,
            Some("sinusoidal") => TemporalPosition::Sinusoidal,
            Some(other) => {
                return bad(
                    position_key,
                    format!("is {other:?}, expected \"none\" or \"sinusoidal\""),
                );
            }
        };
        let frame_rate_key = "univi.frame_rate";
        let frame_rate = metadata.f32(frame_rate_key)? as f64;
        if frame_rate <= 0. {
            return bad(
                frame_rate_key,
                format!("is {frame_rate}, expected more than 0 frames per second"),
            );
        }
        Ok(MergeConfig {
            use_cluster: metadata.bool("univi.use_cluster")?,
            spatial: [stage(a, i)?, stage(b, j)?, stage(c, k)?],
            temporal,
            temporal_position,
            max_frames: count(metadata, "univi.max_frames", MAX_FRAMES)?,
            frame_rate,
        })
    }
}

impl MergeConfig {
    /// The same, but merging to about `tokens` tokens a picture of `patches` patches, or an event
    /// of a clip: shared out over the three stages as the model does. For more or less detail
    /// than it was trained with.
    ///
    /// # Errors
    /// `BadRequest` where the model does not merge, or can't to so many.
    pub fn with_tokens(&self, tokens: usize, patches: usize) -> Result<MergeConfig> {
        let refuse = |reason| Err(Error::BadRequest { reason });
        if !self.use_cluster {
            return refuse("this model does not merge its visual tokens".to_owned());
        }
        let mut own = [0; 3];
        let mut n = patches;
        for (count, stage) in own.iter_mut().zip(&self.spatial) {
            n = stage.clusters_and_k(n).0;
            *count = n;
        }
        let total: usize = own.iter().sum();
        let most = patches * total / own[0];
        if !(own.len()..=most).contains(&tokens) {
            return refuse(format!(
                "{tokens} visual tokens a picture, expected {} to {most}",
                own.len()
            ));
        }
        let mut config = self.clone();
        for (stage, count) in config.spatial.iter_mut().zip(own) {
            let share = count as f64 / total as f64;
            stage.rate = ClusterRate::Count(((tokens as f64 * share).round() as usize).max(1));
        }
        Ok(config)
    }
}

fn neighbours(key: &str, k: i64) -> Result<usize> {
    match usize::try_from(k) {
        Ok(k) if (1..=MAX_NEIGHBOURS).contains(&k) => Ok(k),
        _ => bad(key, format!("holds {k}, expected 1 to {MAX_NEIGHBOURS}")),
    }
}

impl ProjectorConfig {
    fn from_metadata(metadata: &Metadata) -> Result<ProjectorConfig> {
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

#[cfg(test)]
mod tests;
