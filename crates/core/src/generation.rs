//! An answer while it is being generated: what was chosen so far, and what the next token needs.

use std::collections::VecDeque;

use crate::{
    Backend, Error, Result,
    constraint::Constraint,
    logprobs::{AnswerLogprobs, TokenLogprobs},
    model::{ChatUniVi, PromptToken},
    run_ahead::ComingToken,
    sampler::Sampler,
    session::{Answer, Finish, GenerateOptions},
    stop_buffer::StopBuffer,
    tokenizer::{Decoder, Tokenizer},
};

/// An answer that is being generated.
pub struct Generation<B: Backend> {
    pub prompt: Vec<PromptToken<B>>,
    pub options: GenerateOptions,
    pub sampler: Sampler,
    pub constraint: Option<Constraint>,
    pub decoder: Decoder,
    pub text: StopBuffer,
    pub logprobs: AnswerLogprobs,
    pub answer: Answer,
    pub stage: Stage<B>,
    /// Whether the answer belongs to the last turn.
    pub is_turn: bool,
}

/// How far it is.
pub enum Stage<B: Backend> {
    /// The prompt has not been compared with the caches.
    New,
    /// The prompt is being computed.
    Prompt,
    /// The logits of the next token, `[1, vocabulary]`.
    Logits(B::Tensor),
    /// Tokens that the device has chosen are on their way; there is one at least.
    Ahead(VecDeque<ComingToken<B>>),
    /// A token was chosen, and is not in the caches.
    Chosen(u32),
    /// No token follows; the text that was held back is due.
    Ended,
    Done,
}

impl<B: Backend> Generation<B> {
    /// Whether a token follows from its logits alone, so that nothing but its id has to come back
    /// before the next one is computed.
    pub fn is_chosen_by_device(&self) -> bool {
        self.constraint.is_none()
            && self.options.logprobs.is_none()
            && !self.options.sampling.penalizes()
    }

    /// Chooses the token that follows `cached`.
    pub async fn choose(
        &mut self,
        model: &ChatUniVi<B>,
        cached: &[PromptToken<B>],
        logits: &B::Tensor,
    ) -> Result<u32> {
        let mut logits = model.backend().read(logits).await?;
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(not_finite(model, cached).await?);
        }
        let computed = self.options.logprobs.map(|top| (top, logits.clone()));
        if let Some(constraint) = &mut self.constraint {
            constraint.mask(&mut logits)?;
        }
        let id = self.sampler.sample(&logits, &self.answer.ids);
        if let Some(constraint) = &mut self.constraint {
            constraint.push(id)?;
        }
        let tokenizer = model.tokenizer();
        if let Some((top, logits)) = computed.filter(|_| !tokenizer.ends_generation(id)) {
            let token = TokenLogprobs::new(&logits, id, top, tokenizer, &self.decoder);
            self.logprobs.push(self.text.len_with_held(), token);
        }
        Ok(id)
    }

    /// Takes `id` as the next token, after which nothing has room where it `is_full`; returns the
    /// text that became certain.
    pub fn accept(&mut self, tokenizer: &Tokenizer, id: u32, is_full: bool) -> String {
        self.answer.ids.push(id);
        if tokenizer.ends_generation(id) {
            self.answer.finish = Finish::Stop;
            self.stage = Stage::Ended;
            return String::new();
        }
        let text = self.text.push(self.decoder.push(tokenizer, id)).to_owned();
        self.logprobs.give(self.text.text().len());
        let is_complete = self
            .constraint
            .as_ref()
            .is_some_and(Constraint::is_complete);
        self.stage = Stage::Chosen(id);
        if self.text.stopped() || is_complete {
            self.answer.finish = Finish::Stop;
            self.stage = Stage::Ended;
        } else if is_full || self.answer.ids.len() == self.options.max_tokens {
            self.stage = Stage::Ended;
        }
        text
    }
}

/// Says what computes the logits after `cached` that are no numbers to choose by.
pub async fn not_finite<B: Backend>(
    model: &ChatUniVi<B>,
    cached: &[PromptToken<B>],
) -> Result<Error> {
    let place = model.llama().first_not_finite(&model.embed(cached)).await?;
    let place = place.unwrap_or_else(|| "output".into());
    Ok(Error::BadFile {
        format: "model",
        reason: format!(
            "{place} computes NaN or infinity: the weights are damaged or overflow; \
             convert the checkpoint anew, or use another quantization"
        ),
    })
}
