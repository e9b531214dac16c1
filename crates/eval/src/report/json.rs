//! A report for programs.

use serde_json::{Value, json as value};

use super::Report;
use crate::metrics::Figure;

/// Returns the report as JSON.
pub fn json(report: &Report) -> Value {
    let figures = |figures: &[Figure]| -> Vec<Value> {
        let figure = |figure: &Figure| serde_json::to_value(figure).unwrap_or_default();
        figures.iter().map(figure).collect()
    };
    let published = report.benchmark.published.iter().map(|published| {
        let figures = published.figures.iter();
        let figures = figures.map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
        value!({ "model": published.model, "figures": Value::Object(figures.collect()) })
    });
    let failed = report.records.iter().filter_map(|record| {
        let reason = record.error.as_ref()?;
        Some(value!({ "sample": record.id, "reason": reason }))
    });
    let unjudged = report.judgements.iter().filter_map(|judgement| {
        let reason = judgement.error.as_ref()?;
        Some(value!({ "sample": judgement.id, "aspect": judgement.aspect, "reason": reason }))
    });
    value!({
        "benchmark": report.run.benchmark,
        "title": report.benchmark.title,
        "model": report.run.model,
        "model_sha256": report.run.model_sha256,
        "data_sha256": report.run.data_sha256,
        "command": report.run.command,
        "options": report.run.options,
        "samples": report.run.samples,
        "answered": report.answered(),
        "visual_tokens": report.visual_tokens(),
        "figures": figures(&report.figures),
        "others": report.others.iter().map(|other| value!({
            "model": other.model,
            "answered": other.answered,
            "figures": figures(&other.figures),
        })).collect::<Vec<_>>(),
        "published": published.collect::<Vec<_>>(),
        "faults": report.run.faults,
        "failed": failed.collect::<Vec<_>>(),
        "unjudged": unjudged.collect::<Vec<_>>(),
    })
}
