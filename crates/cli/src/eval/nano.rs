//! `univi eval nano`: how often the small model is right.

use std::{ops::ControlFlow, path::PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use univi::{Error, Result, loader::LoadOptions};
use univi_train::{
    nano::eval::{Score, evaluate, kinds},
    world::{Styles, World},
};

use crate::{
    args::{DeviceChoice, KvCacheArg, WorldArgs},
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
    /// Questions for each choice of styles.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub questions: u32,
    /// Whose artwork.
    #[arg(long, value_enum, default_value_t = StylesChoice::Both)]
    pub styles: StylesChoice,
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
    let count = args.questions as usize;
    let mut report = Vec::new();
    for &styles in styles {
        let name = match styles {
            Styles::Unseen => "unseen style",
            Styles::Seen | Styles::Training => "seen styles",
        };
        let listener = Listener::new();
        let total = kinds(count).len() as u64;
        let mut progress = Progress::new(name, Unit::Items, total);
        let mut shown = 0;
        let scores = evaluate(&model, &world, styles, count, &mut |_, miss| {
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
        })
        .await?;
        drop(progress);
        if listener.pressed() {
            return Err(Error::Aborted);
        }
        if !args.json {
            out::line(&table(name, &scores))?;
        }
        report.push((name, scores));
    }
    if args.json {
        let sets = report.iter().map(|(name, scores)| json!({ "styles": name, "scores": scores.iter().map(of).collect::<Vec<_>>() }));
        out::json(&json!({ "device": device.name(), "sets": sets.collect::<Vec<_>>() }))?;
    }
    Ok(())
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
