//! Answers held to a JSON schema: before a token is chosen, those that can't go on with a value of
//! the schema are ruled out.
//!
//! ```text
//! schema ─ schema.rs ─> program ─ machine.rs ─> which bytes may come next ┐
//! tokenizer ──────────────────────────────> what each token spells, a trie ┤
//!                                                                        └─> logits, -inf for
//!                                                                            all other tokens
//! ```

mod decimal;
mod json;
mod keywords;
mod machine;
mod one_of;
mod refusal;
mod schema;

use std::{collections::HashMap, rc::Rc};

use crate::{Result, tokenizer::Tokenizer};
use machine::{Machine, Step};
use refusal::refused;

pub use schema::Schema;

/// Longer tokens are never said in a value: this bounds how deep the trie is.
const MAX_SPELLING_BYTES: usize = 256;

/// What finding the next tokens may take, in comparisons of ways to go on: a schema that takes more
/// would stall an answer.
const MAX_WORK: usize = 200_000_000;

/// What the tokens of a vocabulary spell, ready for constraints; made once for a model.
pub struct Vocabulary {
    /// Different spellings in the order of their bytes, so that neighbours begin alike.
    spellings: Vec<Vec<u8>>,
    /// How many bytes each has in common with the one before.
    shared: Vec<usize>,
    /// By token, the index of its spelling; `None` where it says nothing.
    by_token: Vec<Option<u32>>,
    /// The same for the first token of an answer, without the space in front of it that answers
    /// are given without.
    by_first_token: Vec<Option<u32>>,
    ends: Vec<bool>,
}

impl Vocabulary {
    /// Takes each token to what it spells. Several may spell the same, as the byte `<0x20>` and the
    /// piece of a space do.
    pub fn new(tokenizer: &Tokenizer) -> Vocabulary {
        let ids = 0..tokenizer.vocab_len() as u32;
        let bytes = |id: u32| tokenizer.bytes(id).unwrap_or_default();
        let first_bytes = |id: u32| {
            bytes(id)
                .strip_prefix(b" ")
                .filter(|rest| !rest.is_empty())
                .unwrap_or(bytes(id))
        };
        let is_said = |bytes: &[u8]| (1..=MAX_SPELLING_BYTES).contains(&bytes.len());
        let mut spellings: Vec<&[u8]> = ids
            .clone()
            .flat_map(|id| [bytes(id), first_bytes(id)])
            .filter(|b| is_said(b))
            .collect();
        spellings.sort_unstable();
        spellings.dedup();
        let ids_by_spelling: HashMap<&[u8], u32> = spellings.iter().copied().zip(0..).collect();
        let in_common = |i: usize| match i {
            0 => 0,
            i => spellings[i - 1]
                .iter()
                .zip(spellings[i])
                .take_while(|(a, b)| a == b)
                .count(),
        };
        Vocabulary {
            shared: (0..spellings.len()).map(in_common).collect(),
            by_token: ids
                .clone()
                .map(|id| ids_by_spelling.get(bytes(id)).copied())
                .collect(),
            by_first_token: ids
                .clone()
                .map(|id| ids_by_spelling.get(first_bytes(id)).copied())
                .collect(),
            ends: ids.map(|id| tokenizer.ends_generation(id)).collect(),
            spellings: spellings.iter().map(|bytes| bytes.to_vec()).collect(),
        }
    }
}

/// An answer on its way to be a value of a schema.
pub struct Constraint {
    vocabulary: Rc<Vocabulary>,
    machine: Machine,
    begun: bool,
    /// Which spellings may come, and where the machine was then: inside a text it stays there.
    allowed: Option<(Machine, Vec<bool>)>,
}

impl Constraint {
    /// Makes a state in which nothing has been generated yet.
    ///
    /// # Errors
    /// `BadRequest` for a schema that goes in circles.
    pub fn new(vocabulary: Rc<Vocabulary>, schema: &Schema) -> Result<Constraint> {
        Ok(Constraint {
            vocabulary,
            machine: Machine::new(schema.program())?,
            begun: false,
            allowed: None,
        })
    }

