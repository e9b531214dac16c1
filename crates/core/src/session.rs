//! A conversation: turns of words and visuals go in, answers come out piece by piece.
//!
//! The prompt of every turn is the whole conversation. What it shares with what the KV cache holds
//! is not computed again, so that a further question costs its own words alone.

use std::{ops::ControlFlow, rc::Rc};

use crate::{
    Backend, Error, Result,
    constraint::{Constraint, Schema},
    model::{CHUNK_ROWS, ChatUniVi, EncodedVisual, PromptToken},
    prompt::{self, Conversation, Template},
    sampler::{Sampler, Sampling},
    tokenizer::Decoder,
};

/// A part of what a user says.
pub enum EnginePart<B: Backend> {
    /// Words.
    Text(String),
    /// A picture or a clip.
    Visual(EncodedVisual<B>),
}

/// How a conversation is written down.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionOptions {
    /// Instead of the template's own system text.
    pub system: Option<String>,
    /// Instead of the model's own template.
    pub template: Option<Template>,
    /// What happens where the conversation gets too long for the context.
    pub overflow: Overflow,
}

/// What happens where a conversation gets too long for the context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The question is refused with `ContextOverflow`.
    #[default]
    Refuse,
    /// The oldest turns are forgotten, until there is room for the question and an answer of up to
    /// a quarter of the context.
    DropOldest,
}

/// How much of the context a conversation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextUsage {
    /// Tokens of the conversation so far, what was appended included.
    pub used: usize,
    /// Tokens that there may be.
    pub capacity: usize,
}

/// How an answer is made.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The answer ends after so many tokens.
    pub max_tokens: usize,
    /// How each is chosen.
    pub sampling: Sampling,
    /// Texts that end an answer and are no part of it, besides the template's own.
    pub stop: Vec<String>,
    /// The answer is a JSON value of this schema and ends where that does; the template's stop
    /// strings may be part of it.
    pub schema: Option<Schema>,
}

