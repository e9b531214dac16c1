//! The vision side of a checkpoint: CLIP's vision half, how its tokens merge, and the projector.

use std::collections::BTreeSet;

use univi::{
    Error, Result,
    config::{ClipConfig, VisionConfig},
    gguf::Metadata,
    image::Preprocess,
    model::vision_tensors,
};

use super::{
    Checkpoint,
    config::{Config, wrong},
    files::read_small,
    part::{CheckpointPart, CheckpointTensor, Kind, RowOrder},
    refuse_unknown,
    stored::Stored,
    tower::{TowerNames, check_agree, published, sizes_of_name},
};

const PREPROCESSOR_NAME: &str = "preprocessor_config.json";

/// What the names of a projector's tensors begin with.
pub(super) const PROJECTOR: &str = "model.mm_projector.";

/// What stands beside the vision half in the folder of a whole CLIP.
fn is_beside_a_tower(name: &str) -> bool {
    name.starts_with("text_model.")
        || matches!(
            name,
            "visual_projection.weight" | "text_projection.weight" | "logit_scale"
        )
}

impl<'a> Checkpoint<'a> {
    /// Returns whether the shards hold a vision tower.
    pub fn has_tower(&self) -> bool {
        matches!(TowerNames::find(&self.weights), Ok(Some(_)) | Err(_))
    }

    /// Returns the vision side, for this checkpoint's language model.
    ///
    /// The tower's tensors are those in the checkpoint's own shards, under any of their published
    /// names. `beside` is the folder of the tower that the model was made with: it describes the
    /// tower, and has what the shards lack.
    ///
    /// # Errors
    /// `BadRequest` where there is no tower, or nothing that says how many heads it has; `BadFile`
    /// for what is no CLIP or is computed otherwise, where `beside` is of other sizes, or for
    /// tensors that have no place in a tower; `MissingTensor`, `WrongShape`, `UnsupportedType`.
    pub fn vision(&self, beside: Option<&Checkpoint<'a>>) -> Result<CheckpointPart<'a>> {
        let c = &self.config;
        if let Some(other) = c
            .mm_vision_select_feature
            .as_deref()
            .filter(|&feature| feature != "patch")
        {
            return Err(wrong(format!(
                "mm_vision_select_feature is {other:?}; only \"patch\" is supported"
            )));
        }
        let name = self.tower_name().unwrap_or_default();
        if name.contains("eva") && !name.contains("clip-vit") {
            return Err(wrong(format!(
                "mm_vision_tower is {name:?}: EVA's vision towers are not supported, only CLIP's"
            )));
        }
        let config = self.tower_of_model(beside)?;
        let width = config.hidden_size.unwrap_or_default();
        if let Some(expected) = c.mm_hidden_size.filter(|&expected| expected != width) {
            return Err(wrong(format!(
                "mm_hidden_size is {expected}, but the vision tower is {width} wide: name the tower that the model was made with"
            )));
        }
        let mut metadata = self.tower_metadata(&config, beside)?;
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
        self.vision_part(metadata, beside)
    }

    /// The configuration of the model's tower, checked against all that is known of it: the
    /// tensors in the shards, the folder beside them, the name of a published one.
    fn tower_of_model(&self, beside: Option<&Checkpoint<'a>>) -> Result<Config> {
        const OWN: &str = "in the checkpoint's shards";
        const BESIDE: &str = "in the folder of the tower";
        let own = TowerNames::find(&self.weights)?;
        let own_sizes = match &own {
            Some(names) => Some(names.sizes(&self.weights)?),
            None => None,
        };
        let name = self.tower_name();
        let by_name = format!("by the name {}", name.unwrap_or_default());
        let said = self.config.vision_config.as_deref();
        let said = said.map(|config| config.clone().with_clip_defaults());
        // A tower of another width is not the one of that name, whatever else it is.
        let of_name = name
            .and_then(published)
            .filter(|published| match &own_sizes {
                Some(own) => own.hidden_size == published.hidden_size,
                None => true,
            });

        let config = match (beside, &said, &own_sizes, &of_name) {
            (Some(tower), ..) => tower.tower_config()?,
            (None, Some(said), Some(_), _) => said.clone(),
            (None, None, Some(_), Some(published)) => published.clone(),
            (None, None, Some(_), None) => {
                return Err(Error::BadRequest {
                    reason: "nothing says how many heads the tower in the shards has: \
                             name the folder of the vision tower with --vision-tower"
                        .into(),
                });
            }
            (None, _, None, _) => {
                let name = name.unwrap_or("openai/clip-vit-large-patch14");
                return Err(Error::BadRequest {
                    reason: format!(
                        "the checkpoint holds no vision tower: name the folder of {name} with --vision-tower"
                    ),
                });
            }
        };
        let from: &str = match (beside, &said) {
            (Some(_), _) => BESIDE,
            (None, Some(_)) => "by config.json",
            (None, None) => &by_name,
        };
        if let Some(own) = &own_sizes {
            check_agree(own, OWN, &config, from)?;
            let (stored, said) = (own.num_hidden_layers, config.num_hidden_layers);
            if let (Some(stored), Some(said)) = (stored, said)
                && stored > said
            {
                return Err(wrong(format!(
                    "the vision tower has {stored} blocks {OWN}, but {said} {from}: \
                     name the tower that the model was made with"
                )));
            }
        }
        if let (Some(said), Some(_)) = (&said, beside) {
            check_agree(said, "by config.json", &config, from)?;
        }
        match (&own_sizes, name, &of_name) {
            (None, Some(name), _) => check_agree(&sizes_of_name(name), &by_name, &config, from)?,
            // The tensors say the sizes, but not this.
            (Some(_), _, Some(published)) => {
                let heads = Config {
                    num_attention_heads: published.num_attention_heads,
                    ..Config::default()
                };
                check_agree(&heads, &by_name, &config, from)?;
            }
            _ => {}
        }
        Ok(config)
    }

    /// Returns the vision tower of a CLIP without projector, for looking at its features: merging
    /// as Chat-UniVi merges, tokens as wide as the tower.
    ///
    /// # Errors
    /// As [`Checkpoint::vision`].
    pub fn tower(&self) -> Result<CheckpointPart<'a>> {
        let config = self.tower_config()?;
        let mut metadata = self.tower_metadata(&config, None)?;
        metadata.insert("clip.projector_type", "identity");
        metadata.insert(
            "clip.vision.projection_dim",
            config.hidden_size.unwrap_or_default(),
        );
        metadata.insert("clip.vision.feature_layer", -2);
        self.merge_metadata(&mut metadata);
        self.vision_part(metadata, None)
    }

