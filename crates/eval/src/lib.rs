//! Published benchmarks of vision-language models.
//!
//! ```text
//! question files ─▶ Sample ──(a model answers)──▶ Record ─▶ Journal ─▶ figures ─▶ report
//!                                                    └─▶ a judge ─▶ Judgement ──┘
//! ```
//!
//! A [`Benchmark`] reads its published files into [`Sample`]s and names the reference's protocol
//! and decoding. Whoever has a model answers them; each answer is a [`Record`], one line of a
//! [`Journal`], which holds all that figures and reports are made of. So runs resume, shards merge,
//! and answers are judged later without the data or the model.

mod benchmark;
mod benchmarks;
mod data;
mod journal;
mod judge;
mod metrics;
mod predictions;
pub mod report;
mod sample;

pub use benchmark::{Benchmark, Decoding, Metric, Protocol, Published};
pub use data::{Data, Fault, Questions};
pub use journal::{JOURNAL_NAME, Journal, Run, Shard};
pub use judge::{
    JUDGEMENTS_NAME, JudgeRequest, Judgement, JudgementJournal, Judgements, REPLY_TOKENS, Verdict,
    requests, verdict,
};
pub use metrics::{Figure, Interval, Unit, chosen, figures, is_right, vqa};
pub use predictions::{PredictionFile, prediction_files, read_predictions};
pub use sample::{Expected, Media, Record, Sample};
