//! What is wrong with a schema, or with an answer to it.

use crate::Error;

/// An error that says what can't be used.
pub(super) fn refused(reason: impl std::fmt::Display) -> Error {
    /// Errors quote names of any length.
    const MAX_LETTERS: usize = 500;
    let reason = format!("the JSON schema can't be used: {reason}");
    Error::BadRequest {
        reason: reason.chars().take(MAX_LETTERS).collect(),
    }
}
