//! LLaMA (arXiv 2302.13971), as GGUF files of architecture `llama` hold it: rows of `wq` and `wk`
//! are in the order of interleaved rotary pairs.

use super::weights::{ExpectedTensor, Weights};
use crate::{
    Backend, Error, Result,
    backend::{CachePlace, KvType, Norm, Rotation},
    config::LlamaConfig,
    sampler::Choice,
};

/// Rows of a prompt that go through the layers at a time: enough to keep the device busy, few
/// enough that scores and activations stay small.
pub const CHUNK_ROWS: usize = 256;

/// What LLaMA 3.1 and its like divide the rotary frequencies by.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The language model.
pub struct Llama<B: Backend> {
    backend: B,
    config: LlamaConfig,
    /// `[vocabulary, width]`
    token_embd: B::Matrix,
    layers: Vec<Layer<B>>,
    output_norm: B::Tensor,
    /// `[vocabulary, width]`; the embeddings serve where it is not there.
    output: Option<B::Matrix>,
    /// `[context, rotary]`, see [`Backend::rope`].
    rope: B::Tensor,
    context: usize,
    kv_cache: KvType,
}

/// A conversation of which rows are computed: its caches hold the positions before `pos`, and have
/// room for more.
pub struct KvPlace<'a, B: Backend> {
    /// A cache for each layer.
    pub caches: &'a mut [B::KvCache],
    /// The position of the conversation's first row.
    pub pos: usize,
}

struct Layer<B: Backend> {
    attn_norm: B::Tensor,
    wq: B::Matrix,
    wk: B::Matrix,
    wv: B::Matrix,
    wo: B::Matrix,
    ffn_norm: B::Tensor,
    w_gate: B::Matrix,
    w_up: B::Matrix,
    w_down: B::Matrix,
}

/// Returns the tensors of a language model of this configuration.
pub fn tensors(config: &LlamaConfig) -> Vec<ExpectedTensor> {
    let &LlamaConfig {
        width,
        ffn,
        vocabulary,
        ..
    } = config;
    let (q, kv) = (
        config.heads.heads * config.heads.head_dim,
        config.heads.kv_heads * config.heads.head_dim,
    );
    let mut specs = vec![ExpectedTensor::new(
        "token_embd.weight",
        [vocabulary, width],
    )];
    for i in 0..config.layers {
        let blk = |name: &str, shape: &[usize]| {
            ExpectedTensor::new(format!("blk.{i}.{name}.weight"), shape)
        };
        specs.extend([
            blk("attn_norm", &[width]),
            blk("attn_q", &[q, width]),
            blk("attn_k", &[kv, width]),
            blk("attn_v", &[kv, width]),
            blk("attn_output", &[width, q]),
            blk("ffn_norm", &[width]),
            blk("ffn_gate", &[ffn, width]),
            blk("ffn_up", &[ffn, width]),
            blk("ffn_down", &[width, ffn]),
        ]);
    }
    specs.push(ExpectedTensor::new("output_norm.weight", [width]));
    specs.push(ExpectedTensor::optional(
        "output.weight",
        [vocabulary, width],
    ));
    specs.push(ExpectedTensor::optional(
        ROPE_FACTORS,
        [config.rope.rotary / 2],
    ));
    specs
}

