//! The language model: its products, prompts and answers.

use std::collections::BTreeMap;

use univi::{
    Backend, Error, OpenDevice, Result,
    gguf::GgmlType,
    model::{KvPlace, Llama},
    sampler::Choice,
};

use crate::{
    options::Options,
    report::{Ceilings, Decode, PerToken, Product, Stage},
    stopwatch::Stopwatch,
};

/// Rows of activations of a product: of an answer, and of a part of a prompt.
const ROWS: [usize; 2] = [1, 256];
/// Products that are measured together, so that the wait for the last one counts little.
const TOGETHER: usize = 64;

pub(crate) struct Language<'a, B: Backend> {
    pub device: &'a OpenDevice,
    pub backend: &'a B,
    pub llama: &'a Llama<B>,
    pub types: &'a BTreeMap<String, GgmlType>,
    pub options: &'a Options,
}

/// Weights of the same name, type and shape.
struct Group<'a, B: Backend> {
    tensors: String,
    ty: GgmlType,
    shape: [usize; 2],
    matrices: Vec<&'a B::Matrix>,
}

impl<B: Backend> Language<'_, B> {
    /// The products of a token with one row, and with many.
    pub async fn products(
        &self,
        ceilings: &Ceilings,
        stopwatch: &mut Stopwatch<'_>,
    ) -> Result<Vec<Product>> {
        let b = self.backend;
        let mut products = Vec::new();
        for group in self.groups()? {
            let [n, cols] = group.shape;
            for rows in ROWS {
                stopwatch.begins(&format!("products with {}, rows: {rows}", group.tensors));
                let x = b.tensor(&numbers(rows * cols), cols);
                let together = if rows == 1 { TOGETHER } else { 1 };
                let spread = stopwatch
                    .time(async || {
                        // One after the other, so that none comes out of a cache.
                        for matrix in group.matrices.iter().cycle().take(together) {
                            b.matmul(&x, matrix);
                        }
                        b.finish().await
                    })
                    .await?
                    .divided_by(together);
                let bytes = (n * group.ty.row_bytes(cols)?) as f64;
                let operations = 2. * rows as f64 * n as f64 * cols as f64;
                products.push(Product {
                    tensors: group.tensors.clone(),
                    ty: group.ty.to_string(),
                    shape: group.shape,
                    rows,
                    seconds: spread,
                    read_share: bytes / spread.median / ceilings.read_bytes_per_second,
                    operations_share: operations / spread.median / ceilings.operations_per_second,
                });
            }
        }
        Ok(products)
    }

    /// How long prompts take.
    pub async fn reading(&self, stopwatch: &mut Stopwatch<'_>) -> Result<Vec<Stage>> {
        let (b, llama) = (self.backend, self.llama);
        let mut stages = Vec::new();
        for &count in self.options.prompts.iter().filter(|&&n| self.fits(n)) {
            stopwatch.begins(&format!("reading {count} tokens"));
            let mut caches = llama.caches();
            llama.reserve(&mut caches, count).await?;
            let ids = b.ids(&self.ids(count));
            let seconds = stopwatch
                .time(async || {
                    llama.prefill(&llama.embed(&ids), &mut caches, 0);
                    b.finish().await
                })
                .await?;
            stages.push(Stage {
                what: "reading, tokens".into(),
                count,
                seconds,
            });
        }
        Ok(stages)
    }

    /// How long the tokens of answers take: each is chosen from all logits, as answers are.
    pub async fn answering(
        &self,
        ceilings: &Ceilings,
        stopwatch: &mut Stopwatch<'_>,
    ) -> Result<Vec<Decode>> {
        let Options {
            contexts,
            together,
            answer,
            ..
        } = self.options;
        let alone = contexts.iter().map(|&context| (context, 1));
        let first = contexts.iter().take(1);
        let beside = first.flat_map(|&context| together.iter().map(move |&n| (context, n)));
        let mut decodes = Vec::new();
        for (context, conversations) in alone.chain(beside) {
            if *answer > 0 && self.fits(context + answer) {
                decodes.push(
                    self.decode(context, conversations, ceilings, stopwatch)
                        .await?,
                );
            }
        }
        Ok(decodes)
    }

    async fn decode(
        &self,
        context: usize,
        conversations: usize,
        ceilings: &Ceilings,
        stopwatch: &mut Stopwatch<'_>,
    ) -> Result<Decode> {
        let (b, llama, answer) = (self.backend, self.llama, self.options.answer);
        stopwatch.begins(&format!(
            "answering after {context} tokens, {conversations} at a time"
        ));
        let mut caches = Vec::new();
        for _ in 0..conversations {
            let mut own = llama.caches();
            llama.reserve(&mut own, context + answer).await?;
            if context > 0 {
                llama.prefill(&llama.embed(&b.ids(&self.ids(context))), &mut own, 0);
                b.finish().await?;
            }
            caches.push(own);
        }
        let before = self.device.counts();
        let mut answers = 0;
        let seconds = stopwatch
            .time(async || {
                answers += 1;
                self.answer(context, &mut caches).await
            })
            .await?
            .divided_by(answer);
        let tokens = f64::from(answers) * answer as f64;
        let gpu = before.zip(self.device.counts()).map(|(before, after)| {
            let each = |before: u64, after: u64| (after - before) as f64 / tokens;
            PerToken {
                dispatches: each(before.dispatches, after.dispatches),
                submits: each(before.submits, after.submits),
                reads: each(before.reads, after.reads),
                read_bytes: each(before.read_bytes, after.read_bytes),
            }
        });
        let cache_bytes = conversations as f64 * self.cache_bytes(context + answer / 2);
        let bytes = self.weight_bytes()? + cache_bytes;
        Ok(Decode {
            context,
            conversations,
            seconds,
            read_share: bytes / seconds.median / ceilings.read_bytes_per_second,
            gpu,
        })
    }

    /// Answers each conversation, as sessions do: one alone computes a token while the one before
    /// is read, several wait for each other.
    async fn answer(&self, context: usize, caches: &mut [Vec<B::KvCache>]) -> Result<()> {
        let (b, llama) = (self.backend, self.llama);
        if let [caches] = caches {
            let mut ids = b.ids(&[1]);
            let mut awaited = None;
            for pos in context..context + self.options.answer {
                let hidden = llama.forward(&llama.embed(&ids), caches, pos);
                ids = b.choose(&llama.logits(&hidden), &Choice::GREEDY);
                if let Some(before) = awaited.replace(Box::pin(b.read_ids(&ids))) {
                    before.await?;
                }
            }
            return match awaited {
                Some(last) => last.await.map(drop),
                None => Ok(()),
            };
        }
        let mut ids = vec![1; caches.len()];
        for pos in context..context + self.options.answer {
            let places = caches.iter_mut().map(|caches| KvPlace { caches, pos });
            let mut places: Vec<_> = places.collect();
            let logits = llama.logits(&llama.forward_each(&llama.embed(&b.ids(&ids)), &mut places));
            let choose = |i| b.choose(&b.slice(&logits, i..i + 1), &Choice::GREEDY);
            let chosen: Vec<_> = (0..ids.len()).map(choose).collect();
            let reading: Vec<_> = chosen.iter().map(|ids| b.read_ids(ids)).collect();
            for (id, read) in ids.iter_mut().zip(reading) {
                *id = read.await?[0];
            }
        }
        Ok(())
    }

    /// The products of a token, those of a kind together, in the order of a layer.
    fn groups(&self) -> Result<Vec<Group<'_, B>>> {
        let config = self.llama.config();
        let (q, kv) = (
            config.heads.heads * config.heads.head_dim,
            config.heads.kv_heads * config.heads.head_dim,
        );
        let mut groups: Vec<Group<B>> = Vec::new();
        for (name, matrix) in self.llama.products() {
            let ty = self.ty(&name)?;
            let tensors = name.trim_end_matches(".weight").rsplit('.').next();
            let tensors = tensors.unwrap_or_default();
            let shape = match tensors {
                "attn_q" => [q, config.width],
                "attn_k" | "attn_v" => [kv, config.width],
                "attn_output" => [config.width, q],
                "ffn_gate" | "ffn_up" => [config.ffn, config.width],
                "ffn_down" => [config.width, config.ffn],
                _ => [config.vocabulary, config.width],
            };
            let same = |group: &&mut Group<B>| group.tensors == tensors && group.ty == ty;
            match groups.iter_mut().find(same) {
                Some(group) => group.matrices.push(matrix),
                None => groups.push(Group {
                    tensors: tensors.to_owned(),
                    ty,
                    shape,
                    matrices: vec![matrix],
                }),
            }
        }
        Ok(groups)
    }

    fn ty(&self, name: &str) -> Result<GgmlType> {
        let unknown = || Error::BadRequest {
            reason: format!("nobody said which type tensor {name} has"),
        };
        self.types.get(name).copied().ok_or_else(unknown)
    }

    /// Bytes of the weights that a token is multiplied by.
    fn weight_bytes(&self) -> Result<f64> {
        let bytes = self.groups()?.into_iter().map(|group| {
            let [rows, cols] = group.shape;
            Ok((group.matrices.len() * rows * group.ty.row_bytes(cols)?) as f64)
        });
        bytes.sum()
    }

    /// Bytes of keys and values that a token at this position sees.
    fn cache_bytes(&self, positions: usize) -> f64 {
        let config = self.llama.config();
        let width = config.heads.kv_heads * config.heads.head_dim;
        let row = self.llama.kv_cache_type().bytes(width as u64);
        2. * config.layers as f64 * positions as f64 * row as f64
    }

    fn fits(&self, tokens: usize) -> bool {
        tokens > 0 && tokens <= self.llama.context()
    }

    /// Tokens without meaning.
    fn ids(&self, count: usize) -> Vec<u32> {
        let vocabulary = self.llama.config().vocabulary;
        (0..count).map(|i| (i * 7919 % vocabulary) as u32).collect()
    }
}

/// Numbers between -1 and 1 without meaning.
fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7919) % 2003) as f32 / 1001. - 1.)
        .collect()
}