    /// Leaves of `logits: [vocabulary]` those of tokens that may come next; the others become -inf.
    /// A token that ends a text may come where the value may end.
    ///
    /// # Errors
    /// `BadRequest` where no token may come, or where there are too many ways to go on.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        if self
            .allowed
            .as_ref()
            .is_none_or(|(machine, _)| *machine != self.machine)
        {
            self.allowed = Some((self.machine.clone(), self.spellings_that_may_come()?));
        }
        let (_, allowed) = self.allowed.as_ref().expect("it was just found");
        let may_end = self.machine.may_end();
        let mut is_stuck = true;
        for (id, logit) in (0..).zip(logits) {
            let may_come = match self.vocabulary.ends.get(id as usize) {
                Some(true) => may_end,
                _ => self
                    .spelling(id)
                    .is_some_and(|i| allowed[i as usize] || self.is_leading_space(i)),
            };
            match may_come {
                true => is_stuck = false,
                false => *logit = f32::NEG_INFINITY,
            }
        }
        match is_stuck {
            true => Err(refused(
                "no token may come next: no value is valid, or the vocabulary lacks a letter",
            )),
            false => Ok(()),
        }
    }

    /// Walks the spellings in order; what neighbours share is walked once.
    fn spellings_that_may_come(&self) -> Result<Vec<bool>> {
        let vocabulary = &self.vocabulary;
        let mut allowed = vec![false; vocabulary.spellings.len()];
        // After each byte of the current spelling, as far as it is allowed.
        let mut after: Vec<Machine> = vec![self.machine.clone()];
        let mut work = 0;
        for (i, spelling) in vocabulary.spellings.iter().enumerate() {
            // Where the one before went wrong within what they share, this one does, too.
            let shared = vocabulary.shared[i];
            if after.len() <= shared {
                continue;
            }
            after.truncate(shared + 1);
            for byte in &spelling[shared..] {
                let machine = &after[after.len() - 1];
                work += machine.ways() * machine.ways();
                if work > MAX_WORK {
                    return Err(refused("it takes too long; its choices are too much alike"));
                }
                match machine.step(*byte)? {
                    Step::On(machine) => after.push(machine),
                    Step::Wrong => break,
                }
            }
            allowed[i] = after.len() == spelling.len() + 1;
        }
        Ok(allowed)
    }

    /// Takes a token that [`Constraint::mask`] left.
    ///
    /// # Errors
    /// `BadRequest` for another.
    pub fn push(&mut self, id: u32) -> Result<()> {
        if self.vocabulary.ends.get(id as usize) == Some(&true) {
            return Ok(());
        }
        let wrong = || refused(format!("token {id} may not come here"));
        let spelling = self.spelling(id).ok_or_else(wrong)?;
        let is_leading_space = self.is_leading_space(spelling);
        self.begun = true;
        if is_leading_space {
            return Ok(());
        }
        for byte in &self.vocabulary.spellings[spelling as usize] {
            match self.machine.step(*byte)? {
                Step::On(machine) => self.machine = machine,
                Step::Wrong => return Err(wrong()),
            }
        }
        Ok(())
    }

    /// Returns whether the value is whole, and nothing may follow.
    pub fn is_complete(&self) -> bool {
        self.machine.is_complete()
    }

    fn spelling(&self, id: u32) -> Option<u32> {
        let by_token = match self.begun {
            true => &self.vocabulary.by_token,
            false => &self.vocabulary.by_first_token,
        };
        by_token.get(id as usize).copied().flatten()
    }

    /// A space by itself begins an answer where no token has both the space and the letter behind
    /// it.
    fn is_leading_space(&self, spelling: u32) -> bool {
        !self.begun && self.vocabulary.spellings[spelling as usize] == b" "
    }
}
