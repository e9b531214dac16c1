//! A conversation: turns of words and visuals go in, answers come out piece by piece.
//!
//! The prompt of every turn is the whole conversation. What it shares with what the KV cache holds is
//! not computed again, so that a further question costs its own words alone.

use std::{ops::ControlFlow, rc::Rc};

use crate::{
    Backend, Error, Result,
    model::{CHUNK_ROWS, ChatUniVi, Place, Visual},
    prompt::{self, Conversation, Template},
    sampler::{Sampler, Sampling},
    tokenizer::Decoder,
};

/// A part of what a user says.
pub enum Part<B: Backend> {
    /// Words.
    Text(String),
    /// A picture or a clip.
    Visual(Visual<B>),
}

/// How a conversation is written down.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionOptions {
    /// Instead of the template's own system text.
    pub system: Option<String>,
    /// Instead of the model's own template.
    pub template: Option<Template>,
}

/// How an answer is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Generate {
    /// The answer ends after so many tokens.
    pub max_tokens: usize,
    /// How each is chosen.
    pub sampling: Sampling,
    /// Texts that end an answer and are no part of it, besides the template's own.
    pub stop: Vec<String>,
}

impl Default for Generate {
    /// The reference's.
    fn default() -> Generate {
        Generate {
            max_tokens: 1024,
            sampling: Sampling::default(),
            stop: Vec::new(),
        }
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model had said all, or a stop string came.
    Stop,
    /// The most tokens that were allowed, or the context is full.
    Length,
    /// The caller broke off.
    Aborted,
}

/// What an answer took, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The whole conversation up to the answer.
    pub prompt: usize,
    /// Of these, what was still in the KV cache.
    pub reused: usize,
    /// Of these, what stands for visuals.
    pub visual: usize,
    /// The answer, its last token included.
    pub completion: usize,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Without the stop string, and without white space around it.
    pub text: String,
    /// As they were chosen; the last may be one that ends a text.
    pub ids: Vec<u32>,
    /// Why there is no more.
    pub finish: Finish,
    /// What it took.
    pub usage: Usage,
}

/// A conversation with a model.
pub struct Session<B: Backend> {
    model: Rc<ChatUniVi<B>>,
    options: SessionOptions,
    turns: Vec<Turn<B>>,
    caches: Vec<B::KvCache>,
    /// What the caches hold, position by position.
    cached: Vec<Place<B>>,
}

/// What a user said, and what the model answered.
struct Turn<B: Backend> {
    parts: Vec<Part<B>>,
    answer: Option<String>,
}

impl<B: Backend> Session<B> {
    /// An empty conversation.
    ///
    /// # Errors
    /// `OutOfMemory` where there is no room for the KV cache.
    pub fn new(model: Rc<ChatUniVi<B>>, options: SessionOptions) -> Result<Session<B>> {
        let caches = model.llama().caches(model.llama().context())?;
        Ok(Session {
            model,
            options,
            turns: Vec::new(),
            caches,
            cached: Vec::new(),
        })
    }

    /// The model that is spoken with.
    pub fn model(&self) -> &Rc<ChatUniVi<B>> {
        &self.model
    }

    /// Forgets all turns; what the KV cache holds of the prompt's beginning stays of use.
    pub fn clear(&mut self) {
        self.turns.clear();
    }

    /// Says `parts` and gives what the model answers. `on_piece` gets the text as it becomes certain, and
    /// empty pieces while a long prompt is read; where it breaks off, the answer ends there. It is awaited,
    /// so that on a device that never makes anybody wait others get their turn, too.
    ///
    /// A turn that fails, or is broken off before anything was said, leaves no trace in the conversation.
    ///
    /// # Errors
    /// As [`Session::generate`], and `Tokenizer` where the template can't be rendered.
    pub async fn answer(
        &mut self,
        parts: Vec<Part<B>>,
        generate: &Generate,
        on_piece: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        self.turns.push(Turn {
            parts,
            answer: None,
        });
        let answer = self.next_answer(generate, on_piece).await;
        match &answer {
            Ok(answer) if answer.finish != Finish::Aborted || !answer.text.is_empty() => {
                let turn = self.turns.last_mut().expect("it was just said");
                turn.answer = Some(answer.text.clone());
            }
            _ => drop(self.turns.pop()),
        }
        answer
    }

    async fn next_answer(
        &mut self,
        generate: &Generate,
        on_piece: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let template = self
            .options
            .template
            .as_ref()
            .unwrap_or(self.model.template());
        let mut visuals = Vec::new();
        let mut part = |part: &Part<B>| match part {
            Part::Text(text) => prompt::Part::Text(text.clone()),
            Part::Visual(visual) => {
                visuals.push(visual.clone());
                prompt::Part::Visual(visual.in_prompt())
            }
        };
        let turns = self.turns.iter().map(|turn| prompt::Turn {
            parts: turn.parts.iter().map(&mut part).collect(),
            answer: turn.answer.clone(),
        });
        let conversation = Conversation {
            template: template.clone(),
            system: self.options.system.clone(),
            wraps_visuals: self.model.wraps_visuals(),
            turns: turns.collect(),
        };
        let mut generate = generate.clone();
        generate.stop.extend(template.stop().map(String::from));
        let prompt = self.model.places(&conversation.prompt()?, &visuals)?;
        self.generate(&prompt, &generate, on_piece).await
    }

