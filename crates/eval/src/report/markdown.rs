//! A report for people.

use super::Report;
use crate::{
    metrics::{Figure, Interval},
    sample::{Expected, Record},
};

/// What a report says where nothing can be counted.
pub(super) const UNLABELLED: &str = "The data holds no right answers: nothing is scored here.";

/// Returns the report as Markdown.
pub fn markdown(report: &Report) -> String {
    let run = report.run;
    let mut text = format!(
        "# {} · {}\n\n```\n{}\n```\n\n{} of {} samples are answered.\n\n",
        report.benchmark.title,
        run.model,
        run.command,
        report.answered(),
        run.samples,
    );
    if report.is_unlabelled() {
        text += &format!("{UNLABELLED}\n\n");
    }
    text += "| figure | value | 95 % | n | chance | majority |\n| --- | --- | --- | --- | --- | --- |\n";
    for figure in &report.figures {
        text += &format!("| {} |\n", row(figure).join(" | "));
    }
    text += &comparison(report);
    if !run.faults.is_empty() || report.failed() > 0 {
        text += "\n## What has no answer\n\n";
        for fault in &run.faults {
            text += &format!(
                "- {}: {}\n",
                one_line(&fault.sample),
                one_line(&fault.reason)
            );
        }
        for record in report.records {
            if let Some(reason) = &record.error {
                text += &format!("- {}: {}\n", one_line(&record.id), one_line(reason));
            }
        }
    }
    let unjudged: Vec<_> = report
        .judgements
        .iter()
        .filter(|j| j.error.is_some())
        .collect();
    if !unjudged.is_empty() {
        text += "\n## What has no verdict\n\n";
        for judgement in unjudged {
            let reason = judgement.error.as_deref().unwrap_or_default();
            let (id, aspect) = (one_line(&judgement.id), &judgement.aspect);
            text += &format!("- {id}, {aspect}: {}\n", one_line(reason));
        }
    }
    let wrong = report.wrong();
    if !wrong.is_empty() {
        text += &format!("\n## {}\n\n", wrong_head(report));
        for record in wrong {
            let question = record.questions.first().map_or("", String::as_str);
            text += &format!(
                "- {}: {} Expected {}, answered {}.\n",
                one_line(&record.id),
                one_line(question),
                one_line(&expected(record)),
                one_line(&format!("{:?}", answer(record))),
            );
        }
    }
    text
}

/// Returns the figures as a table for a terminal.
pub fn table(report: &Report) -> String {
    let heads = ["figure", "value", "95 %", "n", "chance", "majority"].map(String::from);
    let rows: Vec<[String; 6]> = std::iter::once(heads)
        .chain(report.figures.iter().map(row))
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let line = |row: &[String; 6]| {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<0$}", width(0)),
            _ => format!("{cell:>0$}", width(column)),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What a figure's row of a table holds.
pub(super) fn row(figure: &Figure) -> [String; 6] {
    let show = |value: f64| figure.unit.show(value);
    let or_dash = |value: Option<f64>| value.map_or("-".into(), show);
    let interval = |interval: Interval| format!("{} - {}", show(interval.low), show(interval.high));
    [
        one_line(&figure.name),
        or_dash(figure.value),
        figure.interval.map_or("-".into(), interval),
        figure.n.to_string(),
        or_dash(figure.chance),
        or_dash(figure.majority),
    ]
}

/// The rows of a comparison: a model, and its values of the figures in their order.
pub(super) fn rows(report: &Report) -> Vec<(String, Vec<String>)> {
    let value = |figures: &[Figure], name: &str| {
        let figure = figures.iter().find(|figure| figure.name == name);
        figure.and_then(|figure| Some(figure.unit.show(figure.value?)))
    };
    let names = || report.figures.iter().map(|figure| figure.name.as_str());
    let dash = |value: Option<String>| value.unwrap_or("-".into());
    let own = names().map(|name| dash(value(&report.figures, name)));
    // Figures of fewer questions are not to be taken for those of all.
    let named = |model: &str, answered: usize| match report.records.len() {
        all if answered < all => format!("{model}, {answered} of {all} answered"),
        _ => model.to_owned(),
    };
    let model = named(&report.run.model, report.answered());
    let mut rows = vec![(model, own.collect())];
    for other in &report.others {
        let values = names().map(|name| dash(value(&other.figures, name)));
        rows.push((named(&other.model, other.answered), values.collect()));
    }
    for published in report.benchmark.published {
        let values = names().map(|name| {
            let found = published.figures.iter().find(|(own, _)| *own == name);
            dash(found.map(|(_, value)| format!("{value:.2}")))
        });
        rows.push((format!("{}, published", published.model), values.collect()));
    }
    rows
}

fn comparison(report: &Report) -> String {
    let rows = rows(report);
    if rows.len() < 2 {
        return String::new();
    }
    let names: Vec<String> = report.figures.iter().map(|f| one_line(&f.name)).collect();
    let mut text = format!(
        "\n## Beside others\n\n| model | {} |\n|{}\n",
        names.join(" | "),
        " --- |".repeat(names.len() + 1)
    );
    for (model, values) in rows {
        text += &format!("| {} | {} |\n", one_line(&model), values.join(" | "));
    }
    text
}

/// The head of the wrong answers: how many there are, where not all of them are shown.
pub(super) fn wrong_head(report: &Report) -> String {
    match (report.wrong().len(), report.wrong_count()) {
        (shown, all) if shown < all => format!("Wrong answers, the first {shown} of {all}"),
        _ => "Wrong answers".into(),
    }
}

/// What would have been right, for people.
pub(super) fn expected(record: &Record) -> String {
    match &record.expected {
        Expected::Unknown => "-".into(),
        Expected::Text(text) => format!("{text:?}"),
        Expected::Texts(texts) => format!("{:?}", texts.first().map_or("", String::as_str)),
        Expected::Choice { index, choices } => {
            format!("{} ({:?})", (b'A' + *index as u8) as char, choices[*index])
        }
    }
}

/// What was answered, for people.
pub(super) fn answer(record: &Record) -> String {
    match (&record.choice, &record.texts[..]) {
        (Some(choice), _) => choice.clone(),
        (None, texts) => texts.join(" / "),
    }
}

/// Data of strangers in a line of Markdown.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|").replace('<', "&lt;")
}
