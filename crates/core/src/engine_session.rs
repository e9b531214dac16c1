//! The generic session: turns of text and visuals go in, answers come out step by step.
//!
//! The prompt of every turn is the whole conversation. What it shares with the contents of the KV
//! cache is not computed again, so that a further question costs its own tokens alone.

use std::{collections::VecDeque, mem, ops::ControlFlow, rc::Rc};

use crate::{
    Backend, Error, Result,
    backend::NOT_FINITE,
    constraint::Constraint,
    generation::{Generation, Stage, not_finite},
    logprobs::{AnswerLogprobs, TokenLogprobs},
    model::{CHUNK_ROWS, ChatUniVi, EngineVisual, KvPlace, PromptToken},
    prompt::{self, Conversation, Template},
    run_ahead::{ComingToken, RunAhead},
    sampler::Sampler,
    session::{Answer, ContextUsage, Finish, GenerateOptions, Overflow, SessionOptions, Usage},
    stop_buffer::StopBuffer,
    tokenizer::Decoder,
};

/// Rows of a prompt that are computed while others wait for their next token.
const SHARED_CHUNK_ROWS: usize = 64;

/// How much a step computes.
#[derive(Clone, Copy)]
struct Pace {
    /// Whether nobody else waits, so that tokens follow the one that is chosen.
    alone: bool,
    /// Rows of a prompt.
    rows: usize,
}

impl Pace {
    const ALONE: Pace = Pace {
        alone: true,
        rows: CHUNK_ROWS,
    };
}

/// A part of a user's message.
pub enum EnginePart<B: Backend> {
    /// Text.
    Text(String),
    /// An encoded image or video.
    Visual(EngineVisual<B>),
}

/// A conversation with a model on one backend. Not `Send`.
pub struct EngineSession<B: Backend> {
    model: Rc<ChatUniVi<B>>,
    options: SessionOptions,
    turns: Vec<EngineTurn<B>>,
    /// What was appended of the next question.
    begun: Vec<EnginePart<B>>,
    /// Tokens of the conversation with it.
    begun_tokens: Option<usize>,
    caches: Vec<B::KvCache>,
    /// What the caches hold, position by position.
    cached: Vec<PromptToken<B>>,
    generation: Option<Generation<B>>,
    run_ahead: RunAhead,
}

/// A message of the user, and the model's answer.
struct EngineTurn<B: Backend> {
    parts: Vec<EnginePart<B>>,
    answer: Option<String>,
    /// Tokens of the conversation up to the answer's end, where it was computed in this session.
    tokens: Option<usize>,
}

/// What one step of an answer brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A part of a long prompt was computed.
    Prompt,
    /// The next text of the answer.
    Text(String),
    /// The answer is complete.
    Done,
}

impl Step {
    /// Returns the next text; empty for a part of a prompt, `None` at the end.
    pub(crate) fn into_text(self) -> Option<String> {
        match self {
            Step::Prompt => Some(String::new()),
            Step::Text(text) => Some(text),
            Step::Done => None,
        }
    }
}

impl<B: Backend> Clone for EnginePart<B> {
    fn clone(&self) -> Self {
        match self {
            EnginePart::Text(text) => EnginePart::Text(text.clone()),
            EnginePart::Visual(visual) => EnginePart::Visual(visual.clone()),
        }
    }
}

impl<B: Backend> EngineTurn<B> {
    fn question(parts: Vec<EnginePart<B>>) -> EngineTurn<B> {
        EngineTurn {
            parts,
            answer: None,
            tokens: None,
        }
    }
}

impl<B: Backend> Clone for EngineTurn<B> {
    fn clone(&self) -> Self {
        EngineTurn {
            parts: self.parts.clone(),
            answer: self.answer.clone(),
            tokens: self.tokens,
        }
    }
}

