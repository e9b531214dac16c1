//! What the small model is made of, and what it begins as: a checkpoint of random numbers in
//! Hugging Face's layout.

use std::collections::BTreeMap;

use candle_core::Device;
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde_json::json;
use univi::{
    Result,
    backend::{Activation, Heads},
    config::{ClipConfig, LlamaConfig, ProjectorConfig, RopeConfig, VisionConfig},
    model::{ExpectedTensor, clip, llama_tensors, projector},
    tokenizer::Tokenizer,
};
use univi_convert::checkpoint::{Checkpoint, llama_source_name, vision_source_name};

use crate::{
    conversations::Shape,
    export::{self, Folder, Tensors},
    parameters::Parameters,
    world::SIDE_PX,
};

/// Pictures are as large as the world draws them.
const IMAGE_PX: usize = SIDE_PX;
const PATCH_PX: usize = 12;
/// Channels of vision encoder and language model alike.
const WIDTH: usize = 160;
const HEADS: usize = 5;
const VISION_BLOCKS: usize = 6;
const VISION_FFN: usize = 4 * WIDTH;
const LAYERS: usize = 4;
const FFN: usize = 448;
const CONTEXT: usize = 1024;
/// A picture's 64 patches become so many tokens, in three stages.
const SPATIAL: [usize; 3] = [24, 12, 6];
const MEAN: [f32; 3] = [0.5; 3];
const STD: [f32; 3] = [0.25; 3];
/// A clip becomes so many events.
const EVENTS: usize = 4;

/// A model and its vision tower, each a folder as it would be published.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// Language model and projector, with the vocabulary.
    pub model: Folder,
    /// The vision encoder, all blocks.
    pub tower: Folder,
}

/// What differs between variants of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Whether frames keep their place in time when an event's tokens merge.
    pub temporal_position: bool,
    /// Whether tokens merge at all.
    pub merges: bool,
}

impl Default for Variant {
    fn default() -> Variant {
        Variant {
            temporal_position: true,
            merges: true,
        }
    }
}

