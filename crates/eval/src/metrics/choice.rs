//! Multiple choice: ScienceQA with the reference's extraction, and letters.

use super::{
    figure::{Figure, Unit, most_frequent, named, ratio},
    interval::Interval,
};
use crate::sample::{Expected, Record};

const LETTERS: [&str; 5] = ["A", "B", "C", "D", "E"];

/// The parts of ScienceQA in the order of the papers' tables.
const PARTS: [&str; 8] = ["NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12"];

/// Returns the index that the reference's script finds: the one letter behind "The answer is",
/// else the likeliest letter. Where no likeliest letter is known, as in predictions of others, the
/// answer may be the letter itself or begin with it, as in LLaVA's script.
///
/// The reference's script draws a choice at random where it finds none; here that is wrong.
pub fn science_answer(record: &Record) -> Option<usize> {
    let Expected::Choice { choices, .. } = &record.expected else {
        return None;
    };
    let text = science_text(record);
    let stated = the_answer_is(&text);
    let letter = match (&stated[..], &record.choice) {
        ([one], _) => one.to_string(),
        (_, Some(choice)) => choice.clone(),
        (_, None) if LETTERS.contains(&&*text) => text,
        (_, None) => match text.split_once(". ") {
            Some((letter, _)) if LETTERS.contains(&letter) => letter.to_owned(),
            _ => return None,
        },
    };
    let letters = &LETTERS[..choices.len().min(LETTERS.len())];
    letters.iter().position(|one| *one == letter)
}

/// Returns the text that the reference writes down: the reasoning, and what was answered then.
pub fn science_text(record: &Record) -> String {
    match &record.texts[..] {
        [reasoning, answer] => format!("{reasoning}\n The answer is {answer}"),
        texts => texts.join("\n"),
    }
}

/// Finds `The answer is ([A-Z]).`, where the last stands for any character but a line end.
fn the_answer_is(text: &str) -> Vec<char> {
    let rest = text.split("The answer is ").skip(1);
    let letter = |rest: &str| {
        let mut chars = rest.chars();
        let letter = chars.next().filter(char::is_ascii_uppercase)?;
        chars.next().filter(|c| *c != '\n').map(|_| letter)
    };
    rest.filter_map(letter).collect()
}

pub fn science_qa(records: &[&Record]) -> Vec<Figure> {
    let of = |group: Option<&str>| {
        let part: Vec<&Record> = records
            .iter()
            .copied()
            .filter(|record| group.is_none_or(|g| record.groups.iter().any(|own| own == g)))
            .collect();
        accuracy(&part, group, Unit::Percent, science_answer)
    };
    let mut figures = vec![of(None)];
    figures.extend(PARTS.map(|part| of(Some(part))));
    figures
}

pub fn letters(records: &[&Record]) -> Vec<Figure> {
    let answer = |record: &Record| match &record.expected {
        Expected::Choice { choices, .. } => chosen(record.text(), choices),
        _ => None,
    };
    let labelled: Vec<&Record> = records
        .iter()
        .copied()
        .filter(|record| matches!(record.expected, Expected::Choice { .. }))
        .collect();
    let mut groups: Vec<&String> = labelled.iter().flat_map(|r| &r.groups).collect();
    groups.sort();
    groups.dedup();
    let mut figures = vec![accuracy(&labelled, None, Unit::Ratio, answer)];
    for group in groups {
        let part: Vec<&Record> = labelled
            .iter()
            .copied()
            .filter(|record| record.groups.contains(group))
            .collect();
        figures.push(accuracy(&part, Some(group), Unit::Ratio, answer));
    }
    figures
}

/// Finds which of the choices an answer names: by its letter, alone or before `.`, `)`, `:` or a
/// blank, in brackets or not; or by its text.
pub fn chosen(text: &str, choices: &[String]) -> Option<usize> {
    let text = text.trim();
    let bare = text.trim_start_matches('(');
    let mut chars = bare.chars();
    if let Some(letter @ 'A'..='Z') = chars.next()
        && chars.next().is_none_or(|c| ".): \n".contains(c))
    {
        // `A dog` is no letter.
        let is_word = bare.len() > 1 && bare[1..].starts_with(' ') && !text.starts_with('(');
        let index = letter as usize - 'A' as usize;
        if index < choices.len() && !is_word {
            return Some(index);
        }
    }
    let plain = |text: &str| text.trim().trim_end_matches('.').to_lowercase();
    let found: Vec<usize> = (0..choices.len())
        .filter(|&i| plain(&choices[i]) == plain(text))
        .collect();
    match found[..] {
        [one] => Some(one),
        _ => None,
    }
}

fn accuracy(
    records: &[&Record],
    group: Option<&str>,
    unit: Unit,
    answer: impl Fn(&Record) -> Option<usize>,
) -> Figure {
    let scale = match unit {
        Unit::Percent => 100.,
        _ => 1.,
    };
    let (mut right, mut chance) = (0, 0.);
    let mut expected = Vec::new();
    for record in records {
        if let Expected::Choice { index, choices } = &record.expected {
            right += usize::from(answer(record) == Some(*index));
            chance += 1. / choices.len() as f64;
            expected.push(LETTERS.get(*index).copied().unwrap_or("F"));
        }
    }
    let n = expected.len();
    let most = most_frequent(expected.into_iter());
    let interval = Interval::wilson(right, n).map(|interval| Interval {
        low: interval.low * scale,
        high: interval.high * scale,
    });
    Figure {
        name: named("accuracy", group),
        value: ratio(right, n).map(|share| share * scale),
        unit,
        n,
        interval,
        chance: (n > 0).then(|| chance / n as f64 * scale),
        majority: most.and_then(|(_, count)| Some(ratio(count, n)? * scale)),
    }
}
