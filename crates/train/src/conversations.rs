//! The loss of conversations about pictures and clips: next-token cross-entropy on the assistant's
//! words alone.
//!
//! Pictures, frames, prompts and tokens go through the code that answers with them; what is said
//! about one visual is packed behind it, so that it is looked at once.

use std::borrow::Borrow;

use candle_core::{Device, Tensor};
use univi::{
    Backend, Error, Result,
    backend::KvType,
    config::{LlamaConfig, VisionConfig},
    image::Rgb8,
    model::{Llama, Vision, llama_tensors, vision_tensors},
    prompt::{Conversation, PromptPart},
    tokenizer::Tokenizer,
};

use crate::{
    autograd::{Autograd, Packing, Sequence, cross_entropy},
    example::{Row, Written},
    parameters::{Parameters, candle},
    reader::Reader,
    trainer::{Share, Task},
};

/// Something to look at.
pub enum VisualInput {
    /// A picture.
    Image(Rgb8),
    /// Frames of a clip, already chosen.
    Video(Vec<Rgb8>),
    /// What a language model learns with before it has a vision encoder: embeddings, each the sum
    /// of those of tokens, blurred by noise `[embeddings, width]`.
    Symbols {
        /// The tokens of each embedding.
        tokens: Vec<Vec<u32>>,
        /// Added to the sums.
        noise: Vec<f32>,
    },
}

/// What is seen, and what is said about it; each conversation begins with all of it.
pub struct Example {
    /// The visuals in their order.
    pub sights: Vec<VisualInput>,
    /// One or more, independent of each other.
    pub conversations: Vec<Conversation>,
}

/// Where examples come from.
pub trait Examples: Sync {
    /// The example of this number in the batch of this step: always the same.
    ///
    /// # Errors
    /// Whatever a file can't be read for.
    fn example(&self, step: u64, item: usize) -> Result<Example>;

    /// Takes note that an example can't be learned from, and is left out of its batch.
    ///
    /// # Errors
    /// `error`, where that ends the training.
    fn skip(&self, step: u64, item: usize, error: Error) -> Result<()> {
        let _ = (step, item);
        Err(error)
    }
}

/// What a model is made of, besides its numbers.
pub struct Shape {
    /// The vision encoder.
    pub vision: VisionConfig,
    /// The language model.
    pub llama: LlamaConfig,
    /// The vocabulary.
    pub tokenizer: Tokenizer,
}

/// Conversations as a [`Task`].
pub struct Conversations<'a, E> {
    /// The model.
    pub shape: &'a Shape,
    /// The data.
    pub examples: E,
    /// Where it computes.
    pub device: Device,
    /// Which parameters remember what is computed with them.
    pub learns: fn(&str) -> bool,
    /// Whether a vision encoder that learns does so from clips, too. Their frames are most of what
    /// is looked at, and remembering all of them costs twice as much again.
    pub eyes_learn_from_clips: bool,
    /// How features become visual tokens: [`Reader::Model`] but for comparisons.
    pub reader: Reader,
}

impl<E: Examples> Task for Conversations<'_, E> {
    type Item = Example;

    fn item(&self, step: u64, number: usize) -> Result<Option<Example>> {
        let example = self.examples.example(step, number);
        match example.and_then(|example| self.fits(example)) {
            Ok(example) => Ok(Some(example)),
            Err(error) => self.examples.skip(step, number, error).map(|()| None),
        }
    }

    /// Multiplications by weights, about: four letters are a token.
    fn cost(&self, example: &Example) -> f64 {
        let Shape { vision, llama, .. } = self.shape;
        let clip = &vision.clip;
        let frame = clip.patches() * clip.blocks * clip.width * (4 * clip.width + 2 * clip.ffn);
        let token = llama.layers * llama.width * (4 * llama.width + 3 * llama.ffn);
        // What is remembered is computed with twice again.
        let remembered = |learns: bool| if learns { 3. } else { 1. };
        let eyes_learn = (self.learns)("v.patch_embd.weight");
        let (mut looks, mut tokens) = (0., 0);
        for sight in &example.sights {
            looks += match sight {
                VisualInput::Image(_) => remembered(eyes_learn),
                VisualInput::Video(frames) => {
                    let learns = eyes_learn && self.eyes_learn_from_clips;
                    frames.len() as f64 * remembered(learns)
                }
                VisualInput::Symbols { .. } => 0.,
            };
            tokens += self.most_tokens(sight);
        }
        for turn in example.conversations.iter().flat_map(|talk| &talk.turns) {
            let parts = turn.parts.iter().map(|part| match part {
                PromptPart::Text(text) => text.len(),
                PromptPart::Visual(_) => 0,
            });
            let letters = parts.sum::<usize>() + turn.answer.as_ref().map_or(0, String::len);
            tokens += letters / 4;
        }
        looks * frame as f64 + tokens as f64 * remembered(true) * token as f64
    }

    fn loss(&self, parameters: &Parameters, examples: &[&Example]) -> Result<Share> {
        let (logits, targets) = self.logits(parameters, examples)?;
        let weights = vec![1.; targets.len()];
        Ok(Share {
            loss: cross_entropy(&logits, &targets, &weights).map_err(candle)?,
            weight: targets.len() as f32,
        })
    }
}