impl<B: Backend> EngineSession<B> {
    /// Begins an empty conversation. Its KV cache takes memory as it grows.
    pub fn new(model: Rc<ChatUniVi<B>>, options: SessionOptions) -> EngineSession<B> {
        let caches = model.llama().caches();
        EngineSession {
            model,
            options,
            turns: Vec::new(),
            begun: Vec::new(),
            begun_tokens: None,
            caches,
            cached: Vec::new(),
            generation: None,
            run_ahead: RunAhead::default(),
        }
    }

    /// Copies the conversation, KV cache included, so that both can go on differently. An answer
    /// that is being generated is not copied.
    ///
    /// # Errors
    /// `OutOfMemory` where the device has no memory for a second KV cache; `DeviceLost`.
    pub async fn fork(&self) -> Result<EngineSession<B>> {
        let llama = self.model.llama();
        let mut turns = self.turns.clone();
        turns.retain(|turn| turn.answer.is_some());
        Ok(EngineSession {
            model: self.model.clone(),
            options: self.options.clone(),
            turns,
            begun: self.begun.clone(),
            begun_tokens: self.begun_tokens,
            caches: llama.copy_caches(&self.caches, self.cached.len()).await?,
            cached: self.cached.clone(),
            generation: None,
            run_ahead: self.run_ahead,
        })
    }

    /// Returns the model.
    pub fn model(&self) -> &Rc<ChatUniVi<B>> {
        &self.model
    }

    /// Forgets all turns. The KV cache of the prompt's beginning is used again.
    pub fn clear(&mut self) {
        self.rewind(0);
    }

    /// Forgets all turns but the first `turns`, and what was appended. The KV cache of the turns
    /// that stay is used again.
    pub fn rewind(&mut self, turns: usize) {
        self.end();
        self.turns.truncate(turns);
        self.begun.clear();
        self.begun_tokens = None;
    }

    /// Replaces the conversation by one of these turns. The KV cache of what the beginnings share
    /// is used again.
    pub fn restart(&mut self, options: SessionOptions, turns: Vec<(Vec<EnginePart<B>>, String)>) {
        self.clear();
        self.options = options;
        self.turns
            .extend(turns.into_iter().map(|(parts, answer)| EngineTurn {
                answer: Some(answer),
                ..EngineTurn::question(parts)
            }));
    }

    /// Begins the next question, or continues it: images and videos are computed now, text with
    /// what follows it. The answer then has less to compute. Returns false where `on_chunk`, which
    /// is called between the parts of a long prompt, breaks: then nothing is appended.
    ///
    /// # Errors
    /// `ContextOverflow`, or `OutOfMemory` where the KV cache can't grow, then nothing is appended;
    /// or as [`Backend::read`].
    pub async fn append(
        &mut self,
        parts: Vec<EnginePart<B>>,
        on_chunk: &mut impl AsyncFnMut() -> ControlFlow<()>,
    ) -> Result<bool> {
        self.end();
        let before = (self.begun.len(), self.begun_tokens);
        self.begun.extend(parts);
        let read = self.read_begun(on_chunk).await;
        if !matches!(read, Ok(true)) {
            self.begun.truncate(before.0);
            self.begun_tokens = before.1;
        }
        read
    }