impl<B: Backend> Llama<B> {
    /// Takes the model out of `weights`, for conversations of up to `context` positions in caches
    /// of type `kv_cache`.
    ///
    /// # Errors
    /// `MissingTensor`; `BadFile` for rotary factors that mean nothing.
    pub fn new(
        weights: &mut Weights<B>,
        config: &LlamaConfig,
        context: usize,
        kv_cache: KvType,
    ) -> Result<Llama<B>> {
        let backend = weights.backend().clone();
        let layer = |i: usize, weights: &mut Weights<B>| -> Result<Layer<B>> {
            let name = |part: &str| format!("blk.{i}.{part}.weight");
            Ok(Layer {
                attn_norm: weights.vector(&name("attn_norm"))?,
                wq: weights.matrix(&name("attn_q"))?,
                wk: weights.matrix(&name("attn_k"))?,
                wv: weights.matrix(&name("attn_v"))?,
                wo: weights.matrix(&name("attn_output"))?,
                ffn_norm: weights.vector(&name("ffn_norm"))?,
                w_gate: weights.matrix(&name("ffn_gate"))?,
                w_up: weights.matrix(&name("ffn_up"))?,
                w_down: weights.matrix(&name("ffn_down"))?,
            })
        };
        let factors = weights.f32s(ROPE_FACTORS);
        if let Some(factor) = factors.iter().flatten().find(|&&factor| factor <= 0.) {
            let reason = format!("tensor {ROPE_FACTORS} holds {factor}, expected numbers above 0");
            return Err(Error::BadFile {
                format: "GGUF",
                reason,
            });
        }
        let rope = config.rope.table(context, factors.as_deref());
        Ok(Llama {
            token_embd: weights.matrix("token_embd.weight")?,
            layers: (0..config.layers)
                .map(|i| layer(i, weights))
                .collect::<Result<_>>()?,
            output_norm: weights.vector("output_norm.weight")?,
            output: weights.optional_matrix("output.weight"),
            rope: backend.tensor(&rope, config.rope.rotary),
            backend,
            config: config.clone(),
            context,
            kv_cache,
        })
    }

    /// Brings matrices that are multiplied with the same rows together: see [`Backend::stack`].
    ///
    /// # Errors
    /// As [`Backend::read`].
    pub async fn stack_matrices(&mut self) -> Result<()> {
        for layer in &mut self.layers {
            let (attention, gated) = (
                &mut [&mut layer.wq, &mut layer.wk, &mut layer.wv],
                &mut [&mut layer.w_gate, &mut layer.w_up],
            );
            self.backend.stack(attention).await?;
            self.backend.stack(gated).await?;
        }
        Ok(())
    }

    /// Returns what the model is made of.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Returns the matrices that every token is multiplied by, with the names of their tensors.
    pub fn products(&self) -> impl Iterator<Item = (String, &B::Matrix)> {
        let layers = self.layers.iter().enumerate().flat_map(|(i, layer)| {
            [
                ("attn_q", &layer.wq),
                ("attn_k", &layer.wk),
                ("attn_v", &layer.wv),
                ("attn_output", &layer.wo),
                ("ffn_gate", &layer.w_gate),
                ("ffn_up", &layer.w_up),
                ("ffn_down", &layer.w_down),
            ]
            .map(|(name, matrix)| (format!("blk.{i}.{name}.weight"), matrix))
        });
        let output = match &self.output {
            Some(output) => ("output.weight", output),
            None => ("token_embd.weight", &self.token_embd),
        };
        layers.chain([(output.0.to_owned(), output.1)])
    }

    /// Positions that a conversation may have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Returns how its caches store keys and values.
    pub fn kv_cache_type(&self) -> KvType {
        self.kv_cache
    }

    /// Makes empty caches of all layers, which take no memory before [`Llama::reserve`].
    pub fn caches(&self) -> Vec<B::KvCache> {
        let cache = |_: &Layer<B>| {
            self.backend
                .kv_cache(self.kv_width(), self.context, self.kv_cache)
        };
        self.layers.iter().map(cache).collect()
    }

    /// Returns the bytes that the caches of all layers take for a position.
    pub fn kv_bytes_per_token(&self) -> u64 {
        let layers = self.layers.len() as u64;
        self.kv_cache.bytes(2 * layers * self.kv_width() as u64)
    }

    /// Gives the caches room for `positions` positions, at most the context's, and some more where
    /// they have to grow. What they hold stays. They grow one after the other, so that no more
    /// than one of them is there twice.
    ///
    /// # Errors
    /// `OutOfMemory`, and the caches hold what they held; `DeviceLost`.
    pub async fn reserve(&self, caches: &mut [B::KvCache], positions: usize) -> Result<()> {
        for cache in caches {
            let grown = self.backend.reserve(cache, positions).await;
            grown.map_err(|error| self.about_conversation(error, positions))?;
        }
        Ok(())
    }