impl Blueprint {
    /// A model that knows nothing: random numbers of this seed, for this vocabulary (a
    /// `tokenizer.model`).
    ///
    /// # Errors
    /// `Tokenizer` for a vocabulary that can't be read.
    pub fn new(vocabulary: Vec<u8>, variant: Variant, seed: u64) -> Result<Blueprint> {
        let tokens = univi::tokenizer::SentencePieceModel::parse(&vocabulary)?
            .pieces
            .len();
        let model = json!({
            "architectures": ["ChatUniViLlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "float32",
            "vocab_size": tokens,
            "hidden_size": WIDTH,
            "intermediate_size": FFN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": true,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "mm_hidden_size": WIDTH,
            "mm_projector_type": "linear",
            "mm_vision_tower": "vision-tower",
            "mm_vision_select_layer": -2,
            "mm_use_im_start_end": false,
            "univi_template": "bare",
            "config": {
                "use_cluster": variant.merges,
                "spatial_cluster_rate0": SPATIAL[0],
                "spatial_cluster_rate1": SPATIAL[1],
                "spatial_cluster_rate2": SPATIAL[2],
                "temporal_cluster_rate": EVENTS,
                "temporal_position": if variant.temporal_position { "sinusoidal" } else { "none" },
            },
        });
        let tower = json!({
            "architectures": ["CLIPVisionModel"],
            "model_type": "clip_vision_model",
            "hidden_size": WIDTH,
            "intermediate_size": VISION_FFN,
            "num_hidden_layers": VISION_BLOCKS,
            "num_attention_heads": HEADS,
            "image_size": IMAGE_PX,
            "patch_size": PATCH_PX,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        });
        let preprocessor = json!({
            "size": IMAGE_PX,
            "crop_size": IMAGE_PX,
            "image_mean": MEAN,
            "image_std": STD,
        });
        let tokenizer_config =
            json!({ "add_bos_token": true, "add_eos_token": false, "legacy": true });
        let mut blueprint = Blueprint {
            model: BTreeMap::from([
                ("config.json".into(), pretty(&model)),
                ("tokenizer.model".into(), vocabulary),
                ("tokenizer_config.json".into(), pretty(&tokenizer_config)),
            ]),
            tower: BTreeMap::from([
                ("config.json".into(), pretty(&tower)),
                ("preprocessor_config.json".into(), pretty(&preprocessor)),
            ]),
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        blueprint.fill(&mut rng, tokens)?;
        Ok(blueprint)
    }

    /// Random numbers for all tensors.
    fn fill(&mut self, rng: &mut ChaCha8Rng, tokens: usize) -> Result<()> {
        let mut language = Tensors::new();
        for wanted in llama_tensors(&llama_config(tokens)) {
            if !wanted.optional {
                let values = random(rng, &wanted);
                language.insert(llama_source_name(&wanted.name), (wanted.shape, values));
            }
        }
        for wanted in projector::tensors(ProjectorConfig::Mlp { layers: 1 }, WIDTH, WIDTH) {
            let name = wanted.name.replace("mm.0.", "model.mm_projector.");
            let values = random(rng, &wanted);
            language.insert(name, (wanted.shape, values));
        }
        let mut tower = Tensors::new();
        for wanted in clip::tensors(&clip_config()) {
            let name = format!("vision_model.{}", vision_source_name(&wanted.name));
            let values = random(rng, &wanted);
            tower.insert(name, (wanted.shape, values));
        }
        export::write(&mut self.model, &language)?;
        export::write(&mut self.tower, &tower)
    }

    /// Reads a blueprint, trained or not: what the model is made of, and its numbers.
    ///
    /// # Errors
    /// As [`Checkpoint::llm`] and [`Checkpoint::vision`].
    pub fn open(&self, device: &Device) -> Result<(Shape, Parameters)> {
        let (model, tower) = (
            Checkpoint::open(&self.model)?,
            Checkpoint::open(&self.tower)?,
        );
        let (llm, vision) = (model.llm()?, model.vision(Some(&tower))?);
        let shape = Shape {
            vision: VisionConfig::from_metadata(&vision.metadata)?,
            llama: LlamaConfig::from_metadata(&llm.metadata)?,
            tokenizer: Tokenizer::from_gguf(&llm.metadata)?,
        };
        let parameters = Parameters::read(&llm, device)?.join(Parameters::read(&vision, device)?);
        Ok((shape, parameters))
    }

    /// Returns the whole encoder, with the block behind the one whose output are the features.
    ///
    /// # Errors
    /// As [`Checkpoint::vision`].
    pub fn open_tower(&self, device: &Device) -> Result<(ClipConfig, Parameters)> {
        let whole = self.with_last_block();
        let (model, tower) = (Checkpoint::open(&whole)?, Checkpoint::open(&self.tower)?);
        let vision = model.vision(Some(&tower))?;
        let config = VisionConfig::from_metadata(&vision.metadata)?;
        let parameters = Parameters::read(&vision, device)?;
        Ok((config.clip, parameters.only(|name| name.starts_with("v."))))
    }

    /// Puts what was learned in place.
    ///
    /// # Errors
    /// As [`Checkpoint::llm`] and [`Checkpoint::vision`].
    pub fn put(&mut self, parameters: &Parameters) -> Result<()> {
        let whole = self.with_last_block();
        let (language, vision) = {
            let (model, tower) = (Checkpoint::open(&whole)?, Checkpoint::open(&self.tower)?);
            let (llm, vision) = (model.llm()?, model.vision(Some(&tower))?);
            (
                export::tensors(&llm, parameters)?,
                export::tensors(&vision, parameters)?,
            )
        };
        export::update(&mut self.model, &language)?;
        export::update(&mut self.model, &vision)?;
        export::update(&mut self.tower, &vision)
    }

    /// The model's folder, with the features said to come out of the last block.
    fn with_last_block(&self) -> Folder {
        let mut whole = self.model.clone();
        if let Some(config) = whole.get_mut(CONFIG_NAME)
            && let Ok(mut json) = serde_json::from_slice::<serde_json::Value>(config)
        {
            json["mm_vision_select_layer"] = json!(-1);
            *config = pretty(&json);
        }
        whole
    }
}

const CONFIG_NAME: &str = "config.json";

fn pretty(json: &serde_json::Value) -> Vec<u8> {
    serde_json::to_vec_pretty(json).expect("JSON of our own")
}

fn llama_config(vocabulary: usize) -> LlamaConfig {
    LlamaConfig {
        layers: LAYERS,
        width: WIDTH,
        heads: Heads {
            heads: HEADS,
            kv_heads: HEADS,
            head_dim: WIDTH / HEADS,
        },
        ffn: FFN,
        vocabulary,
        rope: RopeConfig {
            rotary: WIDTH / HEADS,
            theta: 10000.,
            scale: 1.,
        },
        eps: 1e-5,
        context: CONTEXT,
    }
}

fn clip_config() -> ClipConfig {
    ClipConfig {
        image_px: IMAGE_PX,
        patch_px: PATCH_PX,
        width: WIDTH,
        ffn: VISION_FFN,
        blocks: VISION_BLOCKS,
        heads: HEADS,
        eps: 1e-5,
        activation: Activation::QuickGelu,
        mean: MEAN,
        std: STD,
    }
}

/// Norms begin as 1, biases as 0, matrices so that what comes out is about as large as what goes
/// in, and what is added to the residual stream smaller by the number of additions.
fn random(rng: &mut ChaCha8Rng, wanted: &ExpectedTensor) -> Vec<f32> {
    let count: usize = wanted.shape.iter().product();
    let cols = count / wanted.shape[0];
    let name = &*wanted.name;
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    if wanted.shape.len() == 1 && name != "v.class_embd" {
        let value = match name {
            // Logits begin small, though the embeddings that they are compared with are shared.
            "output_norm.weight" => 0.25,
            _ if name.ends_with(".bias") => 0.,
            _ => 1.,
        };
        return vec![value; count];
    }
    let residual = |blocks: usize| (2. * blocks as f32).powf(-0.5);
    let deviation = match name {
        "v.class_embd" | "v.position_embd.weight" => 0.1,
        _ if name.starts_with("v.") && ends(&["attn_out.weight", "ffn_down.weight"]) => {
            (cols as f32).powf(-0.5) * residual(VISION_BLOCKS)
        }
        _ if ends(&["attn_output.weight", "ffn_down.weight"]) => {
            (cols as f32).powf(-0.5) * residual(LAYERS)
        }
        _ => (cols as f32).powf(-0.5),
    };
    (0..count).map(|_| deviation * normal(rng)).collect()
}

/// A normally distributed number (Box and Muller, 1958).
pub fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (a, b): (f32, f32) = (rng.random(), rng.random());
    (-2. * (1. - a).ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}
