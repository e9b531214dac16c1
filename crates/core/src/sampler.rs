//! Choosing the next token.

use std::cmp::Ordering;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use crate::{Error, Result};

/// How the next token is chosen from its logits. The steps are taken in the order of the fields,
/// as `transformers` does: temperature before the cuts.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// Divides the logits of tokens that were said lately where they are positive, multiplies them
    /// where they are negative; 1 changes nothing.
    pub repetition_penalty: f32,
    /// How many of the latest tokens count as lately.
    pub repetition_window: usize,
    /// Divides all logits; 0 takes the best token, always.
    pub temperature: f32,
    /// Leaves that many of the best tokens; 0 leaves all.
    pub top_k: usize,
    /// Leaves the best tokens that together are at least this probable; 1 leaves all.
    pub top_p: f32,
    /// Leaves tokens at least this probable relative to the best one; 0 leaves all.
    pub min_p: f32,
    /// Equal seeds give equal answers.
    pub seed: u64,
}

impl Default for Sampling {
    /// The reference's: temperature 0.2 and nothing else.
    fn default() -> Sampling {
        Sampling {
            repetition_penalty: 1.0,
            repetition_window: 64,
            temperature: 0.2,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Returns options that always choose the best token.
    pub fn greedy() -> Sampling {
        Sampling {
            temperature: 0.0,
            ..Sampling::default()
        }
    }

    /// Returns whether tokens that were said lately are judged otherwise than the rest.
    pub fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0
    }

    fn check(&self) -> Result<()> {
        let limits = [
            ("temperature", self.temperature, 0.0, 100.0),
            ("top_p", self.top_p, f32::MIN_POSITIVE, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, 0.01, 100.0),
        ];
        for (name, value, least, most) in limits {
            // NaN is in no range.
            if !(least..=most).contains(&value) {
                let least = if name == "top_p" {
                    "above 0"
                } else {
                    &format!("{least}")
                };
                return Err(Error::BadRequest {
                    reason: format!("{name} is {value}, expected {least} to {most}"),
                });
            }
        }
        Ok(())
    }
}

impl Sampling {
    /// Sets [`Sampling::repetition_penalty`].
    pub fn repetition_penalty(mut self, repetition_penalty: f32) -> Sampling {
        self.repetition_penalty = repetition_penalty;
        self
    }

    /// Sets [`Sampling::repetition_window`].
    pub fn repetition_window(mut self, repetition_window: usize) -> Sampling {
        self.repetition_window = repetition_window;
        self
    }

    /// Sets [`Sampling::temperature`].
    pub fn temperature(mut self, temperature: f32) -> Sampling {
        self.temperature = temperature;
        self
    }

    /// Sets [`Sampling::top_k`].
    pub fn top_k(mut self, top_k: usize) -> Sampling {
        self.top_k = top_k;
        self
    }

    /// Sets [`Sampling::top_p`].
    pub fn top_p(mut self, top_p: f32) -> Sampling {
        self.top_p = top_p;
        self
    }

    /// Sets [`Sampling::min_p`].
    pub fn min_p(mut self, min_p: f32) -> Sampling {
        self.min_p = min_p;
        self
    }

    /// Sets [`Sampling::seed`].
    pub fn seed(mut self, seed: u64) -> Sampling {
        self.seed = seed;
        self
    }
}

/// The choice of one token among its logits, which any device can make: what [`Sampling`] says
/// besides penalties, and the number that was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// As [`Sampling::temperature`].
    pub temperature: f32,
    /// As [`Sampling::top_k`].
    pub top_k: usize,
    /// As [`Sampling::top_p`].
    pub top_p: f32,
    /// As [`Sampling::min_p`].
    pub min_p: f32,
    /// At least 0, below 1: the token is the one in whose part of all weights it lies, by id.
    pub unit: f32,
}

impl Choice {
    /// The largest logit, the first on ties.
    pub const GREEDY: Choice = Choice {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        unit: 0.0,
    };

    /// Returns the id of the token; `None` where a logit is no finite number.
    pub fn of(&self, logits: &[f32]) -> Option<u32> {
        let finite = logits.iter().all(|logit| logit.is_finite());
        finite.then(|| {
            self.among(
                (0..)
                    .zip(logits.iter().map(|&logit| logit.into()))
                    .collect(),
            )
        })
    }

