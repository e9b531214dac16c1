//! Options of conversations and answers, and what an answer reports.

use crate::{constraint::Schema, prompt::Template, sampler::Sampling};

pub use crate::{
    engine_session::{EnginePart, EngineSession, Step},
    logprobs::{TokenLogprob, TokenLogprobs},
};

/// Options of a conversation: its system text, its template, and what it does when it gets too
/// long.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Instead of the template's own system text.
    pub system: Option<String>,
    /// Instead of the model's own template.
    pub template: Option<Template>,
    /// What happens where the conversation gets too long for the context.
    pub overflow: Overflow,
}

impl SessionOptions {
    /// Sets [`SessionOptions::system`].
    pub fn system(mut self, system: impl Into<Option<String>>) -> SessionOptions {
        self.system = system.into();
        self
    }

    /// Sets [`SessionOptions::template`].
    pub fn template(mut self, template: impl Into<Option<Template>>) -> SessionOptions {
        self.template = template.into();
        self
    }

    /// Sets [`SessionOptions::overflow`].
    pub fn overflow(mut self, overflow: Overflow) -> SessionOptions {
        self.overflow = overflow;
        self
    }
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

/// Options of an answer: its length, how tokens are chosen, what ends it, and its JSON schema.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
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
    /// Whether log-probabilities of the answer's tokens are reported, and of how many of the
    /// likeliest tokens beside each.
    pub logprobs: Option<usize>,
}

impl Default for GenerateOptions {
    /// The reference's.
    fn default() -> GenerateOptions {
        GenerateOptions {
            max_tokens: 1024,
            sampling: Sampling::default(),
            stop: Vec::new(),
            schema: None,
            logprobs: None,
        }
    }
}

impl GenerateOptions {
    /// Returns options that always choose the likeliest token: the same answer every time.
    pub fn greedy() -> GenerateOptions {
        GenerateOptions::default().sampling(Sampling::greedy())
    }
}

impl GenerateOptions {
    /// Sets [`GenerateOptions::max_tokens`].
    pub fn max_tokens(mut self, max_tokens: usize) -> GenerateOptions {
        self.max_tokens = max_tokens;
        self
    }

    /// Sets [`GenerateOptions::sampling`].
    pub fn sampling(mut self, sampling: Sampling) -> GenerateOptions {
        self.sampling = sampling;
        self
    }

    /// Sets [`GenerateOptions::stop`].
    pub fn stop(mut self, stop: impl IntoIterator<Item = impl Into<String>>) -> GenerateOptions {
        self.stop = stop.into_iter().map(Into::into).collect();
        self
    }

    /// Sets [`GenerateOptions::schema`].
    pub fn schema(mut self, schema: impl Into<Option<Schema>>) -> GenerateOptions {
        self.schema = schema.into();
        self
    }

    /// Sets [`GenerateOptions::logprobs`].
    pub fn logprobs(mut self, top: impl Into<Option<usize>>) -> GenerateOptions {
        self.logprobs = top.into();
        self
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

/// Tokens that an answer took.
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

/// An answer, whole or as far as it came.
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
