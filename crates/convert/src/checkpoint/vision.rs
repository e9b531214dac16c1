//! The vision side of a checkpoint: CLIP's vision half, how its tokens merge, and the projector.

use univi::{
    Error, Result, config::VisionConfig, gguf::Metadata, image::Preprocess, model::vision_tensors,
};

use super::{
    Checkpoint,
    config::{Config, wrong},
    files::read_small,
    part::{CheckpointPart, CheckpointTensor, Kind, RowOrder},
    weights::Weights,
};

/// Where the vision tower comes from.
pub enum Tower<'c, 'a> {
    /// The user named this folder: it wins.
    Given(&'c Checkpoint<'a>),
    /// The folder that `config.json` names was found: it serves where the shards hold no tower, and
    /// describes the one they hold.
    Found(&'c Checkpoint<'a>),
    /// There is nothing but the shards.
    Inside,
}

const PREPROCESSOR_NAME: &str = "preprocessor_config.json";

/// What the names of a vision tower's tensors begin with.
fn prefix(weights: &Weights) -> Option<&'static str> {
    const PREFIXES: [&str; 2] = [
        "vision_model.",
        "model.vision_tower.vision_tower.vision_model.",
    ];
    PREFIXES.into_iter().find(|prefix| {
        weights
            .get(&format!("{prefix}embeddings.class_embedding"))
            .is_some()
    })
}

impl<'a> Checkpoint<'a> {
    /// Whether the shards hold a vision tower.
    pub fn has_tower(&self) -> bool {
        prefix(&self.weights).is_some()
    }

