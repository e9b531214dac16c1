//! CLIP's vision transformer (arXiv 2103.00020), as far as Chat-UniVi looks at it: the blocks up to
//! the layer whose output are the features. Later blocks and the last norm are neither loaded nor
//! run.

use super::weights::{ExpectedTensor, Weights};
use crate::{Backend, Result, backend::Heads, config::ClipConfig};

/// The vision encoder.
pub struct Clip<B: Backend> {
    backend: B,
    config: ClipConfig,
    /// `[width, 3 * patch_px * patch_px]`
    patch_embd: B::Matrix,
    /// The class token at its position: `[1, width]`, the same for every picture.
    class: B::Tensor,
    /// `[patches, width]`
    positions: B::Tensor,
    pre_ln: Norm<B>,
    blocks: Vec<Block<B>>,
}

struct Norm<B: Backend> {
    weight: B::Tensor,
    bias: B::Tensor,
}

struct Linear<B: Backend> {
    weight: B::Matrix,
    bias: B::Tensor,
}

struct Block<B: Backend> {
    ln1: Norm<B>,
    wq: Linear<B>,
    wk: Linear<B>,
    wv: Linear<B>,
    wo: Linear<B>,
    ln2: Norm<B>,
    up: Linear<B>,
    down: Linear<B>,
}

/// Returns the tensors of a vision encoder of this configuration.
pub fn tensors(config: &ClipConfig) -> Vec<ExpectedTensor> {
    let &ClipConfig {
        width,
        ffn,
        patch_px,
        ..
    } = config;
    let mut specs = vec![
        ExpectedTensor::new("v.patch_embd.weight", [width, 3, patch_px, patch_px]),
        ExpectedTensor::new("v.class_embd", [width]),
        ExpectedTensor::new("v.position_embd.weight", [config.patches() + 1, width]),
    ];
    let mut pair = |name: &str, weight: &[usize]| {
        specs.push(ExpectedTensor::new(format!("{name}.weight"), weight));
        specs.push(ExpectedTensor::new(format!("{name}.bias"), [weight[0]]));
    };
    pair("v.pre_ln", &[width]);
    for i in 0..config.blocks {
        for (part, shape) in [
            ("ln1", &[width] as &[usize]),
            ("attn_q", &[width, width]),
            ("attn_k", &[width, width]),
            ("attn_v", &[width, width]),
            ("attn_out", &[width, width]),
            ("ln2", &[width]),
            ("ffn_up", &[ffn, width]),
            ("ffn_down", &[width, ffn]),
        ] {
            pair(&format!("v.blk.{i}.{part}"), shape);
        }
    }
    specs
}

impl<B: Backend> Norm<B> {
    fn new(weights: &mut Weights<B>, name: &str) -> Result<Norm<B>> {
        Ok(Norm {
            weight: weights.vector(&format!("{name}.weight"))?,
            bias: weights.vector(&format!("{name}.bias"))?,
        })
    }
}

impl<B: Backend> Linear<B> {
    fn new(weights: &mut Weights<B>, name: &str) -> Result<Linear<B>> {
        Ok(Linear {
            weight: weights.matrix(&format!("{name}.weight"))?,
            bias: weights.vector(&format!("{name}.bias"))?,
        })
    }

    fn forward(&self, b: &B, x: &B::Tensor) -> B::Tensor {
        b.add(&b.matmul(x, &self.weight), &self.bias)
    }
}

impl<B: Backend> Clip<B> {
    /// Takes the encoder out of `weights`.
    ///
    /// # Errors
    /// `MissingTensor`.
    pub fn new(weights: &mut Weights<B>, config: &ClipConfig) -> Result<Clip<B>> {
        let backend = weights.backend().clone();
        let block = |i: usize, weights: &mut Weights<B>| -> Result<Block<B>> {
            let name = |part: &str| format!("v.blk.{i}.{part}");
            Ok(Block {
                ln1: Norm::new(weights, &name("ln1"))?,
                wq: Linear::new(weights, &name("attn_q"))?,
                wk: Linear::new(weights, &name("attn_k"))?,
                wv: Linear::new(weights, &name("attn_v"))?,
                wo: Linear::new(weights, &name("attn_out"))?,
                ln2: Norm::new(weights, &name("ln2"))?,
                up: Linear::new(weights, &name("ffn_up"))?,
                down: Linear::new(weights, &name("ffn_down"))?,
            })
        };
        let table = weights.matrix("v.position_embd.weight")?;
        let position = |range: std::ops::RangeInclusive<u32>| {
            backend.embed(&table, &backend.ids(&range.collect::<Vec<_>>()))
        };
        Ok(Clip {
            patch_embd: weights.matrix("v.patch_embd.weight")?,
            class: backend.add(&weights.vector("v.class_embd")?, &position(0..=0)),
            positions: position(1..=config.patches() as u32),
            pre_ln: Norm::new(weights, "v.pre_ln")?,
            blocks: (0..config.blocks)
                .map(|i| block(i, weights))
                .collect::<Result<_>>()?,
            backend,
            config: config.clone(),
        })
    }

