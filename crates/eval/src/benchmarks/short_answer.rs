//! Questions that want a word.

/// What LLaVA 1.5 adds to a question with a short answer.
pub(super) const SHORT_ANSWER: &str = "\nAnswer the question using a single word or phrase.";