    /// Caches of their own with the first `positions` positions of others.
    ///
    /// # Errors
    /// As [`Llama::reserve`].
    pub async fn copy_caches(
        &self,
        caches: &[B::KvCache],
        positions: usize,
    ) -> Result<Vec<B::KvCache>> {
        let mut copies = Vec::with_capacity(caches.len());
        for cache in caches {
            let copy = self.backend.copy_kv_cache(cache, positions).await;
            copies.push(copy.map_err(|error| self.about_conversation(error, positions))?);
        }
        Ok(copies)
    }

    /// What one layer's cache was refused, said of the conversation.
    fn about_conversation(&self, error: Error, positions: usize) -> Error {
        let Error::OutOfMemory { limit_bytes, .. } = error else {
            return error;
        };
        // Keys and values of every layer have a buffer each.
        let buffers = 2 * self.layers.len() as u64;
        let row_bytes = self.kv_cache.bytes(self.kv_width() as u64);
        Error::OutOfMemory {
            what: format!("the KV cache of a conversation of {positions} tokens"),
            needed_bytes: row_bytes
                .saturating_mul(buffers)
                .saturating_mul(positions as u64),
            limit_bytes: limit_bytes.saturating_mul(buffers),
        }
    }

    /// Numbers of a key, and of a value, of one layer.
    fn kv_width(&self) -> usize {
        self.config.heads.kv_heads * self.config.heads.head_dim
    }

    /// Embeds tokens: `ids: [t]` -> `[t, width]`.
    pub fn embed(&self, ids: &B::Ids) -> B::Tensor {
        self.backend.embed(&self.token_embd, ids)
    }

    /// Runs all layers: `x: [t, width]` at positions `pos..pos + t` -> `[t, width]`, normed for
    /// [`Llama::logits`]. The caches hold positions `..pos` and then these too, for which they have
    /// room.
    pub fn forward(&self, x: &B::Tensor, caches: &mut [B::KvCache], pos: usize) -> B::Tensor {
        self.forward_each(x, &mut [KvPlace { caches, pos }])
    }

