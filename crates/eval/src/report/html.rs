//! A report as one page that needs nothing else: style, plots and pictures are in it.

use super::{
    Report,
    markdown::{UNLABELLED, answer, expected, row, rows, wrong_head},
    plot::escaped,
};
use crate::{metrics::Figure, sample::Record};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;\
    padding:0 1rem;color:#222;background:#fff}table{border-collapse:collapse;margin:1rem 0;\
    display:block;overflow-x:auto}td,th{border:1px solid #ccc;padding:.25rem .6rem;\
    text-align:right}td:first-child,th:first-child{text-align:left}pre{background:#f4f4f4;\
    padding:.6rem;overflow-x:auto}figure{display:inline-block;vertical-align:top;width:260px;\
    margin:.5rem}figure img{max-width:100%}svg{max-width:100%;height:auto}";

/// Returns the page. `picture` returns the address of what an answer is about, as `data:..`, where
/// it can be shown.
pub fn html(report: &Report, picture: &dyn Fn(&Record) -> Option<String>) -> String {
    let title = format!("{} · {}", report.benchmark.title, report.run.model);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n<pre>{}</pre>\n\
         <p>{} of {} samples are answered.</p>\n",
        escaped(&report.run.command),
        report.answered(),
        report.run.samples,
        title = escaped(&title),
    );
    if report.is_unlabelled() {
        page += &format!("<p>{UNLABELLED}</p>\n");
    }
    page += &bars(&report.figures);
    let heads = ["figure", "value", "95 %", "n", "chance", "majority"].map(String::from);
    let figures = report.figures.iter().map(|figure| row(figure).to_vec());
    page += &table(&heads, figures);
    let others = rows(report);
    if others.len() > 1 {
        page += "<h2>Beside others</h2>\n";
        let names = report.figures.iter().map(|figure| figure.name.clone());
        let heads: Vec<String> = std::iter::once("model".to_owned()).chain(names).collect();
        let line =
            |(model, values): (String, Vec<String>)| std::iter::once(model).chain(values).collect();
        page += &table(&heads, others.into_iter().map(line));
    }
    page += &faults(report);
    let wrong = report.wrong();
    if !wrong.is_empty() {
        page += &format!("<h2>{}</h2>\n", wrong_head(report));
    }
    for record in wrong {
        let shown = picture(record).map_or(String::new(), |address| {
            format!("<img alt=\"\" src=\"{}\">", escaped(&address))
        });
        page += &format!(
            "<figure>{shown}<figcaption><b>{}</b><br>{}<br>expected: {}<br>answered: {}\
             </figcaption></figure>\n",
            escaped(&record.id),
            escaped(record.questions.first().map_or("", String::as_str)),
            escaped(&expected(record)),
            escaped(&answer(record)),
        );
    }
    page + "</html>\n"
}

fn faults(report: &Report) -> String {
    let faults = report.run.faults.iter();
    let faults = faults.map(|fault| vec![fault.sample.clone(), fault.reason.clone()]);
    let failed = report
        .records
        .iter()
        .filter_map(|record| Some(vec![record.id.clone(), record.error.clone()?]));
    let unjudged = report.judgements.iter().filter_map(|judgement| {
        let id = format!("{}, {}", judgement.id, judgement.aspect);
        Some(vec![id, judgement.error.clone()?])
    });
    let all: Vec<Vec<String>> = faults.chain(failed).chain(unjudged).collect();
    match all.is_empty() {
        true => String::new(),
        false => {
            let heads = ["sample", "reason"].map(String::from);
            "<h2>What has no answer or no verdict</h2>\n".to_owned()
                + &table(&heads, all.into_iter())
        }
    }
}

fn table(heads: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |mark: &str, cells: &[String]| {
        let cells = cells
            .iter()
            .map(|cell| format!("<{mark}>{}</{mark}>", escaped(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = rows.map(|row| line("td", &row)).collect();
    format!("<table>\n{}{rows}</table>\n", line("th", heads))
}

/// Figures as bars, with their intervals, chance and majority.
fn bars(figures: &[Figure]) -> String {
    const STEP: f64 = 26.;
    const LEFT: f64 = 220.;
    const WIDTH: f64 = 440.;
    let shown: Vec<(&Figure, f64)> = figures
        .iter()
        .filter_map(|figure| Some((figure, figure.unit.share(figure.value?))))
        .collect();
    let height = STEP * shown.len() as f64 + 8.;
    let mut svg = format!(
        "<svg viewBox=\"0 0 760 {height}\" width=\"760\" font-family=\"sans-serif\" \
         font-size=\"12\" role=\"img\"><title>figures</title>\n"
    );
    for (i, (figure, share)) in shown.iter().enumerate() {
        let top = STEP * i as f64 + 6.;
        let middle = top + 8.;
        svg += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"16\" fill=\"#56b4e9\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.,
            middle + 4.,
            escaped(&figure.name),
            share * WIDTH,
            LEFT + WIDTH + 12.,
            middle + 4.,
            figure.unit.show(figure.value.unwrap_or_default()),
        );
        let at = |value: f64| LEFT + figure.unit.share(value) * WIDTH;
        if let Some(interval) = figure.interval {
            svg += &format!(
                "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" \
                 stroke=\"#222\" stroke-width=\"2\"/>",
                at(interval.low),
                at(interval.high)
            );
        }
        for (value, colour) in [(figure.chance, "#d55e00"), (figure.majority, "#009e73")] {
            if let Some(value) = value {
                svg += &format!(
                    "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" \
                     stroke=\"{colour}\" stroke-width=\"2\"/>",
                    top - 2.,
                    top + 18.,
                    at = at(value)
                );
            }
        }
        svg += "\n";
    }
    svg + "</svg>\n<p>Line: 95 %. Orange: chance. Green: majority.</p>\n"
}
