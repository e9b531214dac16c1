//! A conversation, and its answers as they are generated.

use std::ops::ControlFlow;

use crate::{
    Cpu, Error, Gpu, Result,
    engine_session::{EnginePart, EngineSession, Step},
    model::EngineVisual,
    prompt::Prompt,
    session::{Answer, ContextUsage, GenerateOptions, SessionOptions, TokenLogprobs},
};

use super::{
    Model, Part, Question, TokenMap, Visual, VisualOptions,
    device::{OnBackend, dispatch},
};

/// A conversation with a model.
///
/// The KV cache of what was computed is used again: a further question costs its own tokens alone.
/// Not `Send`: it stays on the thread of its device.
pub struct Session {
    model: Model,
    engine: OnBackend<EngineSession<Cpu>, EngineSession<Gpu>>,
}

impl Model {
    /// Begins an empty conversation.
    pub fn session(&self, options: SessionOptions) -> Session {
        Session::new(self.clone(), options)
    }
}

/// Text and encoded visuals.
type Encoded = Vec<Result<Visual, String>>;

impl Session {
    /// So many conversations at the most are worth answering at a time.
    pub const TOGETHER: usize = 8;

    pub(super) fn new(model: Model, options: SessionOptions) -> Session {
        let engine =
            dispatch!(map &model.engine, model => EngineSession::new(model.clone(), options));
        Session { model, engine }
    }

