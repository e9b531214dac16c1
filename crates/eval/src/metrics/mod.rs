//! From records to figures.

mod choice;
mod figure;
mod interval;
mod judged;
pub mod vqa;
mod yes_no;

use std::collections::BTreeMap;

pub use choice::{chosen, science_text};
pub use figure::{Figure, Unit};
use figure::{mean, most_frequent, named, ratio};
pub use interval::Interval;

use crate::{
    benchmark::{Benchmark, Metric},
    judge::Judgements,
    sample::{Expected, Record},
};

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
