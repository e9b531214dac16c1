//! What a benchmark is made of.

use std::path::Path;

use univi::Result;

use crate::{
    data::{Data, Questions},
    sample::Media,
};

/// A published benchmark: its files, how the reference asks, and what is counted.
#[derive(Debug)]
pub struct Benchmark {
    /// What the command line calls it.
    pub name: &'static str,
    /// What papers call it.
    pub title: &'static str,
    /// The files that it reads, for people.
    pub files: &'static str,
    /// The folders of its pictures or videos, as the references have them.
    pub folders: &'static [&'static str],
    /// The reference's conversation template.
    pub template: &'static str,
    /// How the model is asked.
    pub protocol: Protocol,
    /// How answers are sampled.
    pub decoding: Decoding,
    /// What is counted.
    pub metric: Metric,
    /// Figures of others, and who published them.
    pub published: &'static [Published],
    pub(crate) read: fn(&Data) -> Result<Questions>,
}

/// How the model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Every question gets an answer.
    Answer,
    /// The likeliest of these as the first token is the answer.
    FirstToken(&'static [&'static str]),
    /// The model reasons; then `bridge` follows what it said, it answers shortly, and the likeliest
    /// letter among those that the question offers as `(A)` is its choice.
    ReasonThenChoose {
        /// What stands between the reasoning and the answer.
        bridge: &'static str,
        /// Tokens of the answer, at most.
        max_tokens: usize,
    },
}

/// The reference's sampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decoding {
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
}

impl Decoding {
    /// Chat-UniVi's scripts.
    pub(crate) const SAMPLED: Decoding = Decoding {
        temperature: 0.2,
        max_tokens: 1024,
    };
    /// LLaVA 1.5's scripts for long answers.
    pub(crate) const GREEDY: Decoding = Decoding {
        temperature: 0.,
        max_tokens: 1024,
    };
    /// LLaVA 1.5's scripts for short answers.
    pub(crate) const GREEDY_SHORT: Decoding = Decoding {
        temperature: 0.,
        max_tokens: 128,
    };
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Yes or no, as POPE's script counts.
    YesNo,
    /// ScienceQA: accuracy by subject, modality and grade.
    ScienceQa,
    /// Soft accuracy against ten people, as VQA's script counts.
    Vqa,
    /// The same, as the script of TextVQA counts.
    TextVqa,
    /// The same text, but for a full stop and capitals.
    ExactText,
    /// The letter of one of up to four choices.
    Letter,
    /// A judge compares with the right answer: yes or no, and 0 to 5.
    JudgedAnswer,
    /// A judge rates 0 to 5 by each of these aspects.
    JudgedAspects(&'static [&'static str]),
    /// A judge rates 0 to 1, in tenths.
    JudgedShare,
    /// A judge rates the answer and a reference's, 1 to 10 each.
    JudgedPair,
}

impl Metric {
    /// Returns whether a judge is needed.
    pub fn is_judged(self) -> bool {
        !self.aspects().is_empty()
    }

    /// Returns what a judge rates; empty where none is needed.
    pub fn aspects(self) -> &'static [&'static str] {
        match self {
            Metric::JudgedAnswer => &["match"],
            Metric::JudgedShare => &["correctness"],
            Metric::JudgedPair => &["pair"],
            Metric::JudgedAspects(aspects) => aspects,
            _ => &[],
        }
    }
}

/// Figures that somebody published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The model.
    pub model: &'static str,
    /// Names of figures as in reports, with values.
    pub figures: &'static [(&'static str, f64)],
}

impl Benchmark {
    /// Reads the published files.
    ///
    /// # Errors
    /// `Io` where a file is missing, naming what is expected; `BadFile` where one can't be read at
    /// all. What is wrong with single questions is in [`Questions::faults`].
    pub fn read(&self, data: &Data) -> Result<Questions> {
        data.check()?;
        let mut questions = (self.read)(data)?;
        questions.drop_duplicates();
        Ok(questions)
    }

    /// Finds a picture or a video by the name that the question file gives it, in the folder of
    /// all of them.
    pub fn media(&self, folder: &Path, name: &str) -> Media {
        let data = Data::new(folder, None);
        match data.image(name, self.folders) {
            Media::Missing(_) => data.video(name, self.folders),
            found => found,
        }
    }
}
