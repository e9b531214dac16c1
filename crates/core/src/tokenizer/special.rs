//! Finding whole tokens in a text.

use std::{collections::HashMap, sync::Arc};

/// Finds the longest of a set of strings at a place.
#[derive(Debug, PartialEq)]
pub(super) struct Matcher {
    /// By first byte, longest first.
    by_first: HashMap<u8, Vec<(String, u32)>>,
}

impl Matcher {
    /// Strings and what they stand for. Empty strings are never found.
    pub(super) fn new<'a>(entries: impl Iterator<Item = (&'a str, u32)>) -> Matcher {
        let mut by_first: HashMap<u8, Vec<(String, u32)>> = HashMap::new();
        for (text, id) in entries {
            if let Some(first) = text.bytes().next() {
                by_first
                    .entry(first)
                    .or_default()
                    .push((text.to_string(), id));
            }
        }
        for candidates in by_first.values_mut() {
            candidates.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        Matcher { by_first }
    }

    /// The length and id of the longest string that begins at byte `start`.
    pub(super) fn longest_at(&self, text: &str, start: usize) -> Option<(usize, u32)> {
        let rest = &text.as_bytes()[start..];
        let candidates = self.by_first.get(rest.first()?)?;
        candidates
            .iter()
            .find(|(candidate, _)| rest.starts_with(candidate.as_bytes()))
            .map(|(candidate, id)| (candidate.len(), *id))
    }
}

/// The names of tokens that are no text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ControlNames(Arc<Matcher>);

impl ControlNames {
    pub(super) fn new<'a>(names: impl Iterator<Item = (&'a str, u32)>) -> ControlNames {
        ControlNames(Arc::new(Matcher::new(names)))
    }

    /// The text with `mark` behind the first character of every name in it, so that it holds none.
    pub(crate) fn mark(&self, text: &str, mark: char) -> String {
        let mut marked = String::with_capacity(text.len());
        for (at, character) in text.char_indices() {
            marked.push(character);
            if self.0.longest_at(text, at).is_some() {
                marked.push(mark);
            }
        }
        marked
    }
}
