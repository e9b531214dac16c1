//! Figures, and what they are made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::interval::Interval;

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

/// `accuracy`, or `accuracy, NAT`.
pub(super) fn named(name: &str, group: Option<&str>) -> String {
    group.map_or(name.to_owned(), |group| format!("{name}, {group}"))
}

pub(super) fn ratio(count: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| count as f64 / of as f64)
}

/// The mean, added in order, as the scripts do.
pub(super) fn mean(values: &[f64]) -> Option<f64> {
    let sum = values.iter().fold(0., |sum, value| sum + value);
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

/// Returns the text that is there most often, the first in order among equals, and how often.
pub(super) fn most_frequent<'a>(texts: impl Iterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count)
}