impl<E> Conversations<'_, E> {
    /// How many tokens a visual becomes, as inference merges it.
    fn most_tokens(&self, sight: &VisualInput) -> usize {
        let vision = &self.shape.vision;
        match sight {
            VisualInput::Image(_) => vision.image_tokens(),
            VisualInput::Video(frames) => vision.video_tokens(frames.len()),
            VisualInput::Symbols { tokens, .. } => tokens.len(),
        }
    }

    /// Checks that an example can be learned from.
    fn fits(&self, example: Example) -> Result<Example> {
        let Shape {
            llama, tokenizer, ..
        } = self.shape;
        // Other readers make other numbers of tokens.
        if self.reader == Reader::Model {
            let tokens = example.sights.iter().map(|sight| self.most_tokens(sight));
            let tokens: Vec<usize> = tokens.collect();
            for conversation in &example.conversations {
                Written::new(conversation, tokenizer, &tokens, llama.context)?;
            }
        }
        Ok(example)
    }

    /// For every word of the assistant's: the logits `[words, vocabulary]` that should choose it,
    /// and its token.
    ///
    /// # Errors
    /// As [`Vision::image`], [`Vision::video`], [`Written::new`].
    pub fn logits(
        &self,
        parameters: &Parameters,
        examples: &[impl Borrow<Example>],
    ) -> Result<(Tensor, Vec<u32>)> {
        let Shape {
            llama: config,
            tokenizer,
            ..
        } = self.shape;
        let mut encoders = VisionEncoders::default();
        let mut batch = Batch::default();
        let mut seen: Vec<Tensor> = Vec::new();
        for example in examples.iter().map(Borrow::borrow) {
            let first = seen.len();
            for sight in &example.sights {
                seen.push(self.embeds(parameters, &mut encoders, sight)?);
            }
            let tokens = seen[first..].iter().map(|x| x.dim(0).map_err(candle));
            let tokens = tokens.collect::<Result<Vec<_>>>()?;
            let written = example
                .conversations
                .iter()
                .map(|conversation| Written::new(conversation, tokenizer, &tokens, config.context))
                .collect::<Result<Vec<_>>>()?;
            batch.push(&written, first);
        }

        let b = Autograd::new(&self.device, Packing::new(batch.sequences));
        let places = batch.longest;
        let mut weights = parameters.weights(&b, llama_tensors(config), self.learns);
        let llama = Llama::new(&mut weights, config, places, KvType::F32)?;

        // All tokens' embeddings, then those of all visuals, then in the order of the rows.
        let (mut tokens, mut offsets, mut offset) = (Vec::new(), Vec::new(), 0);
        for embeds in &seen {
            offsets.push(offset);
            offset += embeds.dim(0).map_err(candle)?;
        }
        let text = batch
            .rows
            .iter()
            .filter(|row| matches!(row, Row::Token(_)))
            .count();
        let order: Vec<u32> = batch
            .rows
            .iter()
            .map(|row| match *row {
                Row::Token(id) => {
                    tokens.push(id);
                    tokens.len() as u32 - 1
                }
                Row::Visual { visual, row } => (text + offsets[visual] + row) as u32,
            })
            .collect();
        let tokens = llama.embed(&b.ids(&tokens));
        let all: Vec<&Tensor> = std::iter::once(&tokens).chain(&seen).collect();
        let x = b.gather(&b.concat(&all), &b.ids(&order));

        let mut caches = llama.caches();
        let hidden = llama.forward(&x, &mut caches, 0);
        let hidden = b.gather(&hidden, &b.ids(&batch.before));
        Ok((llama.logits(&hidden), batch.targets))
    }

    /// Returns how many embeddings each visual of an example becomes.
    ///
    /// # Errors
    /// As [`Vision::image`] and [`Vision::video`].
    pub fn visual_tokens(&self, parameters: &Parameters, example: &Example) -> Result<Vec<usize>> {
        let mut encoders = VisionEncoders::default();
        let sights = example.sights.iter();
        let embeds = sights.map(|sight| self.embeds(parameters, &mut encoders, sight));
        embeds.map(|x| x?.dim(0).map_err(candle)).collect()
    }

    /// `[tokens, width]`
    fn embeds(
        &self,
        parameters: &Parameters,
        encoders: &mut VisionEncoders,
        sight: &VisualInput,
    ) -> Result<Tensor> {
        let b = Autograd::new(&self.device, Packing::default());
        match sight {
            VisualInput::Symbols { tokens, noise } => {
                let table = parameters.var("token_embd.weight");
                let table = match (self.learns)("token_embd.weight") {
                    true => table.as_tensor().clone(),
                    false => table.as_detached_tensor(),
                };
                let most = tokens.iter().map(Vec::len).max().unwrap_or(0);
                let mut sum = b.tensor(noise, self.shape.llama.width);
                for i in 0..most {
                    // A row of zeros stands for what is not there.
                    let ids: Vec<u32> = tokens
                        .iter()
                        .map(|t| t.get(i).copied().unwrap_or(0))
                        .collect();
                    let there: Vec<f32> = tokens
                        .iter()
                        .map(|t| f32::from(u8::from(i < t.len())))
                        .collect();
                    let x = b.embed(&table, &b.ids(&ids));
                    let x = x.broadcast_mul(&b.tensor(&there, 1)).map_err(candle)?;
                    sum = b.add(&sum, &x);
                }
                Ok(sum)
            }
            VisualInput::Image(picture) => self.look(
                parameters,
                encoders,
                &b,
                std::slice::from_ref(picture),
                true,
            ),
            VisualInput::Video(frames) => self.look(parameters, encoders, &b, frames, false),
        }
    }

    fn look(
        &self,
        parameters: &Parameters,
        encoders: &mut VisionEncoders,
        b: &Autograd,
        frames: &[Rgb8],
        is_image: bool,
    ) -> Result<Tensor> {
        let vision = encoders.open(self, parameters, b, is_image)?;
        let pictures = frames.iter().map(|frame| Ok(frame.clone()));
        if let Reader::Pooled { .. } | Reader::Queries { .. } = self.reader {
            let features = pollster::block_on(vision.features(pictures))?;
            let config = &self.shape.vision;
            return self
                .reader
                .read(b, &features, config, parameters, self.learns);
        }
        let visual = match is_image {
            true => pollster::block_on(vision.image(&frames[0]))?,
            false => pollster::block_on(vision.video(pictures))?,
        };
        if self.reader == Reader::Model {
            return Ok(visual.embeds().clone());
        }
        // In each event the finest stage comes first.
        let events = visual.event_frames().len();
        let each = visual.tokens() / events;
        let finest = pollster::block_on(visual.events())?;
        let rows = finest.iter().enumerate().flat_map(|(event, found)| {
            let tokens = found.stages.first().map_or(each, |stage| stage.sizes.len());
            (event * each..event * each + tokens).map(|row| row as u32)
        });
        Ok(b.gather(visual.embeds(), &b.ids(&rows.collect::<Vec<_>>())))
    }
}

