//! What tokens are for, and what is wrong with vocabularies.

use crate::Error;

/// What a token is for. The numbers are those of SentencePiece and of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Normal = 1,
    /// Stands for text that the vocabulary can't say.
    Unknown = 2,
    /// Means something to the model and is no text: begin, end, ..
    Control = 3,
    /// Text that is always one token.
    UserDefined = 4,
    /// Takes part in merges and is never the result.
    Unused = 5,
    /// One byte of a character that has no token.
    Byte = 6,
}

impl Kind {
    pub(super) fn from_number(number: u64) -> Option<Kind> {
        Some(match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }
}

pub(super) fn bad(reason: impl Into<String>) -> Error {
    Error::Tokenizer {
        reason: reason.into(),
    }
}
