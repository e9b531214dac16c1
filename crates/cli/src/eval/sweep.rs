//! Several ways of merging beside each other.

use std::path::Path;

use serde_json::json;
use univi::Result;
use univi_eval::{
    Figure, Record,
    report::plot::{Mark, Plot, Series},
};

use crate::{args::Merging, files, out};

/// What one way of merging came to.
pub struct Point {
    merging: Merging,
    /// The benchmark's main figure.
    figure: Option<Figure>,
    /// The mean of a sample.
    visual_tokens: f64,
    /// The median; `None` where nothing was measured.
    prefill_s: Option<f64>,
    /// What the KV cache takes for the longest prompt.
    kv_bytes: u64,
}

impl Point {
    /// Sums a run up.
    pub fn new(
        merging: Merging,
        figure: Option<Figure>,
        records: &[Record],
        prefill_s: Option<f64>,
        kv_bytes_per_token: u64,
    ) -> Point {
        let tokens: usize = records.iter().map(|record| record.visual_tokens).sum();
        let longest = records.iter().map(|record| record.prompt_tokens).max();
        Point {
            merging,
            figure,
            visual_tokens: tokens as f64 / records.len().max(1) as f64,
            prefill_s,
            kv_bytes: longest.unwrap_or(0) as u64 * kv_bytes_per_token,
        }
    }

    fn value(&self) -> Option<f64> {
        let figure = self.figure.as_ref()?;
        Some(figure.unit.in_papers(figure.value?))
    }
}

/// Writes `sweep.json` and the plots of the main figure over visual tokens, time and memory, and
/// prints a table.
///
/// # Errors
/// `Io`.
pub fn finish(folder: &Path, title: &str, points: &[Point]) -> Result<()> {
    if points.is_empty() {
        return Ok(());
    }
    let name = points
        .iter()
        .find_map(|point| Some(point.figure.as_ref()?.name.clone()));
    let name = name.unwrap_or("figure".into());
    type Axis = (&'static str, &'static str, fn(&Point) -> Option<f64>);
    let axes: [Axis; 3] = [
        ("tokens", "visual tokens", |point| Some(point.visual_tokens)),
        ("prefill", "median seconds to the first token", |point| {
            point.prefill_s
        }),
        ("memory", "KV cache of the longest prompt, KiB", |point| {
            Some(point.kv_bytes as f64 / 1024.)
        }),
    ];
    for (file, x, of) in axes {
        let mut series: Vec<Series> = Vec::new();
        for point in points {
            let (Some(x), Some(y)) = (of(point), point.value()) else {
                continue;
            };
            let interval = point.figure.as_ref().and_then(|figure| {
                let mut interval = figure.interval?;
                interval.low = figure.unit.in_papers(interval.low);
                interval.high = figure.unit.in_papers(interval.high);
                Some(interval)
            });
            let mark = Mark { x, y, interval };
            let name = point.merging.method.to_string();
            match series.iter_mut().find(|series| series.name == name) {
                Some(series) => series.marks.push(mark),
                None => series.push(Series {
                    name,
                    marks: vec![mark],
                }),
            }
        }
        let title = format!("{title}: {name}");
        let plot = Plot {
            title: &title,
            x,
            y: &name,
            series: &series,
        };
        let path = folder.join(format!("sweep-{file}.svg"));
        files::write(&path, plot.svg().as_bytes())?;
    }
    let rows = points.iter().map(|point| {
        json!({
            "merge": point.merging.method.to_string(),
            "visual_tokens_asked": point.merging.tokens,
            "visual_tokens": point.visual_tokens,
            "prefill_s": point.prefill_s,
            "kv_bytes": point.kv_bytes,
            "figure": point.figure,
        })
    });
    let rows = json!({ "points": rows.collect::<Vec<_>>() });
    let text = serde_json::to_string_pretty(&rows).unwrap_or_default() + "\n";
    files::write(&folder.join("sweep.json"), text.as_bytes())?;
    out::note(&format!("the plots are in {}", files::name(folder)));
    Ok(())
}
