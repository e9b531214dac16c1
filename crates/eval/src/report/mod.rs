//! Reports: JSON for programs, Markdown and a page for people. They are made of a journal alone, so
//! that the same answers give the same bytes.

mod html;
mod json;
mod markdown;
pub mod plot;

use crate::{
    benchmark::Benchmark,
    journal::Run,
    judge::Judgements,
    metrics::{Figure, figures, is_right},
    sample::{Expected, Record},
};

pub use html::html;
pub use json::json;
pub use markdown::{markdown, table};

/// Answers that went wrong and are shown, at most.
const MOST_EXAMPLES: usize = 20;

/// What a report shows.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// The benchmark.
    pub benchmark: &'static Benchmark,
    /// The run.
    pub run: &'a Run,
    /// Its answers.
    pub records: &'a [Record],
    /// The replies of the judge, where one was asked.
    pub judgements: &'a Judgements,
    /// The figures.
    pub figures: Vec<Figure>,
    /// Figures of others, from their prediction files.
    pub others: Vec<Other>,
}

/// Another model beside.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    /// Its name.
    pub model: String,
    /// Questions that its file answers.
    pub answered: usize,
    /// Its figures, of those.
    pub figures: Vec<Figure>,
}

impl<'a> Report<'a> {
    /// Makes the report of a run.
    pub fn new(
        benchmark: &'static Benchmark,
        run: &'a Run,
        records: &'a [Record],
        judgements: &'a Judgements,
        others: Vec<Other>,
    ) -> Report<'a> {
        Report {
            benchmark,
            run,
            records,
            judgements,
            figures: figures(benchmark, records, judgements),
            others,
        }
    }

    /// Returns the first answers that are wrong.
    pub fn wrong(&self) -> Vec<&'a Record> {
        let wrong = self.records.iter().filter(|record| self.is_wrong(record));
        wrong.take(MOST_EXAMPLES).collect()
    }

    /// Returns how many answers are wrong.
    pub fn wrong_count(&self) -> usize {
        let wrong = self.records.iter().filter(|record| self.is_wrong(record));
        wrong.count()
    }

    fn is_wrong(&self, record: &Record) -> bool {
        record.error.is_none() && is_right(self.benchmark, record, self.judgements) == Some(false)
    }

    /// Returns whether the data says of no question what would be right.
    pub fn is_unlabelled(&self) -> bool {
        let is_unknown = |record: &Record| record.expected == Expected::Unknown;
        !self.records.is_empty() && self.records.iter().all(is_unknown)
    }

    /// Returns how many samples have no answer.
    pub fn failed(&self) -> usize {
        self.records.len() - self.answered()
    }

    /// Returns how many samples have an answer.
    pub fn answered(&self) -> usize {
        self.records.iter().filter(|r| r.error.is_none()).count()
    }

    /// Returns the mean of visual tokens of those that have any.
    fn visual_tokens(&self) -> Option<f64> {
        let counts = self.records.iter().map(|record| record.visual_tokens);
        let counts: Vec<usize> = counts.filter(|count| *count > 0).collect();
        (!counts.is_empty()).then(|| counts.iter().sum::<usize>() as f64 / counts.len() as f64)
    }
}
