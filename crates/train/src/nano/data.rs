//! The world as the stages learn from it.

use rand::{
    RngExt,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use univi::{
    Error, Result,
    image::Rgb8,
    prompt::{Conversation, PromptPart, PromptVisual, Template, Turn},
    tokenizer::{EncodeOptions, Tokenizer},
};

use super::blueprint::normal;
use super::vision_pretraining::{Labelled, Pictures};
use crate::conversations::{Example, Examples, VisualInput};
use crate::world::{
    COLOURS, Clip, Exchange, Layout, Scene, Story, Styles, THINGS, VisualSample, World,
};

/// Independent random numbers for each item of each step of a stage.
pub fn rng(seed: u64, step: u64, item: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step << 16 | item as u64);
    rng
}

/// Returns what a model is asked about a visual, as a conversation.
pub fn conversation(exchange: &Exchange, visual: PromptVisual) -> Conversation {
    let turns = exchange
        .turns
        .iter()
        .enumerate()
        .map(|(i, (question, answer))| {
            let mut parts = Vec::new();
            if i == 0 {
                parts.push(PromptPart::Visual(visual));
            }
            parts.push(PromptPart::Text(question.clone()));
            Turn {
                parts,
                answer: Some(answer.clone()),
            }
        });
    Conversation {
        template: Template::Bare,
        system: None,
        wraps_visuals: false,
        turns: turns.collect(),
    }
}

fn pixels(clip: Clip) -> Vec<Rgb8> {
    clip.frames.into_iter().map(|frame| frame.pixels).collect()
}

impl Labelled {
    /// Returns what is known about a scene, for a grid of `grid` by `grid` patches.
    pub fn of(scene: Scene, grid: usize) -> Labelled {
        let mut things: Vec<usize> = scene
            .layout
            .things
            .iter()
            .map(|thing| thing.class)
            .collect();
        things.sort_unstable();
        things.dedup();
        Labelled {
            patches: scene.patch_labels(grid),
            background: scene.layout.background,
            things,
            pixels: scene.pixels,
        }
    }
}

/// Pictures for the vision encoder: most of them full of things.
pub struct LabelledScenes<'a> {
    /// The world.
    pub world: &'a World,
    /// Of all of them.
    pub seed: u64,
    /// Patches in a row.
    pub grid: usize,
}

const MOSAICS: f64 = 0.8;

impl Pictures for LabelledScenes<'_> {
    fn picture(&self, step: u64, item: usize) -> Labelled {
        let mut rng = rng(self.seed, step, item);
        let scene = match rng.random_bool(MOSAICS) {
            true => self.world.mosaic(&mut rng, Styles::Training),
            false => self.world.scene(&mut rng, Styles::Training),
        };
        Labelled::of(scene, self.grid)
    }
}

/// What a batch is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixture {
    /// The share of clips among examples.
    pub clips: f64,
    /// Questions about a picture at most.
    pub questions: usize,
}

impl Mixture {
    /// Pictures and clips, as they are trained together.
    pub const JOINT: Mixture = Mixture {
        clips: 0.3,
        questions: 9,
    };
}

/// Pictures and clips, and what is said about them.
pub struct WorldConversations<'a> {
    /// The world.
    pub world: &'a World,
    /// Of all of them.
    pub seed: u64,
    /// What kinds of examples.
    pub mixture: Mixture,
    /// What is asked: everything, or captions alone.
    pub captions: bool,
}

impl Examples for WorldConversations<'_> {
    fn example(&self, step: u64, item: usize) -> Result<Example> {
        let mut rng = rng(self.seed, step, item);
        let Mixture { clips, questions } = self.mixture;
        if rng.random_bool(clips) {
            let clip = self.world.clip(&mut rng, Styles::Training);
            let frames = clip.frames.len();
            let exchanges = clip.story.questions(&mut rng, questions);
            return Ok(Example {
                sights: vec![VisualInput::Video(pixels(clip))],
                conversations: written(&mut rng, exchanges, PromptVisual::Video { frames }),
            });
        }
        loop {
            let scene = self.world.lesson(&mut rng);
            let mut exchanges = scene.layout.questions(&mut rng, questions);
            if self.captions {
                exchanges = scene
                    .layout
                    .question(&mut rng, crate::world::Kind::Caption, true)
                    .into_iter()
                    .collect();
            }
            if !exchanges.is_empty() {
                return Ok(Example {
                    sights: vec![VisualInput::Image(scene.pixels)],
                    conversations: written(&mut rng, exchanges, PromptVisual::Image),
                });
            }
        }
    }
}

/// How often a question stands behind another one, in the same conversation.
const CHAINED: f64 = 0.25;

fn written(
    rng: &mut ChaCha8Rng,
    exchanges: Vec<Exchange>,
    visual: PromptVisual,
) -> Vec<Conversation> {
    let mut conversations: Vec<Exchange> = Vec::new();
    for exchange in exchanges {
        match conversations
            .last_mut()
            .filter(|_| rng.random_bool(CHAINED))
        {
            Some(before) => before.turns.extend(exchange.turns),
            None => conversations.push(exchange),
        }
    }
    conversations
        .iter()
        .map(|exchange| conversation(exchange, visual))
        .collect()
}

/// Scenes and stories told in symbols: what a language model learns to talk about before it has a
/// vision encoder.
pub struct SymbolicConversations<'a> {
    /// The vocabulary.
    pub tokenizer: &'a Tokenizer,
    /// Channels of an embedding.
    pub width: usize,
    /// Of all of them.
    pub seed: u64,
    /// What kinds of examples.
    pub mixture: Mixture,
}

/// Embeddings of a picture, and of an event of a clip.
const MENTIONS: usize = 24;
const EVENT_MENTIONS: usize = 14;
/// How much embeddings are blurred, beside the size of a token's.
const BLUR: f32 = 0.3;
/// How strongly places and sizes show in them.
const PLACE: f32 = 0.5;

