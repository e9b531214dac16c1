//! What a benchmark asks, and what became of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// Words alone.
    None,
    /// A picture on disk.
    Image(PathBuf),
    /// The bytes of a picture that the question file holds.
    Embedded(Vec<u8>),
    /// A video on disk.
    Video(PathBuf),
    /// A file that the data names and that is not there.
    Missing(String),
}

/// One question of a benchmark, or several about the same thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Unique in its benchmark.
    pub id: String,
    /// What is shown.
    pub media: Media,
    /// The name of what is shown, as the question file has it.
    pub media_name: Option<String>,
    /// What is asked, each by itself, without a mark for what is shown.
    pub questions: Vec<String>,
    /// What would be right.
    pub expected: Expected,
    /// The parts of the benchmark that it counts in, besides the whole.
    pub groups: Vec<String>,
    /// What official prediction files repeat of the question.
    pub source: Map<String, Value>,
}

/// What would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// The file does not say: the answers are kept with the organizers.
    Unknown,
    /// One text.
    Text(String),
    /// What several people said.
    Texts(Vec<String>),
    /// One of so many choices, by its index.
    Choice {
        /// Which.
        index: usize,
        /// The texts of all of them.
        choices: Vec<String>,
    },
}

/// A line of the journal: what was asked and what was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The position among all samples of the benchmark.
    pub index: usize,
    /// [`Sample::id`].
    pub id: String,
    /// [`Sample::media_name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<String>,
    /// [`Sample::questions`].
    pub questions: Vec<String>,
    /// [`Sample::expected`].
    pub expected: Expected,
    /// [`Sample::groups`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// [`Sample::source`].
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub source: Map<String, Value>,
    /// What was answered to each question.
    #[serde(default)]
    pub texts: Vec<String>,
    /// The likeliest of the answers that were allowed, where the protocol compares some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// Tokens of the prompt, the visual ones among them.
    #[serde(default)]
    pub prompt_tokens: usize,
    /// Visual tokens.
    #[serde(default)]
    pub visual_tokens: usize,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Record {
    /// Makes the record of a sample that has no answer yet.
    pub fn of(index: usize, sample: &Sample) -> Record {
        Record {
            index,
            id: sample.id.clone(),
            media: sample.media_name.clone(),
            questions: sample.questions.clone(),
            expected: sample.expected.clone(),
            groups: sample.groups.clone(),
            source: sample.source.clone(),
            texts: Vec::new(),
            choice: None,
            prompt_tokens: 0,
            visual_tokens: 0,
            error: None,
        }
    }

    /// Returns the first answer; empty where there is none.
    pub fn text(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }
}
