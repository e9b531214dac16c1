//! Clips: things that enter, leave, move and grow, and scenes that change.

use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    artwork::{Artwork, Styles},
    scene::{COLOURS, Canvas, Layout, Look, Scene, Thing, apart, classes},
    things::THINGS,
};

/// A thing's part in a shot. Frames count from the clip's first.
#[derive(Debug, Clone, PartialEq)]
pub struct Actor {
    /// Its number in [`THINGS`].
    pub class: usize,
    /// The first frame that shows it.
    pub enters: usize,
    /// The first that does not any more.
    pub leaves: usize,
    /// Where it is at the start and at the end of its shot.
    pub path: [[f32; 2]; 2],
    /// How large it is then.
    pub sizes: [f32; 2],
}

/// Frames with one background, without a cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Shot {
    /// The background's number in [`COLOURS`].
    pub background: usize,
    /// Its first frame, and the first behind it.
    pub frames: std::ops::Range<usize>,
    /// Who is in it.
    pub actors: Vec<Actor>,
}

/// What the clip is about: what is definite in it, and may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plot {
    /// Things appear one after the other; actors are in that order.
    Entrances,
    /// The first actor moves steadily; the others stand.
    Motion(Direction),
    /// The first actor grows, or shrinks.
    Change {
        /// Which of both.
        grows: bool,
    },
    /// One shot after the other.
    Cuts,
}

/// Where a thing moves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the left.
    Left,
    /// To the right.
    Right,
    /// Up.
    Up,
    /// Down.
    Down,
}

impl Direction {
    /// All four.
    pub const ALL: [Direction; 4] = [
        Direction::Left,
        Direction::Right,
        Direction::Up,
        Direction::Down,
    ];

    /// "left", "right", "up", "down".
    pub fn word(self) -> &'static str {
        match self {
            Direction::Left => "left",
            Direction::Right => "right",
            Direction::Up => "up",
            Direction::Down => "down",
        }
    }
}

/// What happens in a clip, one frame a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    /// What is definite in it.
    pub plot: Plot,
    /// One shot, or several for [`Plot::Cuts`].
    pub shots: Vec<Shot>,
}

/// A story that can be looked at.
#[derive(Debug, Clone)]
pub struct Clip {
    /// What happens.
    pub story: Story,
    /// What is seen.
    pub frames: Vec<Scene>,
}

const SIZES: [f32; 2] = [0.28, 0.46];

impl Story {
    /// A story of one of the four plots.
    pub fn random(rng: &mut ChaCha8Rng) -> Story {
        match rng.random_range(0..10) {
            0..4 => Story::entrances(rng),
            4..7 => {
                let direction = Direction::ALL[rng.random_range(0..4)];
                Story::motion(rng, direction)
            }
            7 => {
                let grows = rng.random();
                Story::change(rng, grows)
            }
            _ => Story::cuts(rng),
        }
    }

    fn length(rng: &mut ChaCha8Rng) -> usize {
        match rng.random_range(0..20) {
            0 => rng.random_range(17..=32),
            1..5 => rng.random_range(11..=16),
            _ => rng.random_range(4..=10),
        }
    }

    /// Two to four things, one after the other.
    pub fn entrances(rng: &mut ChaCha8Rng) -> Story {
        let frames = Story::length(rng);
        let most = if frames < 6 { 2 } else { 4 };
        let count = rng.random_range(2..=most);
        let kinds = different(rng, count);
        let layout = Layout::random(rng, &kinds, SIZES);
        // All but the first come at different times, none in the last frame of all.
        let mut times: Vec<usize> = (1..frames - 1).collect();
        times.shuffle(rng);
        times.truncate(layout.things.len() - 1);
        times.sort_unstable();
        times.insert(0, 0);
        let last = times.len() - 1;
        let actors = layout.things.iter().zip(times).enumerate();
        let actors = actors.map(|(i, (thing, enters))| {
            let mut actor = stands(thing, frames);
            actor.enters = enters;
            if i < last && frames - enters > 3 && rng.random_bool(0.3) {
                actor.leaves = rng.random_range(enters + 2..frames);
            }
            if rng.random_bool(0.3) {
                // It drifts a little: too little to be called a direction.
                actor.path[1] = actor.path[1].map(|x| x + rng.random_range(-0.04..0.04));
            }
            actor
        });
        Story::of(Plot::Entrances, layout.background, frames, actors.collect())
    }

    /// A thing that moves, and up to two that stand.
    pub fn motion(rng: &mut ChaCha8Rng, direction: Direction) -> Story {
        let frames = Story::length(rng);
        let size = rng.random_range(SIZES[0]..SIZES[1]);
        let start = rng.random_range(0.16..0.3f32);
        let end = 1. - rng.random_range(0.16..0.3f32);
        let side = rng.random_range(size * 0.5..1. - size * 0.5);
        let path = match direction {
            Direction::Left => [[end, side], [start, side]],
            Direction::Right => [[start, side], [end, side]],
            Direction::Up => [[side, end], [side, start]],
            Direction::Down => [[side, start], [side, end]],
        };
        let others = rng.random_range(0..=2);
        let kinds = different(rng, 1 + others);
        let mover = Actor {
            class: kinds[0],
            enters: 0,
            leaves: frames,
            path,
            sizes: [size; 2],
        };
        let layout = Layout::random(rng, &kinds[1..], [0.26, 0.38]);
        let mut actors = vec![mover];
        for thing in &layout.things {
            let clear = (0..=8).all(|i| {
                let at = i as f32 / 8.;
                let passing = Thing {
                    class: kinds[0],
                    centre: [0, 1].map(|axis| path[0][axis] * (1. - at) + path[1][axis] * at),
                    size,
                };
                apart(thing, &passing)
            });
            if clear {
                actors.push(stands(thing, frames));
            }
        }
        Story::of(Plot::Motion(direction), layout.background, frames, actors)
    }

