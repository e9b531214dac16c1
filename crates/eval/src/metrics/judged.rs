//! What judges said, counted as the official scripts do.

use super::{
    figure::{Figure, Unit, mean, named, ratio},
    interval::Interval,
};
use crate::{
    benchmark::Metric,
    judge::{Judgements, Verdict},
    sample::Record,
};

pub fn figures(metric: Metric, records: &[&Record], judgements: &Judgements) -> Vec<Figure> {
    let verdicts = |aspect: &str, group: Option<&str>| -> Vec<&Verdict> {
        let part = records.iter();
        let part = part.filter(|r| group.is_none_or(|group| r.groups.iter().any(|g| g == group)));
        part.filter_map(|record| judgements.verdict(&record.id, aspect))
            .collect()
    };
    match metric {
        Metric::JudgedAnswer => answers(&verdicts("match", None)),
        Metric::JudgedAspects(aspects) => aspects
            .iter()
            .map(|aspect| scores(aspect, &verdicts(aspect, None), Unit::Fifths))
            .collect(),
        Metric::JudgedShare => {
            let name = |group: Option<&str>| named("score", group);
            let parts = parts(records);
            let figure = |group| scores(&name(group), &verdicts("correctness", group), Unit::Ratio);
            parts.into_iter().map(figure).collect()
        }
        Metric::JudgedPair => {
            let figure = |group| relative(&named("relative", group), &verdicts("pair", group));
            parts(records).into_iter().map(figure).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns whether an answer is right by its verdicts; `None` where none says so.
pub fn is_right(metric: Metric, record: &Record, judgements: &Judgements) -> Option<bool> {
    let aspect = metric.aspects().first()?;
    let verdict = judgements.verdict(&record.id, aspect)?;
    Some(match metric {
        Metric::JudgedAnswer => verdict.yes?,
        Metric::JudgedPair => verdict.scores.get(1)? >= verdict.scores.first()?,
        Metric::JudgedShare => *verdict.scores.first()? >= 0.5,
        _ => *verdict.scores.first()? >= 3.,
    })
}

/// The whole, then the groups in their order.
fn parts<'a>(records: &[&'a Record]) -> Vec<Option<&'a str>> {
    let groups = records.iter().flat_map(|record| &record.groups);
    let mut groups: Vec<&str> = groups.map(String::as_str).collect();
    groups.sort();
    groups.dedup();
    std::iter::once(None)
        .chain(groups.into_iter().map(Some))
        .collect()
}

fn answers(verdicts: &[&Verdict]) -> Vec<Figure> {
    let said: Vec<bool> = verdicts.iter().filter_map(|verdict| verdict.yes).collect();
    let yes = said.iter().filter(|yes| **yes).count();
    let accuracy = Figure {
        name: "accuracy".into(),
        value: ratio(yes, said.len()),
        unit: Unit::Ratio,
        n: said.len(),
        interval: Interval::wilson(yes, said.len()),
        chance: None,
        majority: None,
    };
    vec![accuracy, scores("score", verdicts, Unit::Score)]
}

fn scores(name: &str, verdicts: &[&Verdict], unit: Unit) -> Figure {
    let scores = verdicts.iter().filter_map(|verdict| verdict.scores.first());
    let scores: Vec<f64> = scores.copied().collect();
    Figure {
        name: name.into(),
        value: mean(&scores),
        unit,
        n: scores.len(),
        interval: Interval::of_mean(&scores),
        chance: None,
        majority: None,
    }
}

/// The answers' mean score relative to the reference's, rounded where the script rounds.
fn relative(name: &str, verdicts: &[&Verdict]) -> Figure {
    let pairs: Vec<(f64, f64)> = verdicts
        .iter()
        .filter_map(|verdict| Some((*verdict.scores.first()?, *verdict.scores.get(1)?)))
        .collect();
    let means = |pairs: &mut dyn Iterator<Item = (f64, f64)>| {
        let (first, second): (Vec<f64>, Vec<f64>) = pairs.unzip();
        Some((mean(&first)?, mean(&second)?))
    };
    let value = means(&mut pairs.iter().copied()).map(|(first, second)| {
        let relative = rounded(second, 3) / rounded(first, 3) * 100.;
        rounded(relative, 1)
    });
    let drawn = |drawn: &[usize]| {
        let (first, second) = means(&mut drawn.iter().map(|&i| pairs[i]))?;
        Some(second / first * 100.)
    };
    Figure {
        name: name.into(),
        value,
        unit: Unit::Percent,
        n: pairs.len(),
        interval: Interval::bootstrap(pairs.len(), drawn),
        chance: None,
        majority: None,
    }
}

/// Rounds to digits as Python does: to the decimal number that is nearest.
fn rounded(value: f64, digits: usize) -> f64 {
    format!("{value:.digits$}").parse().unwrap_or(value)
}