    /// The vision side, for this checkpoint's language model.
    ///
    /// # Errors
    /// `BadRequest` where there is no tower; `BadFile` for what is no CLIP or is computed
    /// otherwise; `MissingTensor`, `WrongShape`, `UnsupportedType`.
    pub fn vision(&self, tower: Tower<'_, 'a>) -> Result<CheckpointPart<'a>> {
        let c = &self.config;
        let (weights, config) = match tower {
            Tower::Given(tower) => (tower, tower.tower_config()?),
            Tower::Found(tower) if self.has_tower() => (self, tower.tower_config()?),
            Tower::Found(tower) => (tower, tower.tower_config()?),
            Tower::Inside if self.has_tower() => (self, self.tower_config()?),
            Tower::Inside => {
                let name = self.tower_name().unwrap_or("openai/clip-vit-large-patch14");
                return Err(Error::BadRequest {
                    reason: format!(
                        "the checkpoint holds no vision tower: name the folder of {name} with --vision-tower"
                    ),
                });
            }
        };
        let describing = match tower {
            Tower::Given(tower) | Tower::Found(tower) => tower,
            Tower::Inside => self,
        };
        if let Some(other) = c
            .mm_vision_select_feature
            .as_deref()
            .filter(|&feature| feature != "patch")
        {
            return Err(wrong(format!(
                "mm_vision_select_feature is {other:?}; only \"patch\" is supported"
            )));
        }
        let width = config.hidden_size.unwrap_or_default();
        if let Some(expected) = c.mm_hidden_size.filter(|&expected| expected != width) {
            return Err(wrong(format!(
                "mm_hidden_size is {expected}, but the vision tower is {width} wide: name the tower that the model was made with"
            )));
        }
        let mut metadata = describing.tower_metadata(&config)?;
        metadata.insert(
            "clip.projector_type",
            c.mm_projector_type.as_deref().unwrap_or("linear"),
        );
        metadata.insert(
            "clip.vision.projection_dim",
            c.required("hidden_size", c.hidden_size)?,
        );
        metadata.insert(
            "clip.vision.feature_layer",
            c.mm_vision_select_layer.unwrap_or(-2),
        );
        self.merge_metadata(&mut metadata);
        self.vision_part(metadata, weights)
    }

    /// The vision tower of a CLIP without projector, for looking at its features: merging as
    /// Chat-UniVi merges, tokens as wide as the tower.
    ///
    /// # Errors
    /// As [`Checkpoint::vision`].
    pub fn tower(&self) -> Result<CheckpointPart<'a>> {
        let config = self.tower_config()?;
        let mut metadata = self.tower_metadata(&config)?;
        metadata.insert("clip.projector_type", "identity");
        metadata.insert(
            "clip.vision.projection_dim",
            config.hidden_size.unwrap_or_default(),
        );
        metadata.insert("clip.vision.feature_layer", -2);
        self.merge_metadata(&mut metadata);
        self.vision_part(metadata, self)
    }

    fn vision_part(
        &self,
        metadata: Metadata,
        tower: &Checkpoint<'a>,
    ) -> Result<CheckpointPart<'a>> {
        let config = VisionConfig::from_metadata(&metadata)?;
        let linear = metadata.str("clip.projector_type")? == "linear";
        let prefix = prefix(&tower.weights).ok_or_else(|| {
            let name = "vision_model.embeddings.class_embedding".into();
            Error::MissingTensor { name }
        })?;
        let mut tensors = Vec::new();
        for wanted in vision_tensors(&config) {
            let (holder, source) = match wanted.name.strip_prefix("mm.") {
                // A single layer has no number.
                Some(rest) if linear => (
                    self,
                    format!("model.mm_projector.{}", rest.trim_start_matches("0.")),
                ),
                Some(rest) => (self, format!("model.mm_projector.{rest}")),
                None => (tower, format!("{prefix}{}", source_name(&wanted.name))),
            };
            let missing = || Error::MissingTensor {
                name: source.clone(),
            };
            let stored = holder.weights.get(&source).ok_or_else(missing)?;
            if stored.shape != wanted.shape {
                return Err(Error::WrongShape {
                    name: source,
                    found: stored.shape.clone(),
                    expected: wanted.shape,
                });
            }
            tensors.push(CheckpointTensor::new(
                wanted.name,
                wanted.shape,
                holder.files,
                &source,
                stored,
                RowOrder::Same,
            )?);
        }
        Ok(CheckpointPart {
            metadata,
            tensors,
            kind: Kind::Vision,
        })
    }

    /// The configuration of the tower in this folder: nested in a CLIP's, a vision half's own, or
    /// told by the tensors.
    fn tower_config(&self) -> Result<Config> {
        if let Some(nested) = &self.config.vision_config {
            return Ok((**nested).clone().with_clip_defaults());
        }
        if self
            .weights
            .get("vision_model.embeddings.class_embedding")
            .is_some()
        {
            return Ok(self.config.clone().with_clip_defaults());
        }
        self.told_by_tensors()
    }

    /// A tower in the shards of a language model comes without its configuration. Shapes tell all
    /// but the heads.
    fn told_by_tensors(&self) -> Result<Config> {
        let unclear = |what: &str| Error::BadRequest {
            reason: format!("{what}: name the folder of the vision tower with --vision-tower"),
        };
        let prefix =
            prefix(&self.weights).ok_or_else(|| unclear("the checkpoint holds no vision tower"))?;
        let shape = |name: &str| {
            let name = format!("{prefix}{name}");
            self.weights
                .get(&name)
                .map(|stored| &stored.shape[..])
                .ok_or(Error::MissingTensor { name })
        };
        let &[width, _, patch, _] = shape("embeddings.patch_embedding.weight")? else {
            return Err(unclear(
                "the tower's patch embedding is of an unknown shape",
            ));
        };
        let (&[positions, _], &[ffn, _]) = (
            shape("embeddings.position_embedding.weight")?,
            shape("encoder.layers.0.mlp.fc1.weight")?,
        ) else {
            return Err(unclear("the tower's tensors are of unknown shapes"));
        };
        let grid = positions.saturating_sub(1).isqrt();
        let blocks = (0..)
            .take_while(|i| shape(&format!("encoder.layers.{i}.layer_norm1.weight")).is_ok())
            .count();
        // OpenAI's towers have heads of 64 columns; those of others have not.
        let openai = self
            .tower_name()
            .is_some_and(|name| name.contains("openai/clip-vit"));
        if !openai || width % 64 != 0 {
            return Err(unclear(
                "nothing says how many heads the tower in the shards has",
            ));
        }
        let number = |n: usize| u32::try_from(n).ok();
        Ok(Config {
            hidden_size: number(width),
            intermediate_size: number(ffn),
            num_hidden_layers: number(blocks),
            num_attention_heads: number(width / 64),
            patch_size: number(patch),
            image_size: grid.checked_mul(patch).and_then(number),
            ..Config::default()
        }
        .with_clip_defaults())
    }

    /// The keys of a CLIP.
    fn tower_metadata(&self, c: &Config) -> Result<Metadata> {
        let gelu = match c.hidden_act.as_deref().unwrap_or("quick_gelu") {
            "quick_gelu" => false,
            "gelu" => true,
            other => {
                return Err(wrong(format!(
                    "the tower's hidden_act is {other:?}, expected quick_gelu or gelu"
                )));
            }
        };
        if let Some(channels) = c.num_channels.filter(|&n| n != 3) {
            return Err(wrong(format!(
                "the tower has {channels} channels, expected 3"
            )));
        }
        let image_px = c.image_size.unwrap_or_default();
        let pictures = match read_small(self.files, PREPROCESSOR_NAME)? {
            Some(json) => {
                Some(Preprocess::from_json(&json).map_err(|e| e.in_file(PREPROCESSOR_NAME))?)
            }
            None => None,
        };
        if let Some(pictures) = pictures.filter(|pictures| pictures.size_px != image_px as usize) {
            let reason = format!(
                "pictures of {} pixels, but the tower sees {image_px}",
                pictures.size_px
            );
            return Err(Error::BadFile {
                format: PREPROCESSOR_NAME,
                reason,
            });
        }
        let (mean, std) = pictures.map_or((CLIP_MEAN, CLIP_STD), |pictures| {
            (pictures.mean, pictures.std)
        });

        let mut m = Metadata::new();
        m.insert("general.architecture", "clip");
        m.insert("clip.has_vision_encoder", true);
        m.insert("clip.use_gelu", gelu);
        m.insert("clip.vision.image_size", image_px);
        m.insert("clip.vision.patch_size", c.patch_size.unwrap_or_default());
        m.insert(
            "clip.vision.embedding_length",
            c.hidden_size.unwrap_or_default(),
        );
        m.insert(
            "clip.vision.feed_forward_length",
            c.intermediate_size.unwrap_or_default(),
        );
        m.insert(
            "clip.vision.block_count",
            c.num_hidden_layers.unwrap_or_default(),
        );
        m.insert(
            "clip.vision.attention.head_count",
            c.num_attention_heads.unwrap_or_default(),
        );
        m.insert(
            "clip.vision.attention.layer_norm_epsilon",
            c.layer_norm_eps.unwrap_or_default(),
        );
        m.insert("clip.vision.image_mean", mean.to_vec());
        m.insert("clip.vision.image_std", std.to_vec());
        Ok(m)
    }

    fn merge_metadata(&self, m: &mut Metadata) {
        let clusters = self.config.config.clone().unwrap_or_default();
        let rates = [
            clusters.spatial_cluster_rate0.unwrap_or(64.),
            clusters.spatial_cluster_rate1.unwrap_or(32.),
            clusters.spatial_cluster_rate2.unwrap_or(16.),
        ];
        m.insert("univi.use_cluster", clusters.use_cluster.unwrap_or(false));
        m.insert("univi.spatial_cluster_rate", rates.to_vec());
        m.insert("univi.spatial_cluster_k", vec![5i32, 3, 3]);
        m.insert(
            "univi.temporal_cluster_rate",
            clusters.temporal_cluster_rate.unwrap_or(0.0625),
        );
        m.insert("univi.temporal_cluster_k", 5u32);
        m.insert(
            "univi.temporal_position",
            clusters.temporal_position.as_deref().unwrap_or("none"),
        );
        m.insert("univi.frame_rate", 1f32);
        m.insert("univi.max_frames", 64u32);
    }
}

/// What CLIP was trained with.
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Hugging Face's name, behind its prefix, for a tensor of a tower in a GGUF file.
pub fn source_name(name: &str) -> String {
    match name {
        "v.patch_embd.weight" => return "embeddings.patch_embedding.weight".into(),
        "v.class_embd" => return "embeddings.class_embedding".into(),
        "v.position_embd.weight" => return "embeddings.position_embedding.weight".into(),
        _ => {}
    }
    // The spelling is Hugging Face's.
    if let Some(rest) = name.strip_prefix("v.pre_ln.") {
        return format!("pre_layrnorm.{rest}");
    }
    let block = name
        .strip_prefix("v.blk.")
        .and_then(|rest| rest.split_once('.'));
    let Some((layer, (module, kind))) =
        block.and_then(|(layer, rest)| Some((layer, rest.split_once('.')?)))
    else {
        return name.to_string();
    };
    let module = match module {
        "ln1" => "layer_norm1",
        "ln2" => "layer_norm2",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_out" => "self_attn.out_proj",
        "ffn_up" => "mlp.fc1",
        "ffn_down" => "mlp.fc2",
        other => other,
    };
    format!("encoder.layers.{layer}.{module}.{kind}")
}
