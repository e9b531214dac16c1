//! Published formats are read as they are, and counted as the official scripts count.

mod formats;
mod journal;
mod official;

use serde_json::Map;
use univi_eval::{Expected, Record};

/// An answer to a question of its own.
fn record(index: usize, text: &str, expected: Expected) -> Record {
    Record {
        index,
        id: format!("q{index}"),
        media: None,
        questions: vec!["What?".into()],
        expected,
        groups: Vec::new(),
        source: Map::new(),
        texts: vec![text.into()],
        choice: None,
        prompt_tokens: 0,
        visual_tokens: 0,
        error: None,
    }
}