    /// What the model says after `prompt`, whatever was said before; [`Session::answer`] without turns
    /// and templates.
    ///
    /// # Errors
    /// `BadRequest` for an empty prompt or sampling that means nothing; `ContextOverflow` before anything
    /// is computed; or as [`Backend::read`].
    pub async fn generate(
        &mut self,
        prompt: &[Place<B>],
        generate: &Generate,
        on_piece: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let mut sampler = Sampler::new(generate.sampling)?;
        let mut answer = Answer {
            text: String::new(),
            ids: Vec::new(),
            finish: Finish::Length,
            usage: Usage {
                prompt: prompt.len(),
                reused: 0,
                visual: prompt
                    .iter()
                    .filter(|place| matches!(place, Place::Row(..)))
                    .count(),
                completion: 0,
            },
        };
        let Some(mut hidden) = self.read(prompt, &mut answer.usage, on_piece).await? else {
            return Ok(Answer {
                finish: Finish::Aborted,
                ..answer
            });
        };
        if generate.max_tokens == 0 {
            return Ok(answer);
        }
        let model = self.model.clone();
        let (llama, tokenizer) = (model.llama(), model.tokenizer());
        let (mut decoder, mut text) = (Decoder::default(), prompt::Answer::new(&generate.stop));
        loop {
            let logits = llama.logits(&hidden);
            let (id, next) = self.choose(&logits, &mut sampler, &answer.ids).await?;
            answer.ids.push(id);
            if tokenizer.ends_generation(id) {
                answer.finish = Finish::Stop;
                break;
            }
            let piece = text.push(decoder.push(tokenizer, id));
            if !piece.is_empty() && on_piece(piece).await.is_break() {
                answer.finish = Finish::Aborted;
                break;
            }
            if text.stopped() {
                answer.finish = Finish::Stop;
                break;
            }
            if answer.ids.len() == generate.max_tokens || self.cached.len() == llama.context() {
                break;
            }
            hidden = llama.forward(&next, &mut self.caches, self.cached.len());
            self.cached.push(Place::Token(id));
        }
        if answer.finish != Finish::Aborted {
            for rest in [
                text.push(decoder.finish()).to_string(),
                text.finish().to_string(),
            ] {
                if !rest.is_empty() {
                    // There is nothing left to break off.
                    let _ = on_piece(&rest).await;
                }
            }
        }
        answer.text = text.text().to_string();
        answer.usage.completion = answer.ids.len();
        Ok(answer)
    }

    /// Computes what the caches don't hold of `prompt`: its last row `[1, width]`, or `None` where
    /// `on_piece` broke off.
    async fn read(
        &mut self,
        prompt: &[Place<B>],
        usage: &mut Usage,
        on_piece: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<B::Tensor>> {
        let model = self.model.clone();
        let (b, llama) = (model.backend(), model.llama());
        let Some((_, before_last)) = prompt.split_last() else {
            return Err(Error::BadRequest {
                reason: "an empty prompt: there is nothing to answer".into(),
            });
        };
        if prompt.len() >= llama.context() {
            // One more, for the answer.
            return Err(Error::ContextOverflow {
                needed: prompt.len() + 1,
                capacity: llama.context(),
            });
        }
        // The last place is computed in any case: what comes next follows from it.
        usage.reused = self
            .cached
            .iter()
            .zip(before_last)
            .take_while(|(a, b)| a == b)
            .count();
        self.cached.truncate(usage.reused);
        let mut last = None;
        for chunk in prompt[usage.reused..].chunks(CHUNK_ROWS) {
            if last.is_some() {
                // One chunk at a time: a slow device would take a long prompt for a hang.
                b.finish().await?;
                if on_piece("").await.is_break() {
                    return Ok(None);
                }
            }
            let hidden = llama.forward(&model.embed(chunk), &mut self.caches, self.cached.len());
            self.cached.extend_from_slice(chunk);
            last = Some(b.slice(&hidden, chunk.len() - 1..chunk.len()));
        }
        Ok(last)
    }

    /// The next id and its embedding `[1, width]`.
    async fn choose(
        &self,
        logits: &B::Tensor,
        sampler: &mut Sampler,
        said: &[u32],
    ) -> Result<(u32, B::Tensor)> {
        let (b, llama) = (self.model.backend(), self.model.llama());
        if sampler.options().is_argmax() {
            // Four bytes come back; the embedding is looked up where the id was found.
            let id = b.argmax(logits);
            let next = llama.embed(&id);
            return Ok((b.read_ids(&id).await?[0], next));
        }
        let id = sampler.sample(&b.read(logits).await?, said);
        Ok((id, llama.embed(&b.ids(&[id]))))
    }
}