    fn vision_part(
        &self,
        metadata: Metadata,
        beside: Option<&Checkpoint<'a>>,
    ) -> Result<CheckpointPart<'a>> {
        let config = VisionConfig::from_metadata(&metadata)?;
        let linear = metadata.str("clip.projector_type")? == "linear";
        let mut towers = Vec::new();
        for holder in [Some(self), beside].into_iter().flatten() {
            if let Some(names) = TowerNames::find(&holder.weights)? {
                towers.push((holder, names));
            }
        }
        let missing = |name: String| Error::MissingTensor { name };
        let Some((_, first)) = towers.first() else {
            return Err(missing("vision_model.embeddings.class_embedding".into()));
        };
        let first = first.prefix.clone();
        let in_towers = |rest: &str| {
            towers.iter().find_map(|(holder, names)| {
                let source = format!("{}{rest}", names.prefix);
                let stored = holder.weights.get(&source)?;
                Some((*holder, source, stored))
            })
        };
        let tensor = |name: String, holder: &Checkpoint<'a>, source: &str, stored: &Stored| {
            let shape = stored.shape.clone();
            let tensor = CheckpointTensor::new(name, shape, source, stored, RowOrder::Same);
            tensor.map(|tensor| CheckpointTensor {
                is_beside: !std::ptr::eq(holder, self),
                ..tensor
            })
        };

        let mut tensors = Vec::new();
        for wanted in vision_tensors(&config) {
            let (holder, source, stored) = match wanted.name.strip_prefix("mm.") {
                Some(rest) => {
                    // A single layer has no number.
                    let rest = if linear {
                        rest.trim_start_matches("0.")
                    } else {
                        rest
                    };
                    let source = format!("{PROJECTOR}{rest}");
                    match self.weights.get(&source) {
                        Some(stored) => (self, source, stored),
                        None => return Err(missing(source)),
                    }
                }
                None => {
                    let rest = source_name(&wanted.name);
                    in_towers(&rest).ok_or_else(|| missing(format!("{first}{rest}")))?
                }
            };
            if stored.shape != wanted.shape {
                return Err(Error::WrongShape {
                    name: source,
                    found: stored.shape.clone(),
                    expected: wanted.shape,
                });
            }
            tensors.push(tensor(wanted.name, holder, &source, stored)?);
        }

        // All that a tower of any depth has: what is not among it was meant for something else.
        let stored_blocks = metadata.u32("clip.vision.block_count")? as usize;
        let deepest = ClipConfig {
            blocks: stored_blocks.max(config.clip.blocks),
            ..config.clip
        };
        let whole = vision_tensors(&VisionConfig {
            clip: deepest,
            ..config
        });
        let mut known: BTreeSet<String> = whole
            .iter()
            .filter(|wanted| !wanted.name.starts_with("mm."))
            .map(|wanted| source_name(&wanted.name))
            .collect();
        known.extend(["post_layernorm.weight", "post_layernorm.bias"].map(String::from));
        let used: BTreeSet<&str> = tensors.iter().map(|tensor| &*tensor.source).collect();
        let mut unused = Vec::new();
        let (holder, names) = &towers[0];
        for rest in &known {
            let source = format!("{}{rest}", names.prefix);
            if let Some(stored) = holder.weights.get(&source)
                && !used.contains(&*source)
            {
                unused.push(tensor(source.clone(), holder, &source, stored)?);
            }
        }
        let mut unknown = Vec::new();
        for (holder, names) in &towers {
            unknown.extend(holder.weights.names().filter(|name| {
                let rest = name.strip_prefix(&*names.prefix);
                rest.is_some_and(|rest| {
                    !known.contains(rest)
                        && rest != "embeddings.position_ids"
                        && !(names.prefix.is_empty() && is_beside_a_tower(rest))
                })
            }));
        }
        refuse_unknown(&unknown, "a CLIP vision tower of these sizes")?;
        Ok(CheckpointPart {
            metadata,
            tensors,
            unused,
            kind: Kind::Vision,
            files: self.files,
            beside: beside.map(|tower| tower.files),
        })
    }

    /// The configuration of the tower in this folder: nested in a CLIP's, a vision half's own, or
    /// told by the tensors.
    fn tower_config(&self) -> Result<Config> {
        if let Some(nested) = &self.config.vision_config {
            return Ok((**nested).clone().with_clip_defaults());
        }
        match TowerNames::find(&self.weights)? {
            Some(names) if matches!(&*names.prefix, "vision_model." | "") => {
                Ok(self.config.clone().with_clip_defaults())
            }
            // The folder of another model, tuned or not.
            Some(_) => self.tower_of_model(None),
            None => Err(wrong(
                "the folder of the vision tower holds no CLIP vision tower: none of its tensors \
                 is named like one's",
            )),
        }
    }

    /// The keys of a CLIP.
    fn tower_metadata(&self, c: &Config, beside: Option<&Checkpoint<'a>>) -> Result<Metadata> {
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
        // Of the tower's holder, first of all.
        let own = self.has_tower().then_some(self);
        let mut pictures = None;
        for holder in [own, beside].into_iter().flatten() {
            if pictures.is_none()
                && let Some(json) = read_small(holder.files, PREPROCESSOR_NAME)?
            {
                let read =
                    Preprocess::from_json(&json).map_err(|e| e.in_file(PREPROCESSOR_NAME))?;
                pictures = Some(read);
            }
        }
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

/// Returns Hugging Face's name, behind its prefix, for a tensor of a tower in a GGUF file.
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
