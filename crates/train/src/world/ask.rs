//! What can be asked about scenes and clips, in plain English, and the one right answer.
//!
//! A question is asked only where its answer is definite. How it is put decides how it is answered:
//! in a word or two, or in a sentence where it says so.

use rand::{
    RngExt,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;

use super::{
    clip::{Plot, Shot, Story},
    scene::{COLOURS, Layout, Thing},
    things::{Class, Number, THINGS},
};

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What is it?
    Name,
    /// Is there a ..?
    Presence,
    /// What colour is the background?
    Background,
    /// How many of a kind?
    CountOf,
    /// How many of everything?
    CountAll,
    /// In which quarter?
    Where,
    /// What is there, from left to right?
    List,
    /// Which of two is larger?
    Larger,
    /// Everything in a sentence.
    Caption,
    /// Several turns that refer back.
    Dialogue,
    /// What appears first in a clip?
    First,
    /// What appears last?
    Last,
    /// Which way does it move?
    Direction,
    /// Is there a .. at any time of a clip?
    ClipPresence,
    /// How many scenes does a clip have?
    Scenes,
    /// What is new in the last scene?
    New,
    /// Does it grow or shrink?
    Change,
    /// What happens, in a sentence.
    ClipCaption,
}

impl Kind {
    /// All kinds, those about pictures first.
    pub const ALL: [Kind; 18] = [
        Kind::Name,
        Kind::Presence,
        Kind::Background,
        Kind::CountOf,
        Kind::CountAll,
        Kind::Where,
        Kind::List,
        Kind::Larger,
        Kind::Caption,
        Kind::Dialogue,
        Kind::First,
        Kind::Last,
        Kind::Direction,
        Kind::ClipPresence,
        Kind::Scenes,
        Kind::New,
        Kind::Change,
        Kind::ClipCaption,
    ];

    /// Returns whether it is about a clip.
    pub fn of_clip(self) -> bool {
        self >= Kind::First
    }

    /// In a table.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Name => "name",
            Kind::Presence => "presence",
            Kind::Background => "background colour",
            Kind::CountOf => "how many of a kind",
            Kind::CountAll => "how many things",
            Kind::Where => "where",
            Kind::List => "list all",
            Kind::Larger => "which is larger",
            Kind::Caption => "caption",
            Kind::Dialogue => "dialogue",
            Kind::First => "clip: first",
            Kind::Last => "clip: last",
            Kind::Direction => "clip: direction",
            Kind::ClipPresence => "clip: presence",
            Kind::Scenes => "clip: how many scenes",
            Kind::New => "clip: what is new",
            Kind::Change => "clip: grows or shrinks",
            Kind::ClipCaption => "clip: caption",
        }
    }
}

/// Questions and answers about one visual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What they are about.
    pub kind: Kind,
    /// Question and answer, in turn.
    pub turns: Vec<(String, String)>,
}

/// What makes a question ask for a sentence.
const SENTENCE: &str = " Answer in a sentence.";
/// How often it does.
const SENTENCES: f64 = 0.3;

/// How far, in image widths, a middle is from the middle lines of the picture at least, where its
/// quarter is asked for.
const CLEARLY: f32 = 0.08;
/// How far middles are apart at least, where an order from left to right is asked for.
const BESIDE: f32 = 0.06;
/// How much larger one thing is at least, where it is asked which is.
const LARGER: f32 = 1.25;

/// Picks a way to put a question, and gives the short answer or the sentence.
fn exchange(
    rng: &mut ChaCha8Rng,
    kind: Kind,
    questions: &[&str],
    short: impl Into<String>,
    sentence: impl Into<String>,
) -> Exchange {
    let question = *questions.choose(rng).expect("there is a way to put it");
    let turn = match rng.random_bool(SENTENCES) {
        true => (format!("{question}{SENTENCE}"), sentence.into()),
        false => (question.to_string(), short.into()),
    };
    Exchange {
        kind,
        turns: vec![turn],
    }
}

fn class(thing: &Thing) -> &'static Class {
    &THINGS[thing.class]
}