    /// Returns the model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Encodes the question's images and videos and begins the answer; its text comes from
    /// [`StreamedAnswer::next`].
    ///
    /// A turn that fails, or is dropped before it has text, leaves no trace in the conversation.
    ///
    /// # Errors
    /// `BadRequest` for images without a vision encoder, options out of range, an unusable schema
    /// or a [`Visual`] of another device; `BadImage`; `ContextOverflow`; `Tokenizer` where the
    /// template can't be rendered; or what the device reports.
    pub async fn ask(
        &mut self,
        question: impl Into<Question>,
        options: &GenerateOptions,
    ) -> Result<StreamedAnswer<'_>> {
        let visuals = self.begin(question, options).await?;
        Ok(StreamedAnswer::new(self, visuals))
    }

    /// As [`Session::ask`], for several conversations that are answered at the same time: the text
    /// comes from [`Session::next_of_each`], until [`Session::end`]. Returns the question's images
    /// and videos, encoded, in their order.
    ///
    /// # Errors
    /// As [`Session::ask`].
    pub async fn begin(
        &mut self,
        question: impl Into<Question>,
        options: &GenerateOptions,
    ) -> Result<Vec<Visual>> {
        let parts = self.encode(question.into()).await?;
        dispatch!(&mut self.engine, engine => engine.begin_turn(own_parts(&parts)?, options))?;
        Ok(visuals(parts))
    }

    /// Generates the next text of each conversation's answer, as [`StreamedAnswer::next`] does; it
    /// is empty, too, where a token's text is not certain yet. The next tokens of all are decoded
    /// in one batch, which takes less than one after the other, up to [`Session::TOGETHER`] of
    /// them: weights are read once for all. Of prompts, the first that is not complete goes on, so
    /// put first who waits for longest. The future is not to be dropped before its end: what came
    /// would be lost.
    ///
    /// # Errors
    /// Each answer's own, as [`StreamedAnswer::next`].
    ///
    /// # Panics
    /// For sessions of different models.
    pub async fn next_of_each(sessions: &mut [&mut Session]) -> Vec<Result<Option<String>>> {
        let (mut on_cpu, mut on_gpu) = (Vec::new(), Vec::new());
        for session in sessions.iter_mut() {
            match &mut session.engine {
                OnBackend::Cpu(engine) => on_cpu.push(engine),
                OnBackend::Gpu(engine) => on_gpu.push(engine),
            }
        }
        let steps = match (on_cpu.is_empty(), on_gpu.is_empty()) {
            (_, true) => EngineSession::step_each(&mut on_cpu).await,
            (true, false) => EngineSession::step_each(&mut on_gpu).await,
            (false, false) => panic!("sessions of models on different devices"),
        };
        let texts = steps.into_iter().map(|step| step.map(Step::into_text));
        texts.collect()
    }

    /// Ends the answer that is being generated, complete or not, and returns it; `None` where there
    /// is none, or it failed.
    pub fn end(&mut self) -> Option<Answer> {
        dispatch!(&mut self.engine, engine => engine.end())
    }

    /// As [`StreamedAnswer::logprobs`].
    pub fn logprobs(&self) -> &[TokenLogprobs] {
        dispatch!(&self.engine, engine => engine.logprobs())
    }

    /// Begins the answer to a prompt that is written already, without turns and templates.
    ///
    /// # Errors
    /// As [`Session::ask`]; `BadRequest` for a prompt with other than these `visuals`.
    pub async fn complete(
        &mut self,
        prompt: &Prompt,
        visuals: Vec<Visual>,
        options: &GenerateOptions,
    ) -> Result<StreamedAnswer<'_>> {
        dispatch!(&mut self.engine, engine => {
            let own = visuals.iter().map(own_visual).collect::<Result<Vec<_>>>()?;
            let tokens = engine.model().prompt_tokens(prompt, &own)?;
            engine.begin(tokens, options.clone())?;
        });
        Ok(StreamedAnswer::new(self, visuals))
    }

    /// Returns the logits `[vocabulary]` of the token that would follow a prompt, to compare a few
    /// answers by. The conversation stays as it is.
    ///
    /// # Errors
    /// As [`Session::complete`].
    pub async fn logits(&mut self, prompt: &Prompt, visuals: &[Visual]) -> Result<Vec<f32>> {
        dispatch!(&mut self.engine, engine => {
            let own = visuals.iter().map(own_visual).collect::<Result<Vec<_>>>()?;
            let tokens = engine.model().prompt_tokens(prompt, &own)?;
            engine.logits(&tokens).await
        })
    }

    /// Begins the next question, or continues it: images and videos are computed now, so that the
    /// answer has less to compute. Returns false where `on_chunk`, which is called between the
    /// parts of a long prompt, breaks: then nothing is appended.
    ///
    /// # Errors
    /// As [`Session::ask`]; then nothing is appended.
    pub async fn append(
        &mut self,
        question: impl Into<Question>,
        on_chunk: &mut impl AsyncFnMut() -> ControlFlow<()>,
    ) -> Result<bool> {
        let parts = self.encode(question.into()).await?;
        dispatch!(&mut self.engine, engine => engine.append(own_parts(&parts)?, on_chunk).await)
    }

    /// Copies the conversation, KV cache included, so that both can go on differently.
    ///
    /// # Errors
    /// `OutOfMemory` where the device has no memory for a second KV cache; `DeviceLost`.
    pub async fn fork(&self) -> Result<Session> {
        Ok(Session {
            model: self.model.clone(),
            engine: dispatch!(map &self.engine, engine => engine.fork().await?),
        })
    }

    /// Forgets all turns.
    pub fn clear(&mut self) {
        dispatch!(&mut self.engine, engine => engine.clear());
    }

    /// Forgets all turns but the first `turns`, and what was appended.
    pub fn rewind(&mut self, turns: usize) {
        dispatch!(&mut self.engine, engine => engine.rewind(turns));
    }

    /// Replaces the conversation by one of these questions and answers. The KV cache of what the
    /// beginnings share is used again.
    ///
    /// # Errors
    /// As [`Session::ask`]; then the conversation stays as it is.
    pub async fn restart(
        &mut self,
        options: SessionOptions,
        turns: impl IntoIterator<Item = (Question, String)>,
    ) -> Result<()> {
        let mut encoded = Vec::new();
        for (question, answer) in turns {
            encoded.push((self.encode(question).await?, answer));
        }
        dispatch!(&mut self.engine, engine => {
            let turns = encoded.into_iter();
            let turns = turns.map(|(parts, answer)| Ok((own_parts(&parts)?, answer)));
            engine.restart(options, turns.collect::<Result<_>>()?);
        });
        Ok(())
    }

    /// Returns how much of the context the conversation takes.
    ///
    /// # Errors
    /// `Tokenizer` where the template can't be rendered.
    pub fn context_usage(&self) -> Result<ContextUsage> {
        dispatch!(&self.engine, engine => engine.context_usage())
    }

    async fn encode(&self, Question(parts): Question) -> Result<Encoded> {
        let mut encoded = Vec::with_capacity(parts.len());
        for part in parts {
            let vision = || self.model.vision(&VisualOptions::default());
            encoded.push(match part {
                Part::Text(text) => Err(text),
                Part::Image(image) => Ok(vision()?.image(&image).await?),
                Part::Video(frames) => Ok(vision()?.video(frames.into_iter().map(Ok)).await?),
                Part::Visual(visual) => Ok(visual),
            });
        }
        Ok(encoded)
    }
}

