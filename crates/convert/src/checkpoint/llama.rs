//! The language model of a checkpoint.

use std::collections::HashSet;

use univi::{
    Error, Result,
    config::LlamaConfig,
    gguf::Metadata,
    model::llama_tensors,
    prompt::{TEMPLATE_KEY, Template, WRAPS_VISUALS_KEY},
};

use super::{
    Checkpoint,
    config::{Rope, wrong},
    part::{CheckpointPart, CheckpointTensor, Kind, RowOrder},
    recognize::other_layout,
    refuse_unknown,
    tower::TowerNames,
    vision::PROJECTOR,
};

const EMBEDDINGS: &str = "model.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";

impl<'a> Checkpoint<'a> {
    /// Returns the language model, with its vocabulary. More embeddings than there are tokens are
    /// cut off.
    ///
    /// # Errors
    /// `Tokenizer`; `BadFile` for what is no LLaMA or is computed otherwise; `MissingTensor`,
    /// `WrongShape`, `UnsupportedType`.
    pub fn llm(&self) -> Result<CheckpointPart<'a>> {
        let metadata = self.llm_metadata()?;
        let config = LlamaConfig::from_metadata(&metadata)?;
        let tied = self.config.tie_word_embeddings.unwrap_or(false);
        let order = RowOrder::RotaryPairs {
            head_dim: config.heads.head_dim,
        };
        let mut tensors = Vec::new();
        for wanted in llama_tensors(&config) {
            let source = match &*wanted.name {
                "output.weight" if tied => continue,
                "rope_freqs.weight" => continue, /* Kinds of scaling that need factors were */
                // refused.
                name => source_name(name),
            };
            let missing = || Error::MissingTensor {
                name: source.clone(),
            };
            let stored = self.weights.get(&source).ok_or_else(missing)?;
            let order = if wanted.name.ends_with("attn_q.weight")
                || wanted.name.ends_with("attn_k.weight")
            {
                order
            } else {
                RowOrder::Same
            };
            let may_be_cut = matches!(&*source, EMBEDDINGS | OUTPUT);
            if !may_be_cut && stored.shape != wanted.shape {
                return Err(Error::WrongShape {
                    name: source,
                    found: stored.shape.clone(),
                    expected: wanted.shape,
                });
            }
            tensors.push(CheckpointTensor::new(
                wanted.name,
                wanted.shape,
                &source,
                stored,
                order,
            )?);
        }
        self.refuse_unknown(&config, tied)?;
        Ok(CheckpointPart {
            metadata,
            tensors,
            unused: Vec::new(),
            kind: Kind::Llm {
                heads_per_kv: config.heads.heads / config.heads.kv_heads,
            },
            files: self.files,
            beside: None,
        })
    }

    fn llm_metadata(&self) -> Result<Metadata> {
        let c = &self.config;
        if let Some(reason) = other_layout(&self.weights, c) {
            return Err(Error::BadFile {
                format: "checkpoint",
                reason,
            });
        }
        let embeddings = self
            .weights
            .get(EMBEDDINGS)
            .ok_or_else(|| Error::MissingTensor {
                name: EMBEDDINGS.into(),
            })?;
        let rows = embeddings.shape.first().copied().unwrap_or(0);
        for (key, on) in [
            ("attention_bias", c.attention_bias),
            ("mlp_bias", c.mlp_bias),
        ] {
            if on == Some(true) {
                return Err(wrong(format!(
                    "{key} is true: language models with biases are not supported"
                )));
            }
        }
        if let Some(other) = c.hidden_act.as_deref().filter(|&act| act != "silu") {
            return Err(wrong(format!(
                "hidden_act is {other:?}, expected \"silu\": this is no LLaMA"
            )));
        }
        c.check_is_llama()?;
        let heads = c.required("num_attention_heads", c.num_attention_heads)?;
        let width = c.required("hidden_size", c.hidden_size)?;
        let head_dim = c.head_dim.unwrap_or(width / heads);
        let vocabulary = self.vocabulary(rows)?;
        let tokens = vocabulary
            .opt_strings("tokenizer.ggml.tokens")?
            .map_or(rows, <[String]>::len);

        let mut m = Metadata::new();
        m.insert("general.architecture", "llama");
        m.insert("llama.vocab_size", tokens as u32);
        m.insert(
            "llama.context_length",
            c.required("max_position_embeddings", c.max_position_embeddings)?,
        );
        m.insert("llama.embedding_length", width);
        m.insert(
            "llama.block_count",
            c.required("num_hidden_layers", c.num_hidden_layers)?,
        );
        m.insert(
            "llama.feed_forward_length",
            c.required("intermediate_size", c.intermediate_size)?,
        );
        m.insert("llama.attention.head_count", heads);
        m.insert(
            "llama.attention.head_count_kv",
            c.num_key_value_heads.unwrap_or(heads),
        );
        m.insert(
            "llama.attention.layer_norm_rms_epsilon",
            c.rms_norm_eps.unwrap_or(1e-6),
        );
        if c.head_dim.is_some() {
            m.insert("llama.attention.key_length", head_dim);
            m.insert("llama.attention.value_length", head_dim);
        }
        m.insert("llama.rope.dimension_count", head_dim);
        self.rope_metadata(&mut m)?;
        if let Some(window) = c.window() {
            m.insert("llama.attention.sliding_window", window);
        }
        if self.has_vision() {
            let template = c.univi_template.as_deref().unwrap_or("simple");
            Template::from_name(template).map_err(|e| wrong(format!("univi_template: {e}")))?;
            m.insert(TEMPLATE_KEY, template);
            m.insert(WRAPS_VISUALS_KEY, c.mm_use_im_start_end.unwrap_or(false));
        }
        for (key, value) in vocabulary.iter() {
            m.insert(key, value.clone());
        }
        Ok(m)
    }

    fn rope_metadata(&self, m: &mut Metadata) -> Result<()> {
        let c = &self.config;
        // Newer files have the one, older the other, some both.
        let ropes = [c.rope_scaling.as_ref(), c.rope_parameters.as_ref()];
        let ropes: Vec<&Rope> = ropes.into_iter().flatten().collect();
        let theta = c
            .rope_theta
            .or(ropes.iter().find_map(|rope| rope.rope_theta));
        m.insert("llama.rope.freq_base", theta.unwrap_or(10000.));
        let mut factor = 1.;
        for rope in ropes {
            match rope.linear_factor()? {
                found if factor == 1. => factor = found,
                found if found == 1. || found == factor => {}
                found => {
                    return Err(wrong(format!(
                        "rope_scaling has a factor of {factor}, rope_parameters of {found}"
                    )));
                }
            }
        }
        if factor != 1. {
            m.insert("llama.rope.scaling.type", "linear");
            m.insert("llama.rope.scaling.factor", factor);
        }
        Ok(())
    }

    /// A tensor that has no place in a LLaMA means that this is something else.
    fn refuse_unknown(&self, config: &LlamaConfig, tied: bool) -> Result<()> {
        let known: HashSet<String> = llama_tensors(config)
            .iter()
            .map(|wanted| source_name(&wanted.name))
            .collect();
        let tower = TowerNames::find(&self.weights)?;
        let kind = self.config.mm_projector_type.as_deref();
        let projector = projector_names(kind.unwrap_or("linear"));
        let harmless = |name: &str| {
            name.ends_with(".rotary_emb.inv_freq")
                || tower
                    .as_ref()
                    .is_some_and(|tower| name.starts_with(&tower.prefix))
                || (self.has_vision() && projector.iter().any(|known| name == known))
                || (tied && name == OUTPUT)
        };
        let names = self.weights.names();
        let unknown: Vec<&str> = names
            .filter(|name| !known.contains(*name) && !harmless(name))
            .collect();
        refuse_unknown(&unknown, "a LLaMA as config.json describes it")
    }
}

