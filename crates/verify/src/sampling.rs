//! `sampling/`: which frames the reference takes of a clip.

use crate::{Fixtures, Report, folders_with, read_json};
use univi::{
    Result,
    frames::{FrameOptions, sample_frames},
};

#[derive(serde::Deserialize)]
struct Row {
    n_frames: usize,
    fps: f64,
    video_framerate: f64,
    max_frames: usize,
    start: Option<Seconds>,
    end: Option<Seconds>,
    indices: Option<Vec<usize>>,
}

/// The reference also takes seconds as text.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    fn value(&self) -> Option<f64> {
        match self {
            Seconds::Number(s) => Some(*s),
            Seconds::Text(text) => text.parse().ok(),
        }
    }
}

/// Compares every row's frames.
///
/// Where the reference fails, this library either fails with an error that says why (nothing lies
/// in the range), or does what its documentation promises: a stride of at least 1, and a start
/// without an end that runs to the end of the clip.
pub fn check(fixtures: &dyn Fixtures) -> Report {
    let mut report = Report::default();
    for root in folders_with(fixtures, "sampling/frame_indices.json") {
        let path = format!("{root}sampling/frame_indices.json");
        report.attempt("sampling", |report| {
            let rows: Vec<Row> = read_json(fixtures, &path)?;
            for (i, row) in rows.iter().enumerate() {
                let name = format!("sampling/row {i}");
                report.attempt(&name, |report| check_row(row, &name, report));
            }
            Ok(())
        });
    }
    report
}

fn check_row(row: &Row, name: &str, report: &mut Report) -> Result<()> {
    // The reference cuts fractions off and swaps a reversed pair; this library honours the first
    // and refuses the second.
    let seconds = |time: &Option<Seconds>| {
        let time_s = time.as_ref().and_then(Seconds::value);
        time_s.map(|time_s| time_s.trunc().max(0.0))
    };
    let (start_s, end_s) = match (seconds(&row.start), seconds(&row.end)) {
        (Some(start_s), Some(end_s)) if start_s > end_s => (Some(end_s), Some(start_s)),
        range_s => range_s,
    };
    let options = FrameOptions::default()
        .frame_rate(row.video_framerate.trunc())
        .max_frames(row.max_frames)
        .start_s(start_s)
        .end_s(end_s);
    let found = sample_frames(row.n_frames, row.fps, &options);
    let beyond_end_s = row.n_frames as f64 / row.fps + 1.0;
    let too_slow = row.fps / row.video_framerate.trunc() <= 0.5;
    match (&row.indices, found) {
        (Some(expected), found) => report.equal(name, &found?, expected),
        // Every frame is a candidate, as if the clip ran at the rate that is looked at.
        (None, found) if too_slow && row.n_frames > 0 && options.start_s.is_none() => {
            let every_frame = sample_frames(row.n_frames, options.frame_rate, &options)?;
            report.equal(name, &found?, &every_frame);
        }
        (None, Ok(found)) if options.start_s.is_some() && options.end_s.is_none() => {
            let end_s = Some(beyond_end_s);
            let to_the_end = sample_frames(row.n_frames, row.fps, &options.end_s(end_s))?;
            report.equal(name, &found, &to_the_end);
        }
        (None, Ok(found)) => report.measured(
            name,
            1.0,
            0.0,
            format!(
                "{} frames, where the reference finds none to take",
                found.len()
            ),
        ),
        (None, Err(error)) => {
            let says_why = error.code() == "bad-video";
            let wrong = if says_why { 0.0 } else { 1.0 };
            report.measured(name, wrong, 0.0, error.to_string());
        }
    }
    Ok(())
}