    /// As [`Llama::forward`], of rows of several conversations: each has an equal run of the rows
    /// of `x`. Weights are read once for all of them.
    pub fn forward_each(&self, x: &B::Tensor, conversations: &mut [KvPlace<B>]) -> B::Tensor {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            let places = conversations.iter_mut().map(|place| CachePlace {
                cache: &mut place.caches[i],
                pos: place.pos,
            });
            x = self.layer(layer, &x, &mut places.collect::<Vec<_>>());
        }
        self.backend
            .rms_norm(&x, &self.output_norm, self.config.eps)
    }

    /// Computes logits: `hidden: [t, width]` -> `[t, vocabulary]`.
    pub fn logits(&self, hidden: &B::Tensor) -> B::Tensor {
        self.backend
            .matmul(hidden, self.output.as_ref().unwrap_or(&self.token_embd))
    }

    /// As [`Llama::forward`] on as many rows as there are, a chunk at a time -> the last row
    /// `[1, width]`.
    pub fn prefill(&self, x: &B::Tensor, caches: &mut [B::KvCache], pos: usize) -> B::Tensor {
        let [t, _] = self.backend.shape(x);
        let mut last = None;
        for start in (0..t).step_by(CHUNK_ROWS) {
            let rows = start..(start + CHUNK_ROWS).min(t);
            let hidden = self.forward(&self.backend.slice(x, rows.clone()), caches, pos + start);
            last = Some(self.backend.slice(&hidden, rows.len() - 1..rows.len()));
        }
        last.expect("a prompt has at least one row")
    }

    /// Generates the ids that follow `x: [t, width]` when the likeliest is always taken, and the
    /// logits `[vocabulary]` that chose each. Nothing ends it early.
    ///
    /// # Errors
    /// `ContextOverflow`, or as [`Backend::read`].
    pub async fn greedy(&self, x: &B::Tensor, steps: usize) -> Result<(Vec<u32>, Vec<Vec<f32>>)> {
        let b = &self.backend;
        let [t, _] = b.shape(x);
        if t + steps > self.context + 1 {
            return Err(Error::ContextOverflow {
                needed: t + steps,
                capacity: self.context + 1,
            });
        }
        let mut caches = self.caches();
        self.reserve(&mut caches, (t + steps).min(self.context))
            .await?;
        let mut hidden = self.prefill(x, &mut caches, 0);
        let (mut ids, mut all_logits) = (Vec::new(), Vec::new());
        for step in 0..steps {
            let logits = self.logits(&hidden);
            let next = b.choose(&logits, &Choice::GREEDY);
            ids.extend(b.read_ids(&next).await?);
            all_logits.push(b.read(&logits).await?);
            if step + 1 < steps {
                hidden = self.forward(&self.embed(&next), &mut caches, t + step);
            }
        }
        Ok((ids, all_logits))
    }

    /// Returns the first part of the model that makes NaN or infinity of `x: [t, width]`, as its
    /// tensors are named; `None` where all stays finite. It reads every layer's result back, and is
    /// for saying what went wrong.
    ///
    /// # Errors
    /// As [`Llama::reserve`] and [`Backend::read`].
    pub async fn first_not_finite(&self, x: &B::Tensor) -> Result<Option<String>> {
        let b = &self.backend;
        let [t, _] = b.shape(x);
        let mut caches = self.caches();
        self.reserve(&mut caches, t).await?;
        for start in (0..t).step_by(CHUNK_ROWS) {
            let mut x = b.slice(x, start..(start + CHUNK_ROWS).min(t));
            if !is_finite(&b.read(&x).await?) {
                return Ok(Some("the embeddings".into()));
            }
            for (i, (layer, cache)) in self.layers.iter().zip(&mut caches).enumerate() {
                let place = CachePlace { cache, pos: start };
                x = self.layer(layer, &x, &mut [place]);
                if !is_finite(&b.read(&x).await?) {
                    return Ok(Some(format!("blk.{i}")));
                }
            }
            let hidden = b.rms_norm(&x, &self.output_norm, self.config.eps);
            if !is_finite(&b.read(&hidden).await?) {
                return Ok(Some("output_norm".into()));
            }
        }
        Ok(None)
    }

    /// `x: [t, width]` -> `[t, width]`; each of `places` has an equal run of the rows.
    fn layer(
        &self,
        layer: &Layer<B>,
        x: &B::Tensor,
        places: &mut [CachePlace<B::KvCache>],
    ) -> B::Tensor {
        let (b, heads) = (&self.backend, self.config.heads);
        let norm = |weight| Norm {
            weight,
            eps: self.config.eps,
        };
        let rotation = Rotation {
            table: &self.rope,
            head_dim: heads.head_dim,
        };
        let wqkv = [&layer.wq, &layer.wk, &layer.wv];
        let q = b.project_qkv(x, norm(&layer.attn_norm), wqkv, rotation, places);
        let attention = |(q, place): (&B::Tensor, &CachePlace<B::KvCache>)| {
            b.attention_causal(q, place.cache, heads, place.pos)
        };
        let a: Vec<_> = q.iter().zip(places.iter()).map(attention).collect();
        let a = match a.as_slice() {
            [a] => a.clone(),
            several => b.concat(&several.iter().collect::<Vec<_>>()),
        }; // [t, heads * head_dim]
        let x = b.add_matmul(x, &a, &layer.wo);
        let g = b.swiglu(&x, norm(&layer.ffn_norm), &layer.w_gate, &layer.w_up); // [t, ffn]
        b.add_matmul(&x, &g, &layer.w_down)
    }
}

fn is_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}
