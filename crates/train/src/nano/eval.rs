//! How often `univi-nano` is right: questions about held-out scenes and clips, answered as anybody
//! would ask them.

use std::{collections::BTreeMap, ops::ControlFlow};

use univi::{
    Model, Part, Result, Visual, VisualOptions,
    session::{GenerateOptions, SessionOptions},
};

use super::{data, recipe::HELD_OUT};
use crate::world::{Exchange, Kind, Styles, VisualSample, World};

/// How often answers to a kind of question are right.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// What is asked.
    pub kind: Kind,
    /// How many questions.
    pub asked: usize,
    /// How many answers are the expected one, letter by letter.
    pub right: usize,
    /// How many the answer that is most often expected would have got right.
    pub majority: usize,
    /// The share of expected answers that are "yes", where they are yes or no.
    pub yes: Option<f64>,
}

impl Score {
    /// Returns the share that a guess among all possible answers gets right, where those can be
    /// counted.
    pub fn chance(&self) -> Option<f64> {
        match self.kind {
            Kind::Name | Kind::First | Kind::Last | Kind::New => Some(0.01),
            Kind::Presence | Kind::ClipPresence | Kind::Larger | Kind::Change => Some(0.5),
            Kind::Background => Some(0.1),
            Kind::Where | Kind::Direction => Some(0.25),
            _ => None,
        }
    }
}

/// An answer that was not the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// What was asked.
    pub question: String,
    /// What would have been right.
    pub expected: String,
    /// What was said.
    pub said: String,
}

/// Returns the kinds of `count` questions: most about what a picture or clip shows, each of the
/// others now and then.
pub fn kinds(count: usize) -> Vec<Kind> {
    const WEIGHTS: [(Kind, usize); 18] = [
        (Kind::Name, 8),
        (Kind::Presence, 8),
        (Kind::Background, 8),
        (Kind::CountOf, 8),
        (Kind::CountAll, 8),
        (Kind::Where, 8),
        (Kind::List, 8),
        (Kind::First, 8),
        (Kind::Last, 8),
        (Kind::Direction, 8),
        (Kind::ClipPresence, 8),
        (Kind::Larger, 2),
        (Kind::Caption, 2),
        (Kind::Dialogue, 2),
        (Kind::Scenes, 2),
        (Kind::New, 2),
        (Kind::Change, 1),
        (Kind::ClipCaption, 1),
    ];
    let all: usize = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut kinds: Vec<Kind> = WEIGHTS
        .iter()
        .flat_map(|&(kind, weight)| vec![kind; (count * weight).div_ceil(all)])
        .collect();
    kinds.sort();
    kinds
}

/// Returns the question of this number, and what it is about.
pub fn question(
    world: &World,
    styles: Styles,
    number: usize,
    kind: Kind,
) -> (VisualSample, Exchange) {
    let mut rng = data::rng(HELD_OUT ^ styles as u64, kind as u64, number);
    world.question(&mut rng, kind, styles)
}

/// Asks about `count` held-out pictures and clips, encoded so, greedily, and counts. `on_answer`
/// gets what was missed, if it was, and may break off: then the scores are of what was asked until
/// then.
///
/// # Errors
/// As [`Session::ask`](univi::Session::ask).
pub async fn evaluate(
    model: &Model,
    world: &World,
    styles: Styles,
    count: usize,
    visual_options: &VisualOptions,
    on_answer: &mut dyn FnMut(Kind, Option<Miss>) -> ControlFlow<()>,
) -> Result<Vec<Score>> {
    let mut session = model.session(SessionOptions::default());
    let greedy = GenerateOptions::greedy().max_tokens(64);
    let mut expected: BTreeMap<Kind, BTreeMap<String, usize>> = BTreeMap::new();
    let mut right: BTreeMap<Kind, usize> = BTreeMap::new();
    for (number, kind) in kinds(count).into_iter().enumerate() {
        let (view, exchange) = question(world, styles, number, kind);
        let mut visual = Some(look(model, view, visual_options).await?);
        session.clear();
        let mut said = String::new();
        for (question, _) in &exchange.turns {
            let visual = visual.take().map(Part::from);
            let parts: Vec<Part> = visual
                .into_iter()
                .chain([question.as_str().into()])
                .collect();
            let answer = session.ask(parts, &greedy).await?.finish().await?;
            said = answer.text;
        }
        let Some((question, answer)) = exchange.turns.last().cloned() else {
            continue;
        };
        let answers = expected.entry(kind).or_default();
        *answers.entry(answer.clone()).or_default() += 1;
        let missed = said != answer;
        *right.entry(kind).or_default() += usize::from(!missed);
        let miss = missed.then_some(Miss {
            question,
            expected: answer,
            said,
        });
        if on_answer(kind, miss).is_break() {
            break;
        }
    }
    let score = |(kind, answers): (Kind, BTreeMap<String, usize>)| {
        let asked = answers.values().sum();
        let yes = answers
            .iter()
            .filter(|(answer, _)| answer.to_lowercase().starts_with("yes"))
            .map(|(_, count)| count)
            .sum::<usize>();
        Score {
            kind,
            asked,
            right: right.get(&kind).copied().unwrap_or(0),
            majority: answers.values().copied().max().unwrap_or(0),
            yes: matches!(kind, Kind::Presence | Kind::ClipPresence)
                .then(|| yes as f64 / asked as f64),
        }
    };
    Ok(expected.into_iter().map(score).collect())
}

async fn look(model: &Model, view: VisualSample, options: &VisualOptions) -> Result<Visual> {
    let vision = model.vision(options)?;
    match view {
        VisualSample::Scene(scene) => vision.image(&scene.pixels).await,
        VisualSample::Clip(clip) => {
            let frames = clip.frames.into_iter();
            vision.video(frames.map(|frame| Ok(frame.pixels))).await
        }
    }
}
