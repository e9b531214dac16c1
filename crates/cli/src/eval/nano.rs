//! `univi eval nano`: how often the small model is right.

use std::{ops::ControlFlow, path::PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use univi::{Error, Model, Result, loader::LoadOptions};
use univi_eval::{
    Interval,
    report::plot::{Mark, Plot, Series},
};
use univi_train::{
    nano::eval::{Miss, Score, evaluate, kinds},
    world::{Styles, World},
};

use crate::{
    args::{DeviceChoice, KvCacheArg, MergeArgs, Merging, WorldArgs},
    files,
    interrupt::Listener,
    open, out,
    progress::{Progress, Unit},
};

/// Questions about held-out scenes and clips of the emoji world.
///
/// Greedy answers count where they are the expected ones, letter by letter. Beside each share stand
/// that of a guess, and that of always giving the most frequent answer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi eval nano
  univi eval nano --device cpu --questions 200 --styles unseen --misses 10
  univi eval nano --json > scores.json
  univi eval nano --visual-tokens 7,14,21,42,64 --merge clusters,pool,none --plot tokens.svg

Exit codes: 0 measured, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct EvalNanoArgs {
    /// The model.
    #[arg(long, short, value_name = "MODEL", default_value = "models/univi-nano")]
    pub model: PathBuf,
    /// The compute device.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    #[command(flatten)]
    pub kv_cache: KvCacheArg,
    /// About so many questions for each choice of styles: the share of each of the 18 kinds is
    /// rounded up, so that some more are asked, and never fewer than 18.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub questions: u32,
    /// Whose artwork.
    #[arg(long, value_enum, default_value_t = StylesChoice::Both)]
    pub styles: StylesChoice,
    #[command(flatten)]
    pub merge: MergeArgs,
    /// Draw right answers by visual tokens into this SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Show so many wrong answers.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub misses: u32,
    #[command(flatten)]
    pub world: WorldArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Whose artwork a model is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StylesChoice {
    /// The styles that it learned with, in scenes that it has not seen.
    Seen,
    /// A style that it has never seen.
    Unseen,
    /// One after the other.
    Both,
}

/// Asks, counts, and prints a table.
///
/// # Errors
/// What is wrong with the model; `Io` where the artwork is not there.
pub async fn run(args: &EvalNanoArgs) -> Result<()> {
    let device = open::device(args.device.into()).await?;
    let world = World::open(&args.world.artwork)?;
    let options = LoadOptions::default().kv_cache(args.kv_cache.ty());
    let model = open::model(&device, &args.model, &options).await?;
    let styles = match args.styles {
        StylesChoice::Seen => &[Styles::Seen][..],
        StylesChoice::Unseen => &[Styles::Unseen],
        StylesChoice::Both => &[Styles::Seen, Styles::Unseen],
    };
    match &args.merge.all()[..] {
        [merging] if args.plot.is_none() => {
            let mut report = Vec::new();
            for &styles in styles {
                let scores = measure(args, &model, &world, styles, *merging).await?;
                if !args.json {
                    out::line(&table(name(styles), &scores))?;
                }
                report.push((name(styles), scores));
            }
            if !args.json {
                return Ok(());
            }
            let sets = report.iter().map(|(name, scores)| {
                json!({ "styles": name, "scores": scores.iter().map(of).collect::<Vec<_>>() })
            });
            out::json(&json!({ "device": device.name(), "sets": sets.collect::<Vec<_>>() }))
        }
        all => {
            let mut points = Vec::new();
            for &merging in all {
                let tokens = model.vision(&merging.options())?.image_tokens();
                for &styles in styles {
                    let scores = measure(args, &model, &world, styles, merging).await?;
                    points.push(Point {
                        series: format!("{}, {}", merging.method, name(styles)),
                        tokens,
                        asked: scores.iter().map(|score| score.asked).sum(),
                        right: scores.iter().map(|score| score.right).sum(),
                    });
                }
            }
            sweep(args, &device.name(), &points)
        }
    }
}

fn name(styles: Styles) -> &'static str {
    match styles {
        Styles::Unseen => "unseen style",
        Styles::Seen | Styles::Training => "seen styles",
    }
}

async fn measure(
    args: &EvalNanoArgs,
    model: &Model,
    world: &World,
    styles: Styles,
    merging: Merging,
) -> Result<Vec<Score>> {
    let count = args.questions as usize;
    let listener = Listener::new();
    let label = match merging.tokens {
        Some(tokens) => format!("{}, {} to {tokens}", name(styles), merging.method),
        None => name(styles).to_owned(),
    };
    let mut progress = Progress::new(label, Unit::Items, kinds(count).len() as u64);
    let mut shown = 0;
    let mut on_answer = |_, miss: Option<Miss>| {
        progress.advance(1);
        if let Some(miss) = miss.filter(|_| shown < args.misses) {
            shown += 1;
            progress.aside(|| {
                out::note(&format!(
                    "{}\n  expected {:?}, said {:?}",
                    miss.question, miss.expected, miss.said
                ))
            });
        }
        match listener.pressed() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let options = merging.options();
    let scores = evaluate(model, world, styles, count, &options, &mut on_answer).await?;
    match listener.pressed() {
        true => Err(Error::Aborted),
        false => Ok(scores),
    }
}

/// How often the model was right with so many visual tokens.
struct Point {
    series: String,
    tokens: usize,
    asked: usize,
    right: usize,
}

/// Prints the points of a sweep, and draws them.
fn sweep(args: &EvalNanoArgs, device: &str, points: &[Point]) -> Result<()> {
    let shares: Vec<(f64, Option<Interval>)> = points
        .iter()
        .map(|point| {
            let share = 100. * point.right as f64 / point.asked.max(1) as f64;
            let percent = |interval: Interval| Interval {
                low: 100. * interval.low,
                high: 100. * interval.high,
            };
            (
                share,
                Interval::wilson(point.right, point.asked).map(percent),
            )
        })
        .collect();
    if let Some(path) = &args.plot {
        let mut series: Vec<Series> = Vec::new();
        for (point, (share, interval)) in points.iter().zip(&shares) {
            let mark = Mark {
                x: point.tokens as f64,
                y: *share,
                interval: *interval,
            };
            match series.iter_mut().find(|series| series.name == point.series) {
                Some(series) => series.marks.push(mark),
                None => series.push(Series {
                    name: point.series.clone(),
                    marks: vec![mark],
                }),
            }
        }
        let plot = Plot {
            title: "univi-nano: right answers by visual tokens",
            x: "visual tokens of a picture",
            y: "right answers, %",
            series: &series,
        };
        files::write(path, plot.svg().as_bytes())?;
    }
    let rows = points.iter().zip(&shares);
    if args.json {
        let points = rows.map(|(point, (share, interval))| {
            json!({
                "series": point.series,
                "visual_tokens": point.tokens,
                "asked": point.asked,
                "right": point.right,
                "percent": share,
                "interval": interval,
            })
        });
        return out::json(&json!({ "device": device, "points": points.collect::<Vec<_>>() }));
    }
    let mut text = format!(
        "{:28}{:>8}{:>8}{:>10}   95 %",
        "merging", "tokens", "asked", "right"
    );
    for (point, (share, interval)) in rows {
        let interval = interval.map_or("-".into(), |interval| {
            format!("{:.1} - {:.1}", interval.low, interval.high)
        });
        text += &format!(
            "\n{:28}{:>8}{:>8}{share:>8.1} %   {interval}",
            point.series, point.tokens, point.asked
        );
    }
    out::line(&text)
}

fn of(score: &Score) -> serde_json::Value {
    json!({
        "kind": score.kind.label(),
        "asked": score.asked,
        "right": score.right,
        "majority": score.majority,
        "chance": score.chance(),
        "yes": score.yes,
    })
}

fn table(name: &str, scores: &[Score]) -> String {
    let percent = |n: usize, of: usize| format!("{:.1} %", 100. * n as f64 / of.max(1) as f64);
    let mut text = format!(
        "{name}\n{:24}{:>7}{:>10}{:>10}{:>10}\n",
        "question", "asked", "right", "chance", "majority"
    );
    let (mut asked, mut right) = (0, 0);
    for score in scores {
        let chance = score
            .chance()
            .map_or("-".into(), |chance| format!("{:.1} %", 100. * chance));
        text += &format!(
            "{:24}{:>7}{:>10}{chance:>10}{:>10}",
            score.kind.label(),
            score.asked,
            percent(score.right, score.asked),
            percent(score.majority, score.asked)
        );
        if let Some(yes) = score.yes {
            text += &format!("   yes: {:.1} %", 100. * yes);
        }
        text += "\n";
        asked += score.asked;
        right += score.right;
    }
    text + &format!("{:24}{asked:>7}{:>10}\n", "all", percent(right, asked))
}