/// The vision side for pictures, and for clips, each made when something is to be looked at.
#[derive(Default)]
struct VisionEncoders([Option<Vision<Autograd>>; 2]);

impl VisionEncoders {
    fn open<E>(
        &mut self,
        task: &Conversations<E>,
        parameters: &Parameters,
        b: &Autograd,
        is_image: bool,
    ) -> Result<&Vision<Autograd>> {
        let vision = &mut self.0[usize::from(!is_image)];
        if vision.is_none() {
            let config = &task.shape.vision;
            let learns = |name: &str| {
                let learns_here = is_image || task.eyes_learn_from_clips || !name.starts_with("v.");
                learns_here && (task.learns)(name)
            };
            let mut weights = parameters.weights(b, vision_tensors(config), learns);
            *vision = Some(Vision::new(&mut weights, config)?);
        }
        Ok(vision.as_ref().expect("it was just opened"))
    }
}

/// The rows of a batch.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    sequences: Vec<Sequence>,
    /// Rows of the longest conversation.
    longest: usize,
    /// Rows that are followed by a word of the assistant's, and these words.
    before: Vec<u32>,
    targets: Vec<u32>,
}

impl Batch {
    /// Adds what is said about the visuals from number `first` on.
    fn push(&mut self, written: &[Written], first: usize) {
        let Some(any) = written.first() else { return };
        // What all conversations begin with, as far as nobody is to learn it.
        let alike = |i: usize| {
            written.iter().all(|w| {
                w.rows.get(i) == any.rows.get(i) && !w.learned.get(i).copied().unwrap_or(true)
            })
        };
        let prefix = match written.len() {
            1 => any.rows.len(),
            _ => (0..any.rows.len()).take_while(|&i| alike(i)).count(),
        };
        let mut sequence = Sequence {
            prefix,
            questions: Vec::new(),
        };
        let start = self.rows.len();
        let here = |row: &Row| match *row {
            Row::Visual { visual, row } => Row::Visual {
                visual: first + visual,
                row,
            },
            token => token,
        };
        self.rows.extend(any.rows[..prefix].iter().map(here));
        for written in written {
            self.longest = self.longest.max(written.rows.len());
            let rest = self.rows.len();
            for (i, row) in written.rows.iter().enumerate() {
                if written.learned[i]
                    && i > 0
                    && let Row::Token(id) = *row
                {
                    // A row of the prefix, or of the rest.
                    let before = i - 1;
                    let at = if before < prefix {
                        start + before
                    } else {
                        rest + before - prefix
                    };
                    self.before.push(at as u32);
                    self.targets.push(id);
                }
            }
            if prefix < written.rows.len() {
                self.rows.extend(written.rows[prefix..].iter().map(here));
                sequence.questions.push(written.rows.len() - prefix);
            }
        }
        self.sequences.push(sequence);
    }
}
