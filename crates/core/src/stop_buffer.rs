//! Answers out of the text that a model generates: up to the stop text, without white space around.

/// An answer as it grows: cut at the stop text, without white space around it.
///
/// The stop text may arrive in any number of tokens, or as a part of one, so it is looked for in
/// the text. What could still become it, and white space at the end, is held back.
#[derive(Debug, Clone, Default)]
pub struct StopBuffer {
    stops: Vec<String>,
    /// Everything so far, with what is held back.
    text: String,
    /// How much of `text` has been given out.
    given: usize,
    stopped: bool,
}

impl StopBuffer {
    /// Makes an empty answer that any of `stops` ends.
    pub fn new(stops: impl IntoIterator<Item = impl Into<String>>) -> StopBuffer {
        let stops = stops.into_iter().map(Into::into);
        StopBuffer {
            stops: stops.filter(|s: &String| !s.is_empty()).collect(),
            ..StopBuffer::default()
        }
    }

    /// Adds generated text and gives what of the answer is certain now.
    pub fn push(&mut self, text: &str) -> &str {
        if self.stopped {
            return "";
        }
        self.text.push_str(text);
        if self.given == 0 {
            let leading = self.text.len() - self.text.trim_start().len();
            self.text.drain(..leading);
        }
        let found = self
            .stops
            .iter()
            .filter_map(|stop| self.text.find(stop.as_str()));
        if let Some(end) = found.min() {
            self.stopped = true;
            self.text.truncate(end);
            return self.finish();
        }
        let open = self.stops.iter().map(|stop| overlap(&self.text, stop));
        let certain = self.text.len() - open.max().unwrap_or(0);
        self.give(certain)
    }

    /// Returns what was held back and is part of the answer after all, since nothing more comes.
    pub fn finish(&mut self) -> &str {
        let end = self.text.len();
        let given = self.give(end).len();
        self.text.truncate(self.given);
        &self.text[self.given - given..]
    }

    fn give(&mut self, end: usize) -> &str {
        let end = self.text[..end].trim_end().len().max(self.given);
        let start = std::mem::replace(&mut self.given, end);
        &self.text[start..end]
    }

    /// Returns how many bytes of the answer there are, with what is held back.
    pub fn len_with_held(&self) -> usize {
        self.text.len()
    }

    /// Returns whether the stop text has come.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Returns all that has been given out.
    pub fn text(&self) -> &str {
        &self.text[..self.given]
    }
}

/// The length of the longest end of `text` that `stop` begins with and is longer than.
fn overlap(text: &str, stop: &str) -> usize {
    let mut ends = stop.char_indices().map(|(i, _)| i).rev();
    ends.find(|&i| text.ends_with(&stop[..i])).unwrap_or(0)
}
