//! Which rows of a language model's input belong together.

use std::ops::Range;

/// One visual and what is asked about it, in consecutive rows: what comes before the questions,
/// then each question with its answer. A question sees the prefix and itself, not the others, and
/// its places go on where the prefix ends: each is computed as if it had been asked alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Rows that all questions share.
    pub prefix: usize,
    /// Rows of each question.
    pub questions: Vec<usize>,
}

/// Sequences, one behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packing {
    sequences: Vec<Sequence>,
}

/// A sequence's rows among all rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows {
    pub prefix: Range<usize>,
    pub questions: Vec<Range<usize>>,
}

impl Packing {
    /// Sequences in the order of their rows.
    pub fn new(sequences: Vec<Sequence>) -> Packing {
        Packing { sequences }
    }

    /// All rows.
    pub fn rows(&self) -> usize {
        let rows = |sequence: &Sequence| sequence.prefix + sequence.questions.iter().sum::<usize>();
        self.sequences.iter().map(rows).sum()
    }

    /// Each row's place in its sequence, from 0.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.sequences.iter().flat_map(|sequence| {
            let prefix = sequence.prefix;
            let questions = sequence.questions.iter();
            (0..prefix).chain(questions.flat_map(move |&rows| prefix..prefix + rows))
        })
    }

    /// The rows of each sequence.
    pub(super) fn sequences(&self) -> impl Iterator<Item = Rows> {
        let mut row = 0;
        let mut take = move |rows: usize| {
            row += rows;
            row - rows..row
        };
        self.sequences.iter().map(move |sequence| Rows {
            prefix: take(sequence.prefix),
            questions: sequence.questions.iter().map(|&rows| take(rows)).collect(),
        })
    }

    /// Tells, row by row, which rows it sees.
    pub(super) fn visible(&self, mut each: impl FnMut(usize, Range<usize>)) {
        for Rows { prefix, questions } in self.sequences() {
            for row in prefix.clone() {
                each(row, prefix.start..row + 1);
            }
            for question in questions {
                for row in question.clone() {
                    each(row, prefix.clone());
                    each(row, question.start..row + 1);
                }
            }
        }
    }
}