fn visuals(parts: Encoded) -> Vec<Visual> {
    parts.into_iter().filter_map(Result::ok).collect()
}

fn own_parts<B: crate::Backend>(parts: &Encoded) -> Result<Vec<EnginePart<B>>> {
    let part = |part: &Result<Visual, String>| match part {
        Ok(visual) => Ok(EnginePart::Visual(own_visual(visual)?)),
        Err(text) => Ok(EnginePart::Text(text.clone())),
    };
    parts.iter().map(part).collect()
}

fn own_visual<B: crate::Backend>(visual: &Visual) -> Result<EngineVisual<B>> {
    let foreign = || Error::BadRequest {
        reason: "the visual was encoded by a model on another device".into(),
    };
    visual.0.get().cloned().ok_or_else(foreign)
}

/// An answer that is being generated.
///
/// Dropping it ends the answer: the conversation goes on with the text until then. Not `Send`: it
/// stays on the thread of its device.
pub struct StreamedAnswer<'a> {
    session: &'a mut Session,
    visuals: Vec<Visual>,
}

impl<'a> StreamedAnswer<'a> {
    fn new(session: &'a mut Session, visuals: Vec<Visual>) -> StreamedAnswer<'a> {
        StreamedAnswer { session, visuals }
    }

    /// Generates the next text of the answer; `None` at its end. While a long prompt is computed,
    /// the text is empty: the caller may drop the answer then, too. Where this future is dropped,
    /// the next call goes on.
    ///
    /// # Errors
    /// `OutOfMemory` where the KV cache can't grow; or what the device reports. The answer is over
    /// then.
    pub async fn next(&mut self) -> Result<Option<String>> {
        let step = dispatch!(&mut self.session.engine, engine => engine.step().await)?;
        Ok(step.into_text())
    }

    /// Returns the log-probabilities of the tokens whose text [`StreamedAnswer::next`] has
    /// returned, where [`GenerateOptions::logprobs`] asks for them. A token is there with the first
    /// of its text; white space after the answer and what ends it are no part of it.
    pub fn logprobs(&self) -> &[TokenLogprobs] {
        self.session.logprobs()
    }

    /// Generates the rest, and returns the whole answer with its usage.
    ///
    /// # Errors
    /// As [`StreamedAnswer::next`].
    pub async fn finish(mut self) -> Result<Answer> {
        while self.next().await?.is_some() {}
        Ok(self.stop())
    }

    /// Ends the answer and returns it with its usage; after [`StreamedAnswer::next`] returned
    /// `None`, it is complete.
    ///
    /// # Panics
    /// After [`StreamedAnswer::next`] failed.
    pub fn stop(self) -> Answer {
        let answer = self.session.end();
        answer.expect("the answer was begun, and did not fail")
    }

    /// Returns the images and videos of the question, encoded, in their order.
    pub fn visuals(&self) -> &[Visual] {
        &self.visuals
    }

    /// Reads back from the device which patches of the question's images and videos were merged
    /// into which tokens.
    ///
    /// # Errors
    /// What the device reports.
    pub async fn token_maps(&self) -> Result<Vec<TokenMap>> {
        let mut maps = Vec::with_capacity(self.visuals.len());
        for visual in &self.visuals {
            maps.push(visual.token_map().await?);
        }
        Ok(maps)
    }
}

impl Drop for StreamedAnswer<'_> {
    fn drop(&mut self) {
        self.session.end();
    }
}