impl Default for GenerateOptions {
    /// The reference's.
    fn default() -> GenerateOptions {
        GenerateOptions {
            max_tokens: 1024,
            sampling: Sampling::default(),
            stop: Vec::new(),
            schema: None,
        }
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model had said all, a stop string came, or the value that the schema asks for is whole.
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
    /// Turns that were forgotten to make room.
    pub dropped_turns: usize,
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
pub struct EngineSession<B: Backend> {
    model: Rc<ChatUniVi<B>>,
    options: SessionOptions,
    turns: Vec<EngineTurn<B>>,
    /// What the user has begun to say.
    begun: Vec<EnginePart<B>>,
    caches: Vec<B::KvCache>,
    /// What the caches hold, position by position.
    cached: Vec<PromptToken<B>>,
}

/// What a user said, and what the model answered.
struct EngineTurn<B: Backend> {
    parts: Vec<EnginePart<B>>,
    answer: Option<String>,
}

impl<B: Backend> Clone for EnginePart<B> {
    fn clone(&self) -> Self {
        match self {
            EnginePart::Text(text) => EnginePart::Text(text.clone()),
            EnginePart::Visual(visual) => EnginePart::Visual(visual.clone()),
        }
    }
}

impl<B: Backend> Clone for EngineTurn<B> {
    fn clone(&self) -> Self {
        EngineTurn {
            parts: self.parts.clone(),
            answer: self.answer.clone(),
        }
    }
}

impl<B: Backend> EngineSession<B> {
    /// An empty conversation. Its KV cache takes memory as it grows.
    pub fn new(model: Rc<ChatUniVi<B>>, options: SessionOptions) -> EngineSession<B> {
        let caches = model.llama().caches();
        EngineSession {
            model,
            options,
            turns: Vec::new(),
            begun: Vec::new(),
            caches,
            cached: Vec::new(),
        }
    }

    /// The same conversation once more, to go on differently: what was read is not read again.
    ///
    /// # Errors
    /// `OutOfMemory` where there is no room for what was read; `DeviceLost`.
    pub async fn fork(&self) -> Result<EngineSession<B>> {
        let llama = self.model.llama();
        Ok(EngineSession {
            model: self.model.clone(),
            options: self.options.clone(),
            turns: self.turns.clone(),
            begun: self.begun.clone(),
            caches: llama.copy_caches(&self.caches, self.cached.len()).await?,
            cached: self.cached.clone(),
        })
    }

    /// The model that is spoken with.
    pub fn model(&self) -> &Rc<ChatUniVi<B>> {
        &self.model
    }

    /// Forgets all turns; what the KV cache holds of the prompt's beginning stays of use.
    pub fn clear(&mut self) {
        self.turns.clear();
        self.begun.clear();
    }

    /// Forgets all turns but the first `turns`, and what was begun; what the KV cache holds of them
    /// stays of use.
    pub fn rewind(&mut self, turns: usize) {
        self.turns.truncate(turns);
        self.begun.clear();
    }

    /// Another conversation instead of this one, with turns that are over; what the KV cache holds
    /// of its beginning stays of use.
    pub fn restart(&mut self, options: SessionOptions, turns: Vec<(Vec<EnginePart<B>>, String)>) {
        self.clear();
        self.options = options;
        self.turns
            .extend(turns.into_iter().map(|(parts, answer)| EngineTurn {
                parts,
                answer: Some(answer),
            }));
    }

    /// Begins the next question, or goes on with it: pictures and clips are read now, words with
    /// what follows them. [`EngineSession::answer`] then has less to read. False where `on_piece`,
    /// which gets empty pieces meanwhile, broke off: then nothing is appended.
    ///
    /// # Errors
    /// `ContextOverflow`, or `OutOfMemory` where the KV cache can't grow, then nothing is appended;
    /// or as [`Backend::read`].
    pub async fn append(
        &mut self,
        parts: Vec<EnginePart<B>>,
        on_piece: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<bool> {
        let before = self.begun.len();
        self.begun.extend(parts);
        let read = self.read_begun(on_piece).await;
        if !matches!(read, Ok(true)) {
            self.begun.truncate(before);
        }
        read
    }

    async fn read_begun(
        &mut self,
        on_piece: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<bool> {
        self.turns.push(EngineTurn {
            parts: self.begun.clone(),
            answer: None,
        });
        let room = self.make_room(1);
        self.turns.pop();
        let (prompt_tokens, _) = room?;
        self.check_room(&prompt_tokens)?;
        // Words may become other tokens with what follows them: what is behind the last visual is
        // not yet sure.
        let Some(last) = prompt_tokens
            .iter()
            .rposition(|prompt_token| matches!(prompt_token, PromptToken::Row(..)))
        else {
            return Ok(true);
        };
        let read = self
            .read(&prompt_tokens[..=last], &mut Usage::default(), on_piece)
            .await?;
        Ok(read.is_some())
    }

    /// How much of the context the conversation takes.
    ///
    /// # Errors
    /// `Tokenizer` where the template can't be rendered.
    pub fn context_usage(&self) -> Result<ContextUsage> {
        let mut turns = self.turns.clone();
        if !self.begun.is_empty() {
            turns.push(EngineTurn {
                parts: self.begun.clone(),
                answer: None,
            });
        }
        let used = match turns.is_empty() {
            true => 0,
            false => self.prompt_tokens(&turns)?.len(),
        };
        Ok(ContextUsage {
            used,
            capacity: self.model.llama().context(),
        })
    }

    /// Says `parts` and gives what the model answers. `on_piece` gets the text as it becomes
    /// certain, and empty pieces while a long prompt is read; where it breaks off, the answer
    /// ends there. It is awaited, so that on a device that never makes anybody wait others get
    /// their turn, too.
    ///
    /// A turn that fails, or is broken off before anything was said, leaves no trace in the
    /// conversation; what was appended before it stays.
    ///
    /// # Errors
    /// As [`EngineSession::generate`], and `Tokenizer` where the template can't be rendered.
    pub async fn answer(
        &mut self,
        parts: Vec<EnginePart<B>>,
        options: &GenerateOptions,
        on_piece: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let parts = self.begun.iter().cloned().chain(parts).collect();
        self.turns.push(EngineTurn {
            parts,
            answer: None,
        });
        let answer = self.next_answer(options, on_piece).await;
        match &answer {
            Ok(answer) if answer.finish != Finish::Aborted || !answer.text.is_empty() => {
                let turn = self.turns.last_mut().expect("it was just said");
                turn.answer = Some(answer.text.clone());
                self.begun.clear();
            }
            _ => drop(self.turns.pop()),
        }
        answer
    }

    async fn next_answer(
        &mut self,
        options: &GenerateOptions,
        on_piece: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let capacity = self.model.llama().context();
        let (prompt, dropped_turns) = self.make_room(options.max_tokens.min(capacity / 4))?;
        let mut options = options.clone();
        if options.schema.is_none() {
            let stop = self.template().stop().map(String::from);
            options.stop.extend(stop);
        }
        let mut answer = self.generate(&prompt, &options, on_piece).await?;
        answer.usage.dropped_turns = dropped_turns;
        Ok(answer)
    }

    fn template(&self) -> &Template {
        let own = self.options.template.as_ref();
        own.unwrap_or(self.model.template())
    }

    /// The places of the conversation, with room for `answer` more where that takes forgetting
    /// turns; how many were forgotten. Where not even the last turn has room, none is.
    fn make_room(&mut self, answer: usize) -> Result<(Vec<PromptToken<B>>, usize)> {
        let whole = self.prompt_tokens(&self.turns)?;
        let fits = |prompt_tokens: &[PromptToken<B>]| {
            prompt_tokens.len() + answer <= self.model.llama().context()
        };
        if self.options.overflow == Overflow::DropOldest && !fits(&whole) {
            for dropped in 1..self.turns.len() {
                let prompt_tokens = self.prompt_tokens(&self.turns[dropped..])?;
                if fits(&prompt_tokens) {
                    self.turns.drain(..dropped);
                    return Ok((prompt_tokens, dropped));
                }
            }
        }
        Ok((whole, 0))
    }

    /// The places of a conversation of these turns, up to the model's next answer.
    fn prompt_tokens(&self, turns: &[EngineTurn<B>]) -> Result<Vec<PromptToken<B>>> {
        let mut visuals = Vec::new();
        let mut part = |part: &EnginePart<B>| match part {
            EnginePart::Text(text) => prompt::PromptPart::Text(text.clone()),
            EnginePart::Visual(visual) => {
                visuals.push(visual.clone());
                prompt::PromptPart::Visual(visual.in_prompt())
            }
        };
        let turns = turns.iter().map(|turn| prompt::Turn {
            parts: turn.parts.iter().map(&mut part).collect(),
            answer: turn.answer.clone(),
        });
        let conversation = Conversation {
            template: self.template().clone(),
            system: self.options.system.clone(),
            wraps_visuals: self.model.wraps_visuals(),
            turns: turns.collect(),
        };
        self.model.prompt_tokens(&conversation.prompt()?, &visuals)
    }

    /// What the model says after `prompt`, whatever was said before; [`EngineSession::answer`] without
    /// turns and templates.
    ///
    /// # Errors
    /// `BadRequest` for an empty prompt, sampling that means nothing or a schema that can't be
    /// used; `ContextOverflow` before anything is computed; `OutOfMemory` where the KV cache
    /// can't grow; or as [`Backend::read`].
    pub async fn generate(
        &mut self,
        prompt: &[PromptToken<B>],
        options: &GenerateOptions,
        on_piece: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let mut sampler = Sampler::new(options.sampling)?;
        let mut constraint = match &options.schema {
            Some(schema) => Some(Constraint::new(self.model.vocabulary(), schema)?),
            None => None,
        };
        let mut answer = Answer {
            text: String::new(),
            ids: Vec::new(),
            finish: Finish::Length,
            usage: Usage {
                prompt: prompt.len(),
                reused: 0,
                visual: prompt
                    .iter()
                    .filter(|prompt_token| matches!(prompt_token, PromptToken::Row(..)))
                    .count(),
                completion: 0,
                dropped_turns: 0,
            },
        };
        let Some(mut hidden) = self.read(prompt, &mut answer.usage, on_piece).await? else {
            return Ok(Answer {
                finish: Finish::Aborted,
                ..answer
            });
        };
        if options.max_tokens == 0 {
            return Ok(answer);
        }
        let model = self.model.clone();
        let (llama, tokenizer) = (model.llama(), model.tokenizer());
        let (mut decoder, mut text) = (Decoder::default(), prompt::StopBuffer::new(&options.stop));
        loop {
            let logits = llama.logits(&hidden);
            let (id, next) = self
                .choose(&logits, &mut sampler, constraint.as_mut(), &answer.ids)
                .await?;
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
            if text.stopped() || constraint.as_ref().is_some_and(Constraint::is_complete) {
                answer.finish = Finish::Stop;
                break;
            }
            if answer.ids.len() == options.max_tokens || self.cached.len() == llama.context() {
                break;
            }
            llama
                .reserve(&mut self.caches, self.cached.len() + 1)
                .await?;
            hidden = llama.forward(&next, &mut self.caches, self.cached.len());
            self.cached.push(PromptToken::Token(id));
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

    /// The logits `[vocabulary]` of what comes after `prompt`. What it reads stays in the KV cache:
    /// of [`EngineSession::generate`] after the same prompt, the last place is left.
    ///
    /// # Errors
    /// As [`EngineSession::generate`].
    pub async fn logits(&mut self, prompt: &[PromptToken<B>]) -> Result<Vec<f32>> {
        let mut go_on = async |_: &str| ControlFlow::Continue(());
        let read = self.read(prompt, &mut Usage::default(), &mut go_on).await?;
        let hidden = read.expect("nothing broke off");
        let logits = self.model.llama().logits(&hidden);
        self.model.backend().read(&logits).await
    }

    /// That a prompt has room, and one token of an answer.
    fn check_room(&self, prompt: &[PromptToken<B>]) -> Result<()> {
        let (needed, capacity) = (prompt.len() + 1, self.model.llama().context());
        if needed <= capacity {
            return Ok(());
        }
        Err(Error::ContextOverflow { needed, capacity })
    }

    /// Computes what the caches don't hold of `prompt`: its last row `[1, width]`, or `None` where
    /// `on_piece` broke off.
    async fn read(
        &mut self,
        prompt: &[PromptToken<B>],
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
        self.check_room(prompt)?;
        llama.reserve(&mut self.caches, prompt.len()).await?;
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
        constraint: Option<&mut Constraint>,
        said: &[u32],
    ) -> Result<(u32, B::Tensor)> {
        let (b, llama) = (self.model.backend(), self.model.llama());
        if sampler.options().is_argmax() && constraint.is_none() {
            // Four bytes come back; the embedding is looked up where the id was found.
            let id = b.argmax(logits);
            let next = llama.embed(&id);
            return Ok((b.read_ids(&id).await?[0], next));
        }
        let mut logits = b.read(logits).await?;
        let id = match constraint {
            Some(constraint) => {
                constraint.mask(&mut logits)?;
                let id = sampler.sample(&logits, said);
                constraint.push(id)?;
                id
            }
            None => sampler.sample(&logits, said),
        };
        Ok((id, llama.embed(&b.ids(&[id]))))
    }
}