    /// Returns the id of one of these; 0 where there is none.
    fn among(&self, mut candidates: Vec<Candidate>) -> u32 {
        let Some(best) = candidates.iter().copied().min_by(by_rank) else {
            return 0;
        };
        if self.temperature == 0.0 {
            return best.0;
        }
        if self.top_k > 0 && self.top_k < candidates.len() {
            candidates.select_nth_unstable_by(self.top_k - 1, by_rank);
            candidates.truncate(self.top_k);
        }
        let temperature = f64::from(self.temperature);
        for (_, weight) in &mut candidates {
            *weight = ((*weight - best.1) / temperature).exp();
        }
        if self.top_p < 1.0 {
            keep_top_p(&mut candidates, f64::from(self.top_p));
        }
        // The best token has weight 1.
        let least = f64::from(self.min_p);
        candidates.retain(|(_, weight)| *weight >= least);

        candidates.sort_unstable_by_key(|(id, _)| *id);
        let mut left = f64::from(self.unit) * sum(&candidates);
        for (id, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return *id;
            }
        }
        // Rounding can leave a little over at the end.
        best.0
    }
}

/// Draws the numbers by which tokens are chosen, one after the other. Its only state is that of
/// the random numbers.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: Sampling,
    random: ChaCha8Rng,
}

/// A token that may be chosen, and its logit, later its weight.
type Candidate = (u32, f64);

impl Sampler {
    /// Starts anew from the options' seed.
    ///
    /// # Errors
    /// `BadRequest` for an option out of range.
    pub fn new(options: Sampling) -> Result<Sampler> {
        options.check()?;
        Ok(Sampler {
            options,
            random: ChaCha8Rng::seed_from_u64(options.seed),
        })
    }

    /// Returns the options.
    pub fn options(&self) -> &Sampling {
        &self.options
    }

    /// Draws for the next token.
    pub fn next_choice(&mut self) -> Choice {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.options;
        let unit = match temperature {
            0.0 => 0.0,
            // As many bits as f32 has.
            _ => (self.random.next_u64() >> 40) as f32 / (1u32 << 24) as f32,
        };
        Choice {
            temperature,
            top_k,
            top_p,
            min_p,
            unit,
        }
    }

    /// Chooses a token by its logit; `recent` are the tokens so far, the latest last.
    ///
    /// NaN is never chosen where there is anything else, and infinities are very large numbers.
    /// Ties go to the lower id. Of no logits at all it chooses 0.
    pub fn sample(&mut self, logits: &[f32], recent: &[u32]) -> u32 {
        let mut candidates: Vec<Candidate> = (0..)
            .zip(logits)
            .map(|(id, &logit)| {
                let usable = if logit.is_nan() { f32::MIN } else { logit };
                (id, f64::from(usable.clamp(f32::MIN, f32::MAX)))
            })
            .collect();
        self.penalize(&mut candidates, recent);
        self.next_choice().among(candidates)
    }

    fn penalize(&self, candidates: &mut [Candidate], recent: &[u32]) {
        if !self.options.penalizes() {
            return;
        }
        let penalty = f64::from(self.options.repetition_penalty);
        let start = recent.len().saturating_sub(self.options.repetition_window);
        let mut said = recent[start..].to_vec();
        said.sort_unstable();
        said.dedup();
        for id in said {
            if let Some((_, logit)) = candidates.get_mut(id as usize) {
                *logit = match *logit > 0.0 {
                    true => *logit / penalty,
                    false => *logit * penalty,
                };
            }
        }
    }
}

/// The larger logit or weight first, then the lower id. There are no NaN here.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    let by_weight = b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal);
    by_weight.then(a.0.cmp(&b.0))
}

fn sum(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|(_, weight)| weight).sum()
}

/// Keeps the fewest of the best tokens whose weights make up `top_p` of all.
fn keep_top_p(candidates: &mut Vec<Candidate>, top_p: f64) {
    let total = sum(candidates);
    // Tokens this rare are not needed even if all of them come together, so that only the few
    // others have to be sorted.
    let rare = (1.0 - top_p) * total / candidates.len() as f64;
    candidates.retain(|(_, weight)| *weight >= rare);
    candidates.sort_unstable_by(by_rank);
    let mut so_far = 0.0;
    let needed = candidates.iter().take_while(|(_, weight)| {
        let is_needed = so_far < top_p * total;
        so_far += weight;
        is_needed
    });
    let needed = needed.count();
    candidates.truncate(needed);
}
