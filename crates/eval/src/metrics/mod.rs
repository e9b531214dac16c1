//! From records to figures.

mod choice;
mod interval;
mod judged;
pub mod vqa;
mod yes_no;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use choice::{chosen, science_text};
pub use interval::Interval;

use crate::{
    benchmark::{Benchmark, Metric},
    judge::Judgements,
    sample::{Expected, Record},
};

/// One number of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What is counted, and in which part of the benchmark: `accuracy, NAT`.
    pub name: String,
    /// The value; `None` where nothing can be divided by.
    pub value: Option<f64>,
    /// What it counts in.
    pub unit: Unit,
    /// Of how many answers.
    pub n: usize,
    /// Where it lies with 95 % confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// What a guess gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// What always giving the most frequent answer gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority: Option<f64>,
}

/// What a figure counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// From 0 to 1.
    Ratio,
    /// From 0 to 100.
    Percent,
    /// From 0 to 5.
    Score,
    /// From 0 to 5, in papers from 0 to 100.
    Fifths,
}

impl Unit {
    /// Writes a value down as papers do: shares as percents.
    pub fn show(self, value: f64) -> String {
        format!("{:.2}", self.in_papers(value))
    }

    /// Returns a value as a share of the most that there is.
    pub(crate) fn share(self, value: f64) -> f64 {
        let most = match self {
            Unit::Ratio => 1.,
            Unit::Percent => 100.,
            Unit::Score | Unit::Fifths => 5.,
        };
        (value / most).clamp(0., 1.)
    }

    /// Returns a value as papers have it: shares as percents.
    pub fn in_papers(self, value: f64) -> f64 {
        match self {
            Unit::Ratio => 100. * value,
            Unit::Fifths => 20. * value,
            Unit::Percent | Unit::Score => value,
        }
    }
}

/// Computes the figures of a benchmark. Records without an answer don't count.
pub fn figures(benchmark: &Benchmark, records: &[Record], judgements: &Judgements) -> Vec<Figure> {
    let answered: Vec<&Record> = records.iter().filter(|r| r.error.is_none()).collect();
    match benchmark.metric {
        Metric::YesNo => yes_no::figures(&answered),
        Metric::ScienceQa => choice::science_qa(&answered),
        Metric::Letter => choice::letters(&answered),
        Metric::Vqa => shares(&answered, |text, given| {
            vqa::accuracy(&vqa::processed(text), given)
        }),
        Metric::TextVqa => shares(&answered, vqa::text_accuracy),
        Metric::ExactText => exact(&answered),
        metric => judged::figures(metric, &answered, judgements),
    }
}

/// Returns whether an answer is right, as far as that can be said of one alone.
pub fn is_right(benchmark: &Benchmark, record: &Record, judgements: &Judgements) -> Option<bool> {
    match (benchmark.metric, &record.expected) {
        (Metric::YesNo, Expected::Text(label)) => {
            Some(yes_no::says_yes(record.text()) == (label == "yes"))
        }
        (Metric::ScienceQa, Expected::Choice { index, .. }) => {
            Some(choice::science_answer(record) == Some(*index))
        }
        (Metric::Letter, Expected::Choice { index, choices }) => {
            Some(chosen(record.text(), choices) == Some(*index))
        }
        (Metric::Vqa, Expected::Texts(given)) => {
            Some(vqa::accuracy(&vqa::processed(record.text()), given) > 0.)
        }
        (Metric::TextVqa, Expected::Texts(given)) => {
            Some(vqa::text_accuracy(record.text(), given) > 0.)
        }
        (Metric::ExactText, Expected::Text(right)) => Some(exact_text(record.text()) == *right),
        (metric, _) => judged::is_right(metric, record, judgements),
    }
}

/// GQA's: without full stops at the end, in small letters.
pub(crate) fn exact_text(text: &str) -> String {
    text.trim_end_matches('.').to_lowercase()
}

fn exact(records: &[&Record]) -> Vec<Figure> {
    let labelled: Vec<(&&Record, &String)> = records
        .iter()
        .filter_map(|record| match &record.expected {
            Expected::Text(right) => Some((record, right)),
            _ => None,
        })
        .collect();
    let right = labelled
        .iter()
        .filter(|(r, right)| exact_text(r.text()) == **right)
        .count();
    let most = most_frequent(labelled.iter().map(|(_, right)| right.as_str()));
    let of_all = |count: usize| ratio(count, labelled.len());
    vec![Figure {
        name: "accuracy".into(),
        value: of_all(right),
        unit: Unit::Ratio,
        n: labelled.len(),
        interval: Interval::wilson(right, labelled.len()),
        chance: None,
        majority: most.and_then(|(_, count)| of_all(count)),
    }]
}

/// The mean of shares, of all and of each group.
fn shares(records: &[&Record], share: impl Fn(&str, &[String]) -> f64) -> Vec<Figure> {
    let mut parts: BTreeMap<Option<&str>, Vec<(&Record, &Vec<String>)>> = BTreeMap::new();
    for record in records {
        if let Expected::Texts(given) = &record.expected
            && !given.is_empty()
        {
            parts.entry(None).or_default().push((record, given));
            for group in &record.groups {
                parts.entry(Some(group)).or_default().push((record, given));
            }
        }
    }
    let figure = |(group, part): (Option<&str>, Vec<(&Record, &Vec<String>)>)| {
        let values: Vec<f64> = part
            .iter()
            .map(|(r, given)| share(r.text(), given))
            .collect();
        let modes = part.iter().filter_map(|(_, given)| {
            most_frequent(given.iter().map(String::as_str)).map(|(answer, _)| answer)
        });
        let majority = most_frequent(modes).map(|(answer, _)| {
            let of = part.iter().map(|(_, given)| share(answer, given));
            of.fold(0., |sum, share| sum + share) / part.len() as f64
        });
        Figure {
            name: named("accuracy", group),
            value: mean(&values),
            unit: Unit::Ratio,
            n: values.len(),
            interval: Interval::of_mean(&values),
            chance: None,
            majority,
        }
    };
    parts.into_iter().map(figure).collect()
}

/// `accuracy`, or `accuracy, NAT`.
fn named(name: &str, group: Option<&str>) -> String {
    group.map_or(name.to_owned(), |group| format!("{name}, {group}"))
}

fn ratio(count: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| count as f64 / of as f64)
}

/// The mean, added in order, as the scripts do.
fn mean(values: &[f64]) -> Option<f64> {
    let sum = values.iter().fold(0., |sum, value| sum + value);
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

/// Returns the text that is there most often, the first in order among equals, and how often.
fn most_frequent<'a>(texts: impl Iterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count)
}