    async fn read_begun(
        &mut self,
        on_chunk: &mut impl AsyncFnMut() -> ControlFlow<()>,
    ) -> Result<bool> {
        self.turns.push(EngineTurn::question(self.begun.clone()));
        let room = self.make_room(1);
        self.turns.pop();
        let (prompt, _) = room?;
        self.check_room(&prompt)?;
        self.begun_tokens = Some(prompt.len());
        // Text may become other tokens with what follows it: what is behind the last visual is not
        // yet final.
        let Some(last) = prompt
            .iter()
            .rposition(|token| matches!(token, PromptToken::Row(..)))
        else {
            return Ok(true);
        };
        let prompt = &prompt[..=last];
        let (model, caches, cached) = (&self.model, &mut self.caches, &mut self.cached);
        begin_reading(model, caches, cached, prompt).await?;
        while read_chunk(model, caches, cached, prompt, CHUNK_ROWS)
            .await?
            .is_none()
        {
            if on_chunk().await.is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns how much of the context the conversation takes: as computed, or where no answer was
    /// computed yet since the conversation was restarted, as its prompt would be.
    ///
    /// # Errors
    /// `Tokenizer` where the template can't be rendered.
    pub fn context_usage(&self) -> Result<ContextUsage> {
        let computed = match self.begun.is_empty() {
            true => self.turns.last().map_or(Some(0), |turn| turn.tokens),
            false => self.begun_tokens,
        };
        let used = match computed {
            Some(tokens) => tokens,
            None => {
                let mut turns = self.turns.clone();
                if !self.begun.is_empty() {
                    turns.push(EngineTurn::question(self.begun.clone()));
                }
                self.prompt_tokens(&turns)?.len()
            }
        };
        Ok(ContextUsage {
            used,
            capacity: self.model.llama().context(),
        })
    }

    /// Begins the answer to `parts`; [`EngineSession::step`] generates it.
    ///
    /// A turn that fails, or is ended before it has text, leaves no trace in the conversation; what
    /// was appended before it stays.
    ///
    /// # Errors
    /// As [`EngineSession::begin`], and `Tokenizer` where the template can't be rendered.
    pub fn begin_turn(
        &mut self,
        parts: Vec<EnginePart<B>>,
        options: &GenerateOptions,
    ) -> Result<()> {
        self.end();
        let parts = self.begun.iter().cloned().chain(parts).collect();
        self.turns.push(EngineTurn::question(parts));
        let begun = self.begin_last_turn(options);
        if begun.is_err() {
            self.turns.pop();
        }
        begun
    }

    fn begin_last_turn(&mut self, options: &GenerateOptions) -> Result<()> {
        let capacity = self.model.llama().context();
        let (prompt, dropped_turns) = self.make_room(options.max_tokens.min(capacity / 4))?;
        let mut options = options.clone();
        if options.schema.is_none() {
            let stop = self.template().stop().map(String::from);
            options.stop.extend(stop);
        }
        let mut generation = self.generation(prompt, options)?;
        generation.answer.usage.dropped_turns = dropped_turns;
        generation.is_turn = true;
        self.generation = Some(generation);
        Ok(())
    }

    /// Begins the answer to a prompt, without turns and templates; [`EngineSession::step`]
    /// generates it.
    ///
    /// # Errors
    /// `BadRequest` for an empty prompt, sampling out of range or an unusable schema;
    /// `ContextOverflow`.
    pub fn begin(&mut self, prompt: Vec<PromptToken<B>>, options: GenerateOptions) -> Result<()> {
        self.end();
        self.generation = Some(self.generation(prompt, options)?);
        Ok(())
    }

    fn generation(
        &self,
        prompt: Vec<PromptToken<B>>,
        options: GenerateOptions,
    ) -> Result<Generation<B>> {
        let sampler = Sampler::new(options.sampling)?;
        let constraint = match &options.schema {
            Some(schema) => Some(Constraint::new(self.model.vocabulary(), schema)?),
            None => None,
        };
        self.check_room(&prompt)?;
        let visual = prompt
            .iter()
            .filter(|token| matches!(token, PromptToken::Row(..)));
        let usage = Usage {
            prompt: prompt.len(),
            visual: visual.count(),
            ..Usage::default()
        };
        Ok(Generation {
            sampler,
            constraint,
            decoder: Decoder::default(),
            text: StopBuffer::new(&options.stop),
            logprobs: AnswerLogprobs::default(),
            answer: Answer {
                text: String::new(),
                ids: Vec::new(),
                finish: Finish::Length,
                usage,
            },
            stage: Stage::New,
            is_turn: false,
            prompt,
            options,
        })
    }

    /// Computes the next part of the answer. Where its future is dropped, the next call goes on.
    ///
    /// # Errors
    /// `OutOfMemory` where the KV cache can't grow; or as [`Backend::read`]. The answer is over
    /// then.
    pub async fn step(&mut self) -> Result<Step> {
        let step = self.advance(Pace::ALONE).await;
        if step.is_err() {
            self.give_up();
        }
        step
    }

    /// Computes the next part of each of several answers. Those that wait for nothing but their
    /// next token get it together, so that weights are read once for all of them; where a token's
    /// text is not certain yet, the text is empty. Of prompts, the first that is not complete goes
    /// on, so put first who waits for longest. `sessions` are of one model. The future is not to be
    /// dropped before its end: what came would be lost.
    ///
    /// # Errors
    /// Each answer's own, as [`EngineSession::step`].
    ///
    /// # Panics
    /// For sessions of different models.
    pub async fn step_each(sessions: &mut [&mut EngineSession<B>]) -> Vec<Result<Step>> {
        let is_shared = |pair: &[&mut EngineSession<B>]| Rc::ptr_eq(&pair[0].model, &pair[1].model);
        assert!(sessions.windows(2).all(is_shared), "sessions of one model");
        if let [session] = sessions {
            return vec![session.step().await];
        }
        let mut failed = EngineSession::compute_tokens(sessions).await;
        let mut steps = Vec::with_capacity(sessions.len());
        // One prompt at a time: the others would wait for a part of each before their next token.
        let mut reads = false;
        let answers = sessions.iter().any(|session| !session.is_reading());
        let pace = Pace {
            alone: false,
            rows: if answers {
                SHARED_CHUNK_ROWS
            } else {
                CHUNK_ROWS
            },
        };
        for (session, failed) in sessions.iter_mut().zip(&mut failed) {
            let step = match failed.take() {
                Some(error) => Err(error),
                None if session.is_reading() && mem::replace(&mut reads, true) => Ok(Step::Prompt),
                None => session.advance(pace).await,
            };
            if step.is_err() {
                session.give_up();
            }
            steps.push(step);
        }
        steps
    }

    /// Puts the tokens that were chosen through the model, those of all `sessions` together, and
    /// begins to choose what follows them. Returns what went wrong for each.
    async fn compute_tokens(sessions: &mut [&mut EngineSession<B>]) -> Vec<Option<Error>> {
        let mut failed = Vec::with_capacity(sessions.len());
        let mut chosen = Vec::new();
        for session in sessions.iter_mut() {
            let reserved = match session.chosen() {
                Some(_) => session.reserve_one().await,
                None => Ok(()),
            };
            failed.push(reserved.err());
        }
        let mut conversations = Vec::new();
        let mut waiting = Vec::new();
        let ready = sessions.iter_mut().zip(&failed);
        for (session, _) in ready.filter(|(_, failed)| failed.is_none()) {
            let Some(id) = session.chosen() else { continue };
            let EngineSession {
                model,
                caches,
                cached,
                generation,
                ..
            } = &mut **session;
            chosen.push(id);
            conversations.push(KvPlace {
                caches,
                pos: cached.len(),
            });
            waiting.push((model, cached, generation));
        }
        let Some((model, ..)) = waiting.first() else {
            return failed;
        };
        let (b, llama) = (model.backend().clone(), model.llama());
        let embeddings = llama.embed(&b.ids(&chosen));
        let logits = llama.logits(&llama.forward_each(&embeddings, &mut conversations));
        for (i, (_, cached, generation)) in waiting.into_iter().enumerate() {
            cached.push(PromptToken::Token(chosen[i]));
            let generation = generation.as_mut().expect("what has chosen a token");
            let own = b.slice(&logits, i..i + 1);
            generation.stage = match generation.is_chosen_by_device() {
                true => {
                    let coming = ComingToken::new(&b, &own, &mut generation.sampler);
                    Stage::Ahead(VecDeque::from([coming]))
                }
                false => Stage::Logits(own),
            };
        }
        failed
    }

    /// Whether there is more of the prompt to compute.
    fn is_reading(&self) -> bool {
        let generation = self.generation.as_ref();
        generation.is_some_and(|own| matches!(own.stage, Stage::New | Stage::Prompt))
    }

    /// The token that was chosen, and is not in the caches.
    fn chosen(&self) -> Option<u32> {
        match self.generation.as_ref()?.stage {
            Stage::Chosen(id) => Some(id),
            _ => None,
        }
    }

    async fn reserve_one(&mut self) -> Result<()> {
        let positions = self.cached.len() + 1;
        self.model
            .llama()
            .reserve(&mut self.caches, positions)
            .await
    }

    /// Forgets an answer that failed, with its question.
    fn give_up(&mut self) {
        let generation = self.generation.take();
        if generation.is_some_and(|generation| generation.is_turn) {
            self.turns.pop();
        }
    }

    /// Computes the next part of the answer.
    async fn advance(&mut self, Pace { alone, rows }: Pace) -> Result<Step> {
        let Some(generation) = &mut self.generation else {
            return Ok(Step::Done);
        };
        let (model, caches, cached) = (&self.model, &mut self.caches, &mut self.cached);
        let (b, llama, tokenizer) = (model.backend(), model.llama(), model.tokenizer());
        loop {
            let is_chosen_by_device = generation.is_chosen_by_device();
            match &mut generation.stage {
                Stage::New => {
                    let reused = begin_reading(model, caches, cached, &generation.prompt).await?;
                    generation.answer.usage.reused = reused;
                    generation.stage = Stage::Prompt;
                }
                Stage::Prompt => {
                    let row = read_chunk(model, caches, cached, &generation.prompt, rows).await?;
                    let Some(row) = row else {
                        return Ok(Step::Prompt);
                    };
                    generation.stage = match generation.options.max_tokens {
                        0 => Stage::Done,
                        _ => Stage::Logits(llama.logits(&row)),
                    };
                }
                Stage::Logits(logits) if is_chosen_by_device => {
                    let coming = ComingToken::new(b, logits, &mut generation.sampler);
                    generation.stage = Stage::Ahead(VecDeque::from([coming]));
                }
                Stage::Logits(logits) => {
                    let logits = logits.clone();
                    let id = generation.choose(model, cached, &logits).await?;
                    let is_full = cached.len() == llama.context();
                    let text = generation.accept(tokenizer, id, is_full);
                    if !text.is_empty() {
                        return Ok(Step::Text(text));
                    }
                }
                Stage::Chosen(_) if !alone => return Ok(Step::Text(String::new())),
                Stage::Chosen(id) => {
                    let id = *id;
                    llama.reserve(caches, cached.len() + 1).await?;
                    let row = llama.forward(&llama.embed(&b.ids(&[id])), caches, cached.len());
                    generation.stage = Stage::Logits(llama.logits(&row));
                    cached.push(PromptToken::Token(id));
                }
                Stage::Ahead(coming) => {
                    let max_tokens = generation.options.max_tokens - generation.answer.ids.len();
                    let most = max_tokens.min(llama.context() + 1 - cached.len());
                    while alone && coming.len() <= self.run_ahead.tokens && coming.len() < most {
                        let pos = cached.len() + coming.len() - 1;
                        llama.reserve(caches, pos + 1).await?;
                        let latest = llama.embed(&coming[coming.len() - 1].ids);
                        let row = llama.forward(&latest, caches, pos);
                        let logits = llama.logits(&row);
                        coming.push_back(ComingToken::new(b, &logits, &mut generation.sampler));
                    }
                    let was_awaited = !coming[0].has_come();
                    let id = coming[0].id().await?;
                    coming.pop_front();
                    if was_awaited {
                        let under_way = coming.iter_mut().map(|token| !token.has_come());
                        let under_way = under_way.filter(|under_way| *under_way).count();
                        self.run_ahead.adapt(under_way);
                    }
                    if id == NOT_FINITE {
                        return Err(not_finite(model, cached).await?);
                    }
                    let coming = mem::take(coming);
                    let is_full = cached.len() == llama.context();
                    let text = generation.accept(tokenizer, id, is_full);
                    // What is ahead was computed with this token in the caches.
                    if matches!(generation.stage, Stage::Chosen(_)) && !coming.is_empty() {
                        cached.push(PromptToken::Token(id));
                        generation.stage = Stage::Ahead(coming);
                    }
                    if !text.is_empty() {
                        return Ok(Step::Text(text));
                    }
                }
                Stage::Ended => {
                    let mut rest = generation.text.push(generation.decoder.finish()).to_owned();
                    rest += generation.text.finish();
                    generation.logprobs.give(generation.text.text().len());
                    generation.stage = Stage::Done;
                    if !rest.is_empty() {
                        return Ok(Step::Text(rest));
                    }
                }
                Stage::Done => return Ok(Step::Done),
            }
        }
    }

    /// Returns the log-probabilities of the tokens whose text was given out, where
    /// [`GenerateOptions::logprobs`] asks for them. A token is there with the first of its text.
    pub fn logprobs(&self) -> &[TokenLogprobs] {
        let generation = self.generation.as_ref();
        generation.map_or(&[], |generation| generation.logprobs.given())
    }

    /// Ends the answer that is being generated, complete or not, and returns it; `None` where there
    /// is none.
    pub fn end(&mut self) -> Option<Answer> {
        let generation = self.generation.take()?;
        let mut answer = generation.answer;
        let is_done = matches!(generation.stage, Stage::Done);
        answer.text = generation.text.text().to_owned();
        answer.usage.completion = answer.ids.len();
        if !is_done {
            answer.finish = Finish::Aborted;
        }
        if generation.is_turn {
            if !is_done && answer.text.is_empty() {
                self.turns.pop();
            } else if let Some(turn) = self.turns.last_mut() {
                turn.answer = Some(answer.text.clone());
                turn.tokens = Some(answer.usage.prompt + answer.usage.completion);
                self.begun.clear();
                self.begun_tokens = None;
            }
        }
        Some(answer)
    }

    /// Generates the whole answer to `parts`. `on_text` gets the text as it becomes certain, and
    /// empty text between the parts of a long prompt; where it breaks, the answer ends.
    ///
    /// # Errors
    /// As [`EngineSession::begin_turn`] and [`EngineSession::step`].
    pub async fn answer(
        &mut self,
        parts: Vec<EnginePart<B>>,
        options: &GenerateOptions,
        on_text: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        self.begin_turn(parts, options)?;
        self.run(on_text).await
    }

    /// Generates the whole answer to `prompt`, without turns and templates.
    ///
    /// # Errors
    /// As [`EngineSession::begin`] and [`EngineSession::step`].
    pub async fn generate(
        &mut self,
        prompt: &[PromptToken<B>],
        options: &GenerateOptions,
        on_text: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        self.begin(prompt.to_vec(), options.clone())?;
        self.run(on_text).await
    }

    async fn run(
        &mut self,
        on_text: &mut impl AsyncFnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        loop {
            let goes_on = match self.step().await? {
                Step::Prompt => on_text("").await,
                Step::Text(text) => on_text(&text).await,
                Step::Done => ControlFlow::Break(()),
            };
            if goes_on.is_break() {
                return Ok(self.end().expect("it was begun"));
            }
        }
    }

    /// Returns the logits `[vocabulary]` of the token after `prompt`, and leaves the prompt in the
    /// KV cache: of [`EngineSession::generate`] after it, the last token is left to compute.
    ///
    /// # Errors
    /// As [`EngineSession::generate`].
    pub async fn logits(&mut self, prompt: &[PromptToken<B>]) -> Result<Vec<f32>> {
        self.end();
        self.check_room(prompt)?;
        let (model, caches, cached) = (&self.model, &mut self.caches, &mut self.cached);
        begin_reading(model, caches, cached, prompt).await?;
        let row = loop {
            if let Some(row) = read_chunk(model, caches, cached, prompt, CHUNK_ROWS).await? {
                break row;
            }
        };
        let logits = self.model.llama().logits(&row);
        self.model.backend().read(&logits).await
    }

    fn template(&self) -> &Template {
        let own = self.options.template.as_ref();
        own.unwrap_or(self.model.template())
    }

    /// Returns the tokens of the conversation, with room for `answer` more where that takes
    /// dropping turns; and how many were dropped. Where not even the last turn has room, none is.
    fn make_room(&mut self, answer: usize) -> Result<(Vec<PromptToken<B>>, usize)> {
        let whole = self.prompt_tokens(&self.turns)?;
        let fits =
            |tokens: &[PromptToken<B>]| tokens.len() + answer <= self.model.llama().context();
        if self.options.overflow == Overflow::DropOldest && !fits(&whole) {
            for dropped in 1..self.turns.len() {
                let tokens = self.prompt_tokens(&self.turns[dropped..])?;
                if fits(&tokens) {
                    self.turns.drain(..dropped);
                    for turn in &mut self.turns {
                        turn.tokens = None;
                    }
                    return Ok((tokens, dropped));
                }
            }
        }
        Ok((whole, 0))
    }

    /// The tokens of a conversation of these turns, up to the model's next answer.
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

    /// Checks that a prompt fits, and one token of an answer.
    fn check_room(&self, prompt: &[PromptToken<B>]) -> Result<()> {
        if prompt.is_empty() {
            return Err(Error::BadRequest {
                reason: "an empty prompt: there is nothing to answer".into(),
            });
        }
        let (needed, capacity) = (prompt.len() + 1, self.model.llama().context());
        if needed <= capacity {
            return Ok(());
        }
        Err(Error::ContextOverflow { needed, capacity })
    }
}

/// Makes the caches hold nothing but a beginning of `prompt`, with memory for all of it, and
/// returns the length of that beginning.
async fn begin_reading<B: Backend>(
    model: &ChatUniVi<B>,
    caches: &mut [B::KvCache],
    cached: &mut Vec<PromptToken<B>>,
    prompt: &[PromptToken<B>],
) -> Result<usize> {
    model.llama().reserve(caches, prompt.len()).await?;
    // The last token is computed in any case: what comes next follows from it.
    let before_last = &prompt[..prompt.len().saturating_sub(1)];
    let same = cached.iter().zip(before_last).take_while(|(a, b)| a == b);
    let reused = same.count();
    cached.truncate(reused);
    Ok(reused)
}

/// Computes the next `rows` of `prompt` behind what the caches hold of it; returns the last row
/// `[1, width]` once the prompt is complete.
async fn read_chunk<B: Backend>(
    model: &ChatUniVi<B>,
    caches: &mut [B::KvCache],
    cached: &mut Vec<PromptToken<B>>,
    prompt: &[PromptToken<B>],
    rows: usize,
) -> Result<Option<B::Tensor>> {
    let (b, llama) = (model.backend(), model.llama());
    let rest = &prompt[cached.len()..];
    let chunk = &rest[..rest.len().min(rows)];
    let hidden = llama.forward(&model.embed(chunk), caches, cached.len());
    cached.extend_from_slice(chunk);
    if cached.len() < prompt.len() {
        // One chunk at a time: a slow device would take a long prompt for a hang.
        b.finish().await?;
        return Ok(None);
    }
    Ok(Some(b.slice(&hidden, chunk.len() - 1..chunk.len())))
}
