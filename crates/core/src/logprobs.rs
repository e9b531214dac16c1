//! Log-probabilities of the tokens of an answer.

use std::cmp::Ordering;

use crate::tokenizer::{Decoder, Tokenizer};

/// A token that the model might say, and how probable it is.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// The natural logarithm of its probability, as the model computes it: before a repetition
    /// penalty, a schema, the temperature and the cuts.
    pub logprob: f32,
    /// What it adds to the answer; one of several tokens of a character is no text by itself.
    pub bytes: Vec<u8>,
}

/// A token of an answer, and the likeliest tokens in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The token that was chosen.
    pub chosen: TokenLogprob,
    /// As many of the likeliest as were asked for, the likeliest first.
    pub top: Vec<TokenLogprob>,
}

impl TokenLogprobs {
    /// Computes them from the logits that `id` was chosen by; `decoder` holds the text before it.
    pub(crate) fn new(
        logits: &[f32],
        id: u32,
        top: usize,
        tokenizer: &Tokenizer,
        decoder: &Decoder,
    ) -> TokenLogprobs {
        let largest = logits.iter().copied().fold(f32::MIN, f32::max);
        let exps = logits.iter().map(|logit| f64::from(logit - largest).exp());
        let log_sum = exps.sum::<f64>().ln() + f64::from(largest);
        let logprob = |id: u32| TokenLogprob {
            id,
            logprob: (f64::from(logits[id as usize]) - log_sum) as f32,
            bytes: decoder.next_bytes(tokenizer, id).to_vec(),
        };
        let by_rank = |a: &u32, b: &u32| {
            let (x, y) = (logits[*a as usize], logits[*b as usize]);
            y.partial_cmp(&x).unwrap_or(Ordering::Equal).then(a.cmp(b))
        };
        // A model may have more rows than there are tokens.
        let mut best: Vec<u32> = (0..tokenizer.vocab_len().min(logits.len()) as u32).collect();
        if top > 0 && top < best.len() {
            best.select_nth_unstable_by(top - 1, by_rank);
        }
        best.truncate(top);
        best.sort_unstable_by(by_rank);
        TokenLogprobs {
            chosen: logprob(id),
            top: best.into_iter().map(logprob).collect(),
        }
    }
}

/// The log-probabilities of an answer as it grows: of tokens whose text is given out, and of those
/// whose text is held back and may yet turn out to be no part of the answer.
#[derive(Debug, Default)]
pub(crate) struct AnswerLogprobs {
    given: Vec<TokenLogprobs>,
    /// Each with the place where its text begins.
    held: Vec<(usize, TokenLogprobs)>,
}

impl AnswerLogprobs {
    /// Adds a token whose text begins at byte `start` of the answer.
    pub fn push(&mut self, start: usize, token: TokenLogprobs) {
        self.held.push((start, token));
    }

    /// Gives out the tokens of the first `end` bytes of the answer.
    pub fn give(&mut self, end: usize) {
        let count = self.held.iter().take_while(|(start, _)| *start < end);
        let count = count.count();
        let given = self.held.drain(..count).map(|(_, token)| token);
        self.given.extend(given);
    }

    /// Returns those of the text that is given out.
    pub fn given(&self) -> &[TokenLogprobs] {
        &self.given
    }
}
