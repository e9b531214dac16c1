//! A conversation as the language model learns it: rows, and which of them it is to say.

use univi::{
    Error, Result,
    prompt::{Conversation, Slot},
    tokenizer::Tokenizer,
};

/// A row of the language model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// A token of the vocabulary.
    Token(u32),
    /// An embedding of a visual.
    Visual {
        /// Which visual of the example.
        visual: usize,
        /// Which of its embeddings.
        row: usize,
    },
}

/// A conversation in rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Everything that is said and seen.
    pub rows: Vec<Row>,
    /// For each row whether it is the assistant's: what is learned.
    pub learned: Vec<bool>,
}

impl Written {
    /// Writes a conversation down as inference does, answers included. `tokens` says how many
    /// embeddings each visual has.
    ///
    /// # Errors
    /// As [`Conversation::prompt`]; `BadRequest` without an answer, or for more than `context`
    /// rows.
    pub fn new(
        conversation: &Conversation,
        tokenizer: &Tokenizer,
        tokens: &[usize],
        context: usize,
    ) -> Result<Written> {
        let rows_of = |conversation: &Conversation| -> Result<Vec<Row>> {
            let mut rows = Vec::new();
            for slot in conversation.prompt()?.encode(tokenizer)? {
                match slot {
                    Slot::Tokens(ids) => rows.extend(ids.into_iter().map(Row::Token)),
                    Slot::Visual(visual) => {
                        let tokens = *tokens.get(visual).ok_or_else(|| Error::BadRequest {
                            reason: format!("visual {visual} is talked of and not there"),
                        })?;
                        rows.extend((0..tokens).map(|row| Row::Visual { visual, row }));
                    }
                }
            }
            Ok(rows)
        };
        let rows = rows_of(conversation)?;
        let mut learned = vec![false; rows.len()];
        let mut part = conversation.clone();
        for turn in (0..conversation.turns.len()).rev() {
            part.turns.truncate(turn + 1);
            if part.turns[turn].answer.is_none() {
                continue;
            }
            let end = rows_of(&part)?.len();
            part.turns[turn].answer = None;
            let asked = rows_of(&part)?;
            // As far as the question is written alike with and without its answer.
            let start = asked.iter().zip(&rows).take_while(|(a, b)| a == b).count();
            learned[start..end.min(rows.len())].fill(true);
        }
        if !learned.contains(&true) {
            return Err(Error::BadRequest {
                reason: "there is no answer to learn from".into(),
            });
        }
        if rows.len() > context {
            return Err(Error::ContextOverflow {
                needed: rows.len(),
                capacity: context,
            });
        }
        Ok(Written { rows, learned })
    }
}