    /// A thing that becomes larger or smaller, and perhaps one that does not.
    pub fn change(rng: &mut ChaCha8Rng, grows: bool) -> Story {
        let frames = Story::length(rng);
        let count = rng.random_range(1..=2);
        let kinds = different(rng, count);
        let layout = Layout::random(rng, &kinds, [0.4, 0.5]);
        let mut actors: Vec<Actor> = layout
            .things
            .iter()
            .map(|thing| stands(thing, frames))
            .collect();
        let small = actors[0].sizes[0] * rng.random_range(0.4..0.55);
        actors[0].sizes[usize::from(!grows)] = small;
        Story::of(Plot::Change { grows }, layout.background, frames, actors)
    }

    /// Two or three shots with nothing in common.
    pub fn cuts(rng: &mut ChaCha8Rng) -> Story {
        let frames = Story::length(rng).max(6);
        let count = rng.random_range(2..=3);
        let mut cuts: Vec<usize> = (1..frames / 2).map(|i| 2 * i).collect();
        cuts.shuffle(rng);
        cuts.truncate(count - 1);
        cuts.extend([0, frames]);
        cuts.sort_unstable();
        let kinds = different(rng, 2 * count);
        let mut colours: Vec<usize> = (0..COLOURS.len()).collect();
        colours.shuffle(rng);
        let mut shots = Vec::new();
        for (i, range) in cuts.windows(2).enumerate() {
            let things = rng.random_range(1..=2);
            let layout = Layout::random(rng, &kinds[2 * i..2 * i + things], SIZES);
            let actors = layout.things.iter().map(|thing| Actor {
                enters: range[0],
                ..stands(thing, range[1])
            });
            shots.push(Shot {
                background: colours[i],
                frames: range[0]..range[1],
                actors: actors.collect(),
            });
        }
        Story {
            plot: Plot::Cuts,
            shots,
        }
    }

    fn of(plot: Plot, background: usize, frames: usize, actors: Vec<Actor>) -> Story {
        Story {
            plot,
            shots: vec![Shot {
                background,
                frames: 0..frames,
                actors,
            }],
        }
    }

    /// Returns how many frames it has.
    pub fn frames(&self) -> usize {
        self.shots.last().map_or(0, |shot| shot.frames.end)
    }

    /// Everybody in it.
    pub fn actors(&self) -> impl Iterator<Item = &Actor> {
        self.shots.iter().flat_map(|shot| &shot.actors)
    }

    /// Returns what there is in a frame.
    pub fn layout(&self, frame: usize) -> Layout {
        let shot = self.shot(frame);
        Layout {
            background: shot.background,
            things: shot
                .seen(frame)
                .map(|actor| shot.thing(actor, frame))
                .collect(),
        }
    }

    fn shot(&self, frame: usize) -> &Shot {
        let mut shots = self.shots.iter();
        shots
            .find(|shot| shot.frames.contains(&frame))
            .expect("a frame of the story")
    }

    /// Paints all frames. A thing looks the same in all of them.
    pub fn paint(self, rng: &mut ChaCha8Rng, artwork: &Artwork, styles: Styles) -> Clip {
        let mut frames = Vec::new();
        for shot in &self.shots {
            let canvas = Canvas::background(rng, shot.background);
            let looks: Vec<Look> = shot
                .actors
                .iter()
                .map(|actor| Look::random(rng, artwork, actor.class, styles))
                .collect();
            for frame in shot.frames.clone() {
                let mut canvas = canvas.clone();
                let layout = self.layout(frame);
                let seen = shot.actors.iter().zip(&looks);
                let seen = seen.filter(|(actor, _)| (actor.enters..actor.leaves).contains(&frame));
                for (number, ((_, look), thing)) in seen.zip(&layout.things).enumerate() {
                    canvas.paint(thing, number, look);
                }
                frames.push(canvas.finish(layout));
            }
        }
        Clip {
            story: self,
            frames,
        }
    }
}

impl Shot {
    fn seen(&self, frame: usize) -> impl Iterator<Item = &Actor> {
        let actors = self.actors.iter();
        actors.filter(move |actor| (actor.enters..actor.leaves).contains(&frame))
    }

    fn thing(&self, actor: &Actor, frame: usize) -> Thing {
        let steps = (self.frames.len() - 1).max(1) as f32;
        let at = (frame - self.frames.start) as f32 / steps;
        let between = |[a, b]: [f32; 2]| a * (1. - at) + b * at;
        Thing {
            class: actor.class,
            centre: [0, 1].map(|axis| between([actor.path[0][axis], actor.path[1][axis]])),
            size: between(actor.sizes),
        }
    }
}

fn stands(thing: &Thing, leaves: usize) -> Actor {
    Actor {
        class: thing.class,
        enters: 0,
        leaves,
        path: [thing.centre; 2],
        sizes: [thing.size; 2],
    }
}

/// Classes that all differ.
fn different(rng: &mut ChaCha8Rng, count: usize) -> Vec<usize> {
    let mut found = classes(rng, 1, 0.);
    while found.len() < count {
        let class = rng.random_range(0..THINGS.len());
        if !found.contains(&class) {
            found.push(class);
        }
    }
    found
}
