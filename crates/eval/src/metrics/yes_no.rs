//! POPE's accuracy, precision, recall, F1 and share of yes.
//!
//! Source: github.com/RUCAIBox/POPE, `evaluate.py`.

use super::{
    figure::{Figure, Unit, ratio},
    interval::Interval,
};
use crate::sample::{Expected, Record};

/// Returns what the script takes an answer for: no, where a word of its first sentence is a no.
pub fn says_yes(text: &str) -> bool {
    let first = text.split('.').next().unwrap_or(text);
    let first = first.replace(',', "");
    !first
        .split(' ')
        .any(|word| ["No", "not", "no"].contains(&word))
}

/// Answers, by what was said and what is right.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    true_yes: usize,
    false_yes: usize,
    true_no: usize,
    false_no: usize,
}

impl Counts {
    fn add(&mut self, (said, right): (bool, bool)) {
        *match (said, right) {
            (true, true) => &mut self.true_yes,
            (true, false) => &mut self.false_yes,
            (false, false) => &mut self.true_no,
            (false, true) => &mut self.false_no,
        } += 1;
    }

    fn precision(&self) -> Option<f64> {
        ratio(self.true_yes, self.true_yes + self.false_yes)
    }

    fn recall(&self) -> Option<f64> {
        ratio(self.true_yes, self.true_yes + self.false_no)
    }

    fn f1(&self) -> Option<f64> {
        let (precision, recall) = (self.precision()?, self.recall()?);
        let sum = precision + recall;
        (sum > 0.).then(|| 2. * precision * recall / sum)
    }
}

pub fn figures(records: &[&Record]) -> Vec<Figure> {
    let pairs: Vec<(bool, bool)> = records
        .iter()
        .filter_map(|record| match &record.expected {
            Expected::Text(label) => Some((says_yes(record.text()), label == "yes")),
            _ => None,
        })
        .collect();
    let count = |pairs: &mut dyn Iterator<Item = (bool, bool)>| {
        let mut counts = Counts::default();
        pairs.for_each(|pair| counts.add(pair));
        counts
    };
    let counts = count(&mut pairs.iter().copied());
    let n = pairs.len();
    let right = counts.true_yes + counts.true_no;
    let said_yes = counts.true_yes + counts.false_yes;
    let is_yes = counts.true_yes + counts.false_no;
    let figure = |name: &str, value, interval, n| Figure {
        name: name.into(),
        value,
        unit: Unit::Ratio,
        n,
        interval,
        chance: None,
        majority: None,
    };
    let f1 = |drawn: &[usize]| count(&mut drawn.iter().map(|&i| pairs[i])).f1();
    vec![
        Figure {
            chance: (n > 0).then_some(0.5),
            majority: ratio(is_yes.max(n - is_yes), n),
            ..figure("accuracy", ratio(right, n), Interval::wilson(right, n), n)
        },
        figure(
            "precision",
            counts.precision(),
            Interval::wilson(counts.true_yes, said_yes),
            said_yes,
        ),
        figure(
            "recall",
            counts.recall(),
            Interval::wilson(counts.true_yes, is_yes),
            is_yes,
        ),
        figure("F1", counts.f1(), Interval::bootstrap(n, f1), n),
        figure("yes", ratio(said_yes, n), Interval::wilson(said_yes, n), n),
    ]
}