/// "a, b and c"
fn enumerate(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// "top left" and the like, where that is clear.
fn quarter(thing: &Thing) -> Option<String> {
    let [x, y] = thing.centre.map(|x| x - 0.5);
    let clear = x.abs() >= CLEARLY && y.abs() >= CLEARLY;
    let row = if y < 0. { "top" } else { "bottom" };
    let column = if x < 0. { "left" } else { "right" };
    clear.then(|| format!("{row} {column}"))
}

impl Layout {
    fn count(&self, class: usize) -> usize {
        self.things
            .iter()
            .filter(|thing| thing.class == class)
            .count()
    }

    /// From left to right, where that order is clear.
    fn in_order(&self) -> Option<Vec<&Thing>> {
        let mut things: Vec<&Thing> = self.things.iter().collect();
        things.sort_by(|a, b| a.centre[0].total_cmp(&b.centre[0]));
        let clear = things
            .windows(2)
            .all(|pair| pair[1].centre[0] - pair[0].centre[0] >= BESIDE);
        clear.then_some(things)
    }

    fn absent(&self, rng: &mut ChaCha8Rng) -> usize {
        loop {
            let class = rng.random_range(0..THINGS.len());
            if self.count(class) == 0 {
                return class;
            }
        }
    }

    /// A question of a kind, where the layout allows one. `yes` decides whether something that is
    /// there is asked for.
    pub fn question(&self, rng: &mut ChaCha8Rng, kind: Kind, yes: bool) -> Option<Exchange> {
        let colour = COLOURS[self.background].0;
        let any = self.things.choose(rng)?;
        let e = match kind {
            Kind::Name => {
                let [thing] = &self.things[..] else {
                    return None;
                };
                let class = class(thing);
                let questions = [
                    "What is this?",
                    "What is in the picture?",
                    "Name the thing in the picture.",
                    "What can you see?",
                ];
                let verb = if class.number == Number::Several {
                    "They are"
                } else {
                    "It is"
                };
                exchange(
                    rng,
                    kind,
                    &questions,
                    class.name,
                    format!("{verb} {}.", class.with_article()),
                )
            }
            Kind::Presence => {
                let class = if yes { any.class } else { self.absent(rng) };
                let it = THINGS[class].with_article();
                let questions = [
                    format!("Can you see {it}?"),
                    format!("Do you see {it} in the picture?"),
                    format!("Does the picture show {it}?"),
                ];
                presence(rng, kind, &questions, &it, yes)
            }
            Kind::Background => {
                let questions = [
                    "What colour is the background?",
                    "Which colour is behind the things?",
                    "What is the colour of the background?",
                ];
                exchange(
                    rng,
                    kind,
                    &questions,
                    colour,
                    format!("The background is {colour}."),
                )
            }
            Kind::CountOf => {
                let counted = if yes { any.class } else { self.absent(rng) };
                let class = &THINGS[counted];
                if class.number != Number::One {
                    return None;
                }
                let count = self.count(counted);
                let questions = [
                    format!("How many {} are there?", class.plural),
                    format!("How many {} can you see?", class.plural),
                    format!("Count the {}.", class.plural),
                ];
                let sentence = match count {
                    0 => format!("I can't see {}.", class.with_article()),
                    1 => format!("There is 1 {}.", class.name),
                    n => format!("There are {n} {}.", class.plural),
                };
                exchange(
                    rng,
                    kind,
                    &questions.each_ref().map(|q| &**q),
                    count.to_string(),
                    sentence,
                )
            }
            Kind::CountAll => {
                let count = self.things.len();
                let questions = [
                    "How many things are there?",
                    "How many things are in the picture?",
                    "Count the things.",
                ];
                let sentence = match count {
                    1 => "There is 1 thing.".to_string(),
                    n => format!("There are {n} things."),
                };
                exchange(rng, kind, &questions, count.to_string(), sentence)
            }
            Kind::Where if !yes => {
                let class = &THINGS[self.absent(rng)];
                let answer = format!("I can't see {}.", class.with_article());
                let question = format!("Where {} the {}?", class.is(), class.name);
                exchange(rng, kind, &[&question], answer.clone(), answer)
            }
            Kind::Where => {
                let clear: Vec<&Thing> = self
                    .things
                    .iter()
                    .filter(|thing| self.count(thing.class) == 1 && quarter(thing).is_some())
                    .collect();
                let thing = *clear.choose(rng)?;
                let (class, at) = (class(thing), quarter(thing)?);
                let questions = [
                    format!("Where {} the {}?", class.is(), class.name),
                    format!("Where in the picture {} the {}?", class.is(), class.name),
                    format!("Where can you see the {}?", class.name),
                ];
                let sentence = format!("The {} {} at the {at}.", class.name, class.is());
                exchange(rng, kind, &questions.each_ref().map(|q| &**q), at, sentence)
            }
            Kind::List => {
                let things = self.in_order()?;
                let names: Vec<String> = things
                    .iter()
                    .map(|thing| class(thing).name.to_string())
                    .collect();
                let all: Vec<String> = things
                    .iter()
                    .map(|thing| class(thing).with_article())
                    .collect();
                let questions = [
                    "List everything from left to right.",
                    "What is there from left to right?",
                    "Name all things from left to right.",
                ];
                let sentence = format!("From left to right I can see {}.", enumerate(&all));
                exchange(rng, kind, &questions, enumerate(&names), sentence)
            }
            Kind::Larger => {
                let mut pair: Vec<&Thing> = self
                    .things
                    .iter()
                    .filter(|thing| self.count(thing.class) == 1)
                    .collect();
                pair.shuffle(rng);
                let [a, b, ..] = pair[..] else { return None };
                let (large, small) = if a.size > b.size { (a, b) } else { (b, a) };
                if large.size < LARGER * small.size {
                    return None;
                }
                let (a, b, large) = (class(a).name, class(b).name, class(large));
                let questions = [
                    format!("Which is larger, the {a} or the {b}?"),
                    format!("What is larger, the {a} or the {b}?"),
                ];
                let sentence = format!("The {} {} larger.", large.name, large.is());
                exchange(
                    rng,
                    kind,
                    &questions.each_ref().map(|q| &**q),
                    format!("the {}", large.name),
                    sentence,
                )
            }
            Kind::Caption => {
                let questions = ["Describe the picture.", "What does the picture show?"];
                let question = *questions.choose(rng)?;
                Exchange {
                    kind,
                    turns: vec![(question.into(), self.caption()?)],
                }
            }
            Kind::Dialogue => self.dialogue(rng)?,
            _ => return None,
        };
        Some(e)
    }

    fn caption(&self) -> Option<String> {
        self.shown().map(|shown| format!("{}.", capital(&shown)))
    }

    /// "a dog and 2 cats on a blue background", in the order of the leftmost of each kind.
    fn shown(&self) -> Option<String> {
        let mut mentioned: Vec<usize> = Vec::new();
        for thing in self.in_order()? {
            if !mentioned.contains(&thing.class) {
                mentioned.push(thing.class);
            }
        }
        let words: Vec<String> = mentioned
            .into_iter()
            .map(|class| match self.count(class) {
                1 => THINGS[class].with_article(),
                n => format!("{n} {}", THINGS[class].plural),
            })
            .collect();
        let colour = COLOURS[self.background].0;
        let article = if colour == "orange" { "an" } else { "a" };
        Some(format!(
            "{} on {article} {colour} background",
            enumerate(&words)
        ))
    }

    /// Turns that refer back with "it" and "and", and now and then one that does not.
    fn dialogue(&self, rng: &mut ChaCha8Rng) -> Option<Exchange> {
        let alone: Vec<&Thing> = self
            .things
            .iter()
            .filter(|thing| self.count(thing.class) == 1 && quarter(thing).is_some())
            .filter(|thing| class(thing).number == Number::One)
            .collect();
        let thing = *alone.choose(rng)?;
        let colour = COLOURS[self.background].0;
        let turn = |question: String, answer: &str| (question, answer.to_string());
        let mut turns = match self.things.len() {
            1 => vec![turn("What is this?".into(), class(thing).name)],
            _ => vec![turn(
                format!("Can you see {}?", class(thing).with_article()),
                "yes",
            )],
        };
        turns.push(turn("Where is it?".into(), &quarter(thing)?));
        let last = rng.random_range(0..6);
        if last == 0 {
            let question = "What colour is the background?";
            turns.push(turn(question.into(), colour));
        } else if last == 1 {
            let question = "How many things are there?";
            turns.push(turn(question.into(), &self.things.len().to_string()));
        } else if last < 4 {
            turns.push(turn("What colour is behind it?".into(), colour));
        } else {
            let yes = rng.random_bool(0.5) && self.things.len() > 1;
            let others: Vec<&Thing> = self
                .things
                .iter()
                .filter(|other| other.class != thing.class)
                .collect();
            let other = match others.choose(rng).filter(|_| yes) {
                Some(other) => other.class,
                None => self.absent(rng),
            };
            let answer = if self.count(other) > 0 { "yes" } else { "no" };
            turns.push(turn(
                format!("And {}?", THINGS[other].with_article()),
                answer,
            ));
        }
        Some(Exchange {
            kind: Kind::Dialogue,
            turns,
        })
    }

    /// Returns what a model learns from: questions of all kinds that are definite here, those that
    /// are hard to learn more often.
    pub fn questions(&self, rng: &mut ChaCha8Rng, most: usize) -> Vec<Exchange> {
        use Kind::*;
        let kinds = [
            (Name, true),
            (Presence, true),
            (Presence, false),
            (Background, true),
            (CountOf, true),
            (CountOf, true),
            (CountOf, rng.random_bool(0.5)),
            (CountAll, true),
            (CountAll, true),
            (CountAll, true),
            (Where, true),
            (Where, true),
            (Where, rng.random_bool(0.8)),
            (List, true),
            (List, true),
            (List, true),
            (Larger, true),
            (Larger, true),
            (Caption, true),
            (Dialogue, true),
        ];
        pick(rng, &kinds, most, |rng, kind, yes| {
            self.question(rng, kind, yes)
        })
    }
}

fn presence(
    rng: &mut ChaCha8Rng,
    kind: Kind,
    questions: &[String],
    it: &str,
    yes: bool,
) -> Exchange {
    let questions: Vec<&str> = questions.iter().map(|question| &**question).collect();
    let (short, sentence) = match yes {
        true => ("yes", format!("Yes, I can see {it}.")),
        false => ("no", format!("No, I can't see {it}.")),
    };
    exchange(rng, kind, &questions, short, sentence)
}

/// Up to `most` questions of these kinds, none twice.
fn pick(
    rng: &mut ChaCha8Rng,
    kinds: &[(Kind, bool)],
    most: usize,
    mut question: impl FnMut(&mut ChaCha8Rng, Kind, bool) -> Option<Exchange>,
) -> Vec<Exchange> {
    let mut kinds = kinds.to_vec();
    kinds.shuffle(rng);
    let mut picked: Vec<Exchange> = Vec::new();
    for (kind, yes) in kinds {
        if picked.len() == most {
            break;
        }
        if let Some(exchange) = question(rng, kind, yes).filter(|e| !picked.contains(e)) {
            picked.push(exchange);
        }
    }
    picked
}

impl Story {
    /// A question of a kind, where the story allows one. `yes` decides whether something that is
    /// there is asked for.
    pub fn question(&self, rng: &mut ChaCha8Rng, kind: Kind, yes: bool) -> Option<Exchange> {
        let actors: Vec<usize> = self.actors().map(|actor| actor.class).collect();
        let first = &THINGS[*actors.first()?];
        let e = match (kind, self.plot) {
            (Kind::First, Plot::Entrances) => {
                let questions = [
                    "What appears first?",
                    "Which thing is there first?",
                    "What comes first?",
                ];
                exchange(
                    rng,
                    kind,
                    &questions,
                    first.name,
                    format!("The {} appears first.", first.name),
                )
            }
            (Kind::Last, Plot::Entrances) => {
                let last = &THINGS[*actors.last()?];
                let questions = [
                    "What appears last?",
                    "Which thing is the last to appear?",
                    "What comes last?",
                ];
                exchange(
                    rng,
                    kind,
                    &questions,
                    last.name,
                    format!("The {} appears last.", last.name),
                )
            }
            (Kind::Direction, Plot::Motion(direction)) => {
                let questions = [
                    format!("Which way does the {} move?", first.name),
                    format!("Where does the {} move to?", first.name),
                    format!("In which direction does the {} go?", first.name),
                ];
                let word = direction.word();
                let sentence = format!("The {} moves {word}.", first.name);
                exchange(
                    rng,
                    kind,
                    &questions.each_ref().map(|q| &**q),
                    word,
                    sentence,
                )
            }
            (Kind::Change, Plot::Change { grows }) => {
                let questions = [
                    format!("How does the {} change?", first.name),
                    format!("Does the {} grow or shrink?", first.name),
                ];
                let word = if grows { "grows" } else { "shrinks" };
                let sentence = format!("The {} {word}.", first.name);
                exchange(
                    rng,
                    kind,
                    &questions.each_ref().map(|q| &**q),
                    format!("it {word}"),
                    sentence,
                )
            }
            (Kind::ClipPresence, _) => {
                let class = match yes {
                    true => *actors.choose(rng)?,
                    false => loop {
                        let class = rng.random_range(0..THINGS.len());
                        if !actors.contains(&class) {
                            break class;
                        }
                    },
                };
                let it = THINGS[class].with_article();
                let questions = [
                    format!("Can you see {it} at any time?"),
                    format!("Does the clip show {it}?"),
                    format!("Do you see {it} in the clip?"),
                ];
                presence(rng, kind, &questions, &it, yes)
            }
            (Kind::Scenes, _) => {
                let count = self.shots.len();
                let questions = [
                    "How many scenes are there?",
                    "How many scenes does the clip have?",
                    "Count the scenes.",
                ];
                let sentence = match count {
                    1 => "There is 1 scene.".to_string(),
                    n => format!("There are {n} scenes."),
                };
                exchange(rng, kind, &questions, count.to_string(), sentence)
            }
            (Kind::New, Plot::Cuts) => {
                let [actor] = &self.shots.last()?.actors[..] else {
                    return None;
                };
                let class = &THINGS[actor.class];
                let questions = [
                    "What is new in the last scene?",
                    "What does the last scene show?",
                ];
                let sentence = format!("The last scene shows {}.", class.with_article());
                exchange(rng, kind, &questions, class.name, sentence)
            }
            (Kind::ClipCaption, _) => {
                let questions = ["Describe the clip.", "What happens in the clip?"];
                let question = *questions.choose(rng)?;
                Exchange {
                    kind,
                    turns: vec![(question.into(), self.caption()?)],
                }
            }
            _ => return None,
        };
        Some(e)
    }

    fn caption(&self) -> Option<String> {
        let names: Vec<String> = self
            .actors()
            .map(|actor| THINGS[actor.class].with_article())
            .collect();
        let first = capital(names.first()?);
        Some(match self.plot {
            Plot::Entrances => {
                let rest: Vec<String> = names[1..]
                    .iter()
                    .map(|name| format!("then {name}"))
                    .collect();
                format!("First {}, {}.", names[0], rest.join(", "))
            }
            Plot::Motion(direction) => format!("{first} moves {}.", direction.word()),
            Plot::Change { grows: true } => format!("{first} grows."),
            Plot::Change { grows: false } => format!("{first} shrinks."),
            Plot::Cuts => {
                let shot = |shot: &Shot| shot.layout().shown();
                let shots: Option<Vec<String>> = self.shots.iter().map(shot).collect();
                format!("{}.", capital(&shots?.join(", then ")))
            }
        })
    }

    /// As [`Layout::questions`].
    pub fn questions(&self, rng: &mut ChaCha8Rng, most: usize) -> Vec<Exchange> {
        use Kind::*;
        let kinds = [
            (First, true),
            (First, true),
            (Last, true),
            (Last, true),
            (Last, true),
            (Direction, true),
            (Direction, true),
            (Direction, true),
            (ClipPresence, true),
            (ClipPresence, false),
            (Scenes, true),
            (New, true),
            (New, true),
            (Change, true),
            (Change, true),
            (ClipCaption, true),
        ];
        pick(rng, &kinds, most, |rng, kind, yes| {
            self.question(rng, kind, yes)
        })
    }
}

impl Shot {
    /// What there is in its first frame.
    fn layout(&self) -> Layout {
        let things = self.actors.iter().map(|actor| Thing {
            class: actor.class,
            centre: actor.path[0],
            size: actor.sizes[0],
        });
        Layout {
            background: self.background,
            things: things.collect(),
        }
    }
}