/// Embeddings on their way.
#[derive(Default)]
struct SymbolEmbeddings {
    tokens: Vec<Vec<u32>>,
    noise: Vec<f32>,
}

impl SymbolicConversations<'_> {
    /// The one token of a word.
    fn token(&self, word: &str) -> Result<u32> {
        let ids = self.tokenizer.encode(word, EncodeOptions::PIECE)?;
        match ids[..] {
            [id] => Ok(id),
            _ => Err(Error::Tokenizer {
                reason: format!(
                    "{word:?} is {} tokens of the vocabulary, expected one",
                    ids.len()
                ),
            }),
        }
    }

    /// Mentions of everything there is, in random order, each at least once.
    fn describe(
        &self,
        rng: &mut ChaCha8Rng,
        layout: &Layout,
        mentions: usize,
        embeddings: &mut SymbolEmbeddings,
    ) -> Result<()> {
        let things = layout.things.len();
        let mut what: Vec<Option<usize>> = (0..things).map(Some).collect();
        what.push(None);
        while what.len() < mentions {
            // About half of what is seen is background.
            let thing = (0..things).collect::<Vec<_>>().choose(rng).copied();
            what.push(thing.filter(|_| rng.random_bool(0.6)));
        }
        what.shuffle(rng);
        let mut directions = ChaCha8Rng::seed_from_u64(self.seed);
        let size = (self.width as f32).powf(-0.5);
        let mut axis = || -> Vec<f32> {
            (0..self.width)
                .map(|_| size * normal(&mut directions))
                .collect()
        };
        let (across, down, large) = (axis(), axis(), axis());
        for mention in what {
            let mut noise: Vec<f32> = (0..self.width).map(|_| BLUR * size * normal(rng)).collect();
            let words = match mention {
                None => vec![COLOURS[layout.background].0, "background"],
                Some(number) => {
                    let thing = &layout.things[number];
                    let [x, y] = thing.centre;
                    for (i, noise) in noise.iter_mut().enumerate() {
                        let place = (x - 0.5) * 4. * across[i] + (y - 0.5) * 4. * down[i];
                        *noise += PLACE * (place + (thing.size - 0.35) * 6. * large[i]);
                    }
                    let third =
                        |x: f32, words: [&'static str; 3]| words[((x * 3.) as usize).min(2)];
                    vec![
                        THINGS[thing.class].name,
                        third(y, ["top", "middle", "bottom"]),
                        third(x, ["left", "middle", "right"]),
                    ]
                }
            };
            let words = words.into_iter().map(|word| self.token(word));
            embeddings.tokens.push(words.collect::<Result<_>>()?);
            embeddings.noise.extend(noise);
        }
        Ok(())
    }
}

impl Examples for SymbolicConversations<'_> {
    fn example(&self, step: u64, item: usize) -> Result<Example> {
        let mut rng = rng(self.seed, step, item);
        let mut embeddings = SymbolEmbeddings::default();
        let exchanges = if rng.random_bool(self.mixture.clips) {
            let story = Story::random(&mut rng);
            let (frames, events) = (story.frames(), story.frames().min(4));
            for event in 0..events {
                // The frame in the middle of each event.
                let frame = (2 * event + 1) * frames / (2 * events);
                self.describe(
                    &mut rng,
                    &story.layout(frame),
                    EVENT_MENTIONS,
                    &mut embeddings,
                )?;
            }
            let exchanges = story.questions(&mut rng, self.mixture.questions);
            written(&mut rng, exchanges, PromptVisual::Video { frames })
        } else {
            let layout = World::lesson_layout(&mut rng);
            self.describe(&mut rng, &layout, MENTIONS, &mut embeddings)?;
            let exchanges = layout.questions(&mut rng, self.mixture.questions);
            written(&mut rng, exchanges, PromptVisual::Image)
        };
        Ok(Example {
            sights: vec![VisualInput::Symbols {
                tokens: embeddings.tokens,
                noise: embeddings.noise,
            }],
            conversations: exchanges,
        })
    }
}

/// Everything that is ever said, for the vocabulary.
pub fn speech(seed: u64, lines: usize) -> Vec<String> {
    let mut text: Vec<String> = Vec::new();
    let mut step = 0;
    while text.len() < lines {
        let mut rng = rng(seed, step, 0);
        let layout = World::layout(&mut rng);
        let story = Story::random(&mut rng);
        let mut exchanges = layout.questions(&mut rng, usize::MAX);
        exchanges.extend(story.questions(&mut rng, usize::MAX));
        for (question, answer) in exchanges.into_iter().flat_map(|exchange| exchange.turns) {
            text.extend([format!("USER: {question}"), format!("ASSISTANT: {answer}")]);
        }
        step += 1;
    }
    // Words that only symbols use, and rare ones: each as often as it takes to become a token.
    for _ in 0..OFTEN {
        for class in THINGS {
            text.push(format!("{} {}", class.name, class.plural));
        }
        text.push("top middle bottom left right background".into());
    }
    text
}

/// Words that occur so often become tokens.
pub const OFTEN: u64 = 4;

/// A view as an example of one conversation.
pub fn example(view: VisualSample, exchange: &Exchange) -> Example {
    let (sight, visual) = match view {
        VisualSample::Scene(scene) => (VisualInput::Image(scene.pixels), PromptVisual::Image),
        VisualSample::Clip(clip) => {
            let frames = clip.frames.len();
            (
                VisualInput::Video(pixels(clip)),
                PromptVisual::Video { frames },
            )
        }
    };
    Example {
        sights: vec![sight],
        conversations: vec![conversation(exchange, visual)],
    }
}