/// The names of a projector's tensors. Its layers are numbered together with the GELUs between
/// them; a single one has no number.
fn projector_names(kind: &str) -> Vec<String> {
    let layers = kind
        .strip_prefix("mlp")
        .and_then(|rest| rest.strip_suffix("x_gelu"))
        .and_then(|n| n.parse::<usize>().ok());
    let numbers = match (kind, layers) {
        ("linear", _) => vec![String::new()],
        (_, Some(layers)) => (0..layers.min(64)).map(|i| format!("{}.", 2 * i)).collect(),
        _ => Vec::new(),
    };
    let both =
        |number: &String| ["weight", "bias"].map(|kind| format!("{PROJECTOR}{number}{kind}"));
    numbers.iter().flat_map(both).collect()
}

/// Returns Hugging Face's name for a language model's tensor of a GGUF file.
pub fn source_name(name: &str) -> String {
    let fixed = match name {
        "token_embd.weight" => EMBEDDINGS,
        "output_norm.weight" => "model.norm.weight",
        "output.weight" => OUTPUT,
        _ => "",
    };
    let block = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'));
    let Some((layer, tensor)) = block.filter(|_| fixed.is_empty()) else {
        return fixed.to_string();
    };
    let module = match tensor.strip_suffix(".weight").unwrap_or(tensor) {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        other => other,
    };
    format!("model.layers.{layer}.{module}.weight")
}