    /// Returns what the encoder is made of.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// Encodes patches: `patches: [batch * patches, 3 * patch_px * patch_px]` -> features `[batch *
    /// patches, width]`: the output of the last block that was loaded, less the class token.
    pub fn encode(&self, patches: &B::Tensor, batch: usize) -> B::Tensor {
        let mut x = self.embed(patches, batch);
        for block in &self.blocks {
            x = self.block(block, &x, batch);
        }
        self.patches(&x, batch)
    }

    /// As [`Clip::encode`], of the last block and of the one before it: for each the class tokens
    /// `[batch, width]` and the features.
    ///
    /// # Panics
    /// Without a block.
    pub fn encode_last_two(
        &self,
        patches: &B::Tensor,
        batch: usize,
    ) -> [(B::Tensor, B::Tensor); 2] {
        let (last, blocks) = self.blocks.split_last().expect("an encoder has blocks");
        let mut x = self.embed(patches, batch);
        for block in blocks {
            x = self.block(block, &x, batch);
        }
        let y = self.block(last, &x, batch);
        [y, x].map(|x| (self.class(&x, batch), self.patches(&x, batch)))
    }

    /// What goes into the first block, the class token before the patches of each picture:
    /// `[batch * (1 + patches), width]`.
    fn embed(&self, patches: &B::Tensor, batch: usize) -> B::Tensor {
        let b = &self.backend;
        let n = self.config.patches();
        let x = b.add(&b.matmul(patches, &self.patch_embd), &self.positions); // [batch * n, width]
        let rows = (0..batch).flat_map(|i| {
            std::iter::once(0).chain((1 + i * n..=(i + 1) * n).map(|row| row as u32))
        });
        let x = b.gather(
            &b.concat(&[&self.class, &x]),
            &b.ids(&rows.collect::<Vec<_>>()),
        );
        b.layer_norm(&x, &self.pre_ln.weight, &self.pre_ln.bias, self.config.eps)
    }

    /// The class tokens `[batch, width]`.
    fn class(&self, x: &B::Tensor, batch: usize) -> B::Tensor {
        let n = self.config.patches();
        let rows: Vec<u32> = (0..batch).map(|i| (i * (1 + n)) as u32).collect();
        self.backend.gather(x, &self.backend.ids(&rows))
    }

    /// Everything but the class tokens: `[batch * patches, width]`.
    fn patches(&self, x: &B::Tensor, batch: usize) -> B::Tensor {
        let n = self.config.patches();
        let rows = (0..batch * (1 + n))
            .filter(|row| row % (1 + n) != 0)
            .map(|row| row as u32);
        self.backend
            .gather(x, &self.backend.ids(&rows.collect::<Vec<_>>()))
    }

    /// `x: [batch * (1 + patches), width]` -> the same.
    fn block(&self, block: &Block<B>, x: &B::Tensor, batch: usize) -> B::Tensor {
        let (b, eps) = (&self.backend, self.config.eps);
        let heads = Heads {
            heads: self.config.heads,
            kv_heads: self.config.heads,
            head_dim: self.config.width / self.config.heads,
        };
        let h = b.layer_norm(x, &block.ln1.weight, &block.ln1.bias, eps);
        let (q, k, v) = (
            block.wq.forward(b, &h),
            block.wk.forward(b, &h),
            block.wv.forward(b, &h),
        );
        let a = b.attention(&q, &k, &v, heads, batch);
        let x = b.add(x, &block.wo.forward(b, &a));
        let h = b.layer_norm(&x, &block.ln2.weight, &block.ln2.bias, eps);
        let h = b.activate(&block.up.forward(b, &h), self.config.activation);
        b.add(&x, &block.down.forward(b, &h))
    }
}
