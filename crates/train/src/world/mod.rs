//! A small world that is really there: emoji on backgrounds, in pictures and clips, and what can be
//! asked about them.
//!
//! Everything follows from seeds: the same seed is the same picture and the same words, everywhere.

mod artwork;
mod ask;
mod clip;
mod icons;
mod scene;
mod things;

use std::path::Path;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use univi::Result;

pub use artwork::{Artwork, Drawing, Sprite, Style, Styles};
pub use ask::{Exchange, Kind};
pub use clip::{Actor, Clip, Direction, Plot, Shot, Story};
pub use scene::{COLOURS, Layout, SIDE_PX, Scene, Thing};
pub use things::{Class, Number, THINGS};

/// Something to ask about.
#[derive(Debug, Clone)]
pub enum VisualSample {
    /// A picture.
    Scene(Scene),
    /// A clip.
    Clip(Clip),
}

/// The world.
#[derive(Debug, Clone)]
pub struct World {
    artwork: Artwork,
}

/// How often one more thing is of a kind that is there already.
const AGAIN: f64 = 0.3;

/// Longer sides of things, in image widths, by how many there are.
fn sizes(count: usize) -> [f32; 2] {
    match count {
        1 => [0.28, 0.62],
        2 | 3 => [0.25, 0.46],
        _ => [0.21, 0.36],
    }
}

impl World {
    /// Returns the world in the artwork of these npm packages.
    ///
    /// # Errors
    /// As [`Artwork::open`].
    pub fn open(node_modules: &Path) -> Result<World> {
        Artwork::open(node_modules).map(World::new)
    }

    /// Returns the world in other artwork.
    pub fn new(artwork: Artwork) -> World {
        World { artwork }
    }

    /// Returns where one to five things are.
    pub fn layout(rng: &mut ChaCha8Rng) -> Layout {
        let count = [1, 1, 1, 2, 2, 2, 3, 3, 4, 5][rng.random_range(0..10)];
        let classes = scene::classes(rng, count, AGAIN);
        Layout::random(rng, &classes, sizes(count))
    }

    /// As [`World::layout`], to learn from: every other one with more things, and more of a kind,
    /// since those are what is hard. Not all of them: a model that had learned from full
    /// pictures alone counted too many in others.
    pub fn lesson_layout(rng: &mut ChaCha8Rng) -> Layout {
        if rng.random() {
            return World::layout(rng);
        }
        let count = [1, 1, 2, 2, 3, 3, 4, 4, 5, 5][rng.random_range(0..10)];
        let classes = scene::classes(rng, count, 0.5);
        Layout::random(rng, &classes, sizes(count))
    }

    /// A picture to learn from.
    pub fn lesson(&self, rng: &mut ChaCha8Rng) -> Scene {
        let layout = World::lesson_layout(rng);
        Scene::paint(rng, &self.artwork, layout, Styles::Training)
    }

    /// A picture of one to five things.
    pub fn scene(&self, rng: &mut ChaCha8Rng, styles: Styles) -> Scene {
        let layout = World::layout(rng);
        Scene::paint(rng, &self.artwork, layout, styles)
    }

    /// A picture full of things: more to see for the same work.
    pub fn mosaic(&self, rng: &mut ChaCha8Rng, styles: Styles) -> Scene {
        let count = rng.random_range(3..=7);
        let classes = scene::classes(rng, count, AGAIN);
        let layout = Layout::random(rng, &classes, [0.2, 0.42]);
        Scene::paint(rng, &self.artwork, layout, styles)
    }

    /// A clip of four to thirty-two frames.
    pub fn clip(&self, rng: &mut ChaCha8Rng, styles: Styles) -> Clip {
        let story = Story::random(rng);
        self.film(rng, story, styles)
    }

    /// A clip of a story.
    pub fn film(&self, rng: &mut ChaCha8Rng, story: Story, styles: Styles) -> Clip {
        story.paint(rng, &self.artwork, styles)
    }

    /// A question of a kind and what it is about, for measuring: as many yes as no, all directions
    /// and quarters alike often, and several of a thing as often as one.
    pub fn question(
        &self,
        rng: &mut ChaCha8Rng,
        kind: Kind,
        styles: Styles,
    ) -> (VisualSample, Exchange) {
        let yes = match kind {
            Kind::Presence | Kind::ClipPresence => rng.random(),
            _ => true,
        };
        loop {
            if kind.of_clip() {
                let story = match kind {
                    Kind::First | Kind::Last => Story::entrances(rng),
                    Kind::Direction => {
                        let direction = Direction::ALL[rng.random_range(0..4)];
                        Story::motion(rng, direction)
                    }
                    Kind::Change => {
                        let grows = rng.random();
                        Story::change(rng, grows)
                    }
                    Kind::New => Story::cuts(rng),
                    _ => Story::random(rng),
                };
                if let Some(exchange) = story.question(rng, kind, yes) {
                    let clip = story.paint(rng, &self.artwork, styles);
                    return (VisualSample::Clip(clip), exchange);
                }
                continue;
            }
            let layout = World::layout(rng);
            let several = |layout: &Layout| {
                let mut classes: Vec<usize> =
                    layout.things.iter().map(|thing| thing.class).collect();
                classes.sort_unstable();
                classes.windows(2).any(|pair| pair[0] == pair[1])
            };
            if kind == Kind::CountOf && rng.random_bool(0.5) && !several(&layout) {
                continue;
            }
            if let Some(exchange) = layout.question(rng, kind, yes) {
                let scene = Scene::paint(rng, &self.artwork, layout, styles);
                return (VisualSample::Scene(scene), exchange);
            }
        }
    }
}
