//! The language model of a checkpoint.

use univi::{
    Error, Result,
    config::LlamaConfig,
    gguf::Metadata,
    model::llama_tensors,
    prompt::{TEMPLATE_KEY, Template, WRAPS_VISUALS_KEY},
};

use super::{
    Checkpoint,
    config::{CONFIG_NAME, wrong},
    part::{CheckpointPart, CheckpointTensor, Kind, RowOrder},
};

const EMBEDDINGS: &str = "model.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";

impl<'a> Checkpoint<'a> {
    /// The language model, with its vocabulary. More embeddings than there are tokens are cut off.
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
                self.files,
                &source,
                stored,
                order,
            )?);
        }
        self.refuse_unknown(&config, tied)?;
        Ok(CheckpointPart {
            metadata,
            tensors,
            kind: Kind::Llm {
                heads_per_kv: config.heads.heads / config.heads.kv_heads,
            },
        })
    }

    fn llm_metadata(&self) -> Result<Metadata> {
        let c = &self.config;
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
        if let Some(window) = c.sliding_window {
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
        let rope = c.rope_scaling.as_ref().or(c.rope_parameters.as_ref());
        let theta = c
            .rope_theta
            .or(rope.and_then(|rope| rope.rope_theta))
            .unwrap_or(10000.);
        m.insert("llama.rope.freq_base", theta);
        match rope.and_then(|rope| rope.rope_type.as_deref()) {
            None | Some("default") => Ok(()),
            Some("linear") => {
                let factor = rope.and_then(|rope| rope.factor);
                m.insert("llama.rope.scaling.type", "linear");
                m.insert(
                    "llama.rope.scaling.factor",
                    factor.ok_or_else(|| wrong("rope_scaling has no factor"))?,
                );
                Ok(())
            }
            Some(other) => Err(wrong(format!(
                "rope_scaling is of type {other:?}; only \"linear\" is supported"
            ))),
        }
    }

    /// A tensor that has no place in a LLaMA means that this is something else.
    fn refuse_unknown(&self, config: &LlamaConfig, tied: bool) -> Result<()> {
        let known: std::collections::HashSet<String> = llama_tensors(config)
            .iter()
            .map(|wanted| source_name(&wanted.name))
            .collect();
        let harmless = |name: &str| {
            name.ends_with(".rotary_emb.inv_freq")
                || name.starts_with("model.mm_projector.")
                || name.starts_with("model.vision_tower.")
                || (tied && name == OUTPUT)
        };
        match self
            .weights
            .names()
            .find(|name| !known.contains(*name) && !harmless(name))
        {
            None => Ok(()),
            Some(name) => {
                let reason =
                    format!("tensor {name} has no place in a LLaMA as {CONFIG_NAME} describes it");
                Err(Error::BadFile {
                    format: "checkpoint",
                    reason,
                })
            }
        }
    }
}

/// Hugging Face's name for a language model's tensor of a GGUF file.
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
