//! Conversations about pictures and clips as LLaVA and Chat-UniVi publish them: a JSON file, and a
//! folder of media.
//!
//! ```json
//! [{ "id": "1", "image": "coco/1.jpg",
//!    "conversations": [{ "from": "human", "value": "<image>\nWhat is this?" }, { "from": "gpt", "value": "A dog." }] }]
//! ```
//!
//! `image` is a path or a list of paths, `video` a path; each `<image>` in what a human says stands
//! for the next of them. Samples without either are text alone.

use std::sync::{Mutex, PoisonError};

use rand::seq::SliceRandom;
use serde::Deserialize;
use univi::{
    Error, Result,
    image::Rgb8,
    prompt::{Conversation, IMAGE_MARKER, PromptPart, PromptVisual, Template, Turn},
};

use crate::{
    conversations::{Example, Examples, VisualInput},
    nano::data::rng,
};

/// Where pictures and clips come from, by the names that the JSON file has for them.
pub trait Media: Sync {
    /// A picture.
    ///
    /// # Errors
    /// `Io`, `BadImage`.
    fn image(&self, name: &str) -> Result<Rgb8>;

    /// The frames of a clip, chosen as inference chooses them.
    ///
    /// # Errors
    /// `Io`, `BadVideo`.
    fn video(&self, name: &str) -> Result<Vec<Rgb8>>;
}

/// One conversation and what it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    images: Vec<String>,
    video: Option<String>,
    turns: Vec<[String; 2]>,
}

/// Samples in the order in which they are learned.
pub struct Dataset<M> {
    /// All of them.
    pub samples: Vec<Sample>,
    /// Their pictures and clips.
    pub media: M,
    /// How conversations are written down.
    pub template: Template,
    /// Whether markers stand around visuals.
    pub wraps_visuals: bool,
    /// Samples of a step.
    pub batch: usize,
    /// The order of samples follows from it, another one in each epoch.
    pub seed: u64,
    /// Kept, not made for each sample.
    pub order: Order,
}

/// The samples' numbers in the order of the epoch that was last asked for.
#[derive(Debug, Default)]
pub struct Order(Mutex<Option<(usize, Vec<usize>)>>);

impl Order {
    /// The number of the sample at a place of an epoch.
    fn at(&self, epoch: usize, place: usize, seed: u64, samples: usize) -> usize {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let mut order: Vec<usize> = (0..samples).collect();
            order.shuffle(&mut rng(seed, epoch as u64, 0));
            *kept = Some((epoch, order));
        }
        kept.as_ref().expect("it was just made").1[place]
    }
}

#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    id: serde_json::Value,
    #[serde(default)]
    image: Option<OneOrMore>,
    #[serde(default)]
    video: Option<String>,
    conversations: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
struct Message {
    from: String,
    value: String,
}

fn bad(reason: impl Into<String>) -> Error {
    Error::BadFile {
        format: "conversations",
        reason: reason.into(),
    }
}

/// Reads a JSON file of conversations.
///
/// # Errors
/// `BadFile` that names the sample.
pub fn read(json: &[u8]) -> Result<Vec<Sample>> {
    let stored: Vec<Stored> = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
    if stored.is_empty() {
        return Err(bad("there is no sample in it"));
    }
    let sample = |(number, stored): (usize, Stored)| {
        let id = match &stored.id {
            serde_json::Value::Null => format!("number {number}"),
            serde_json::Value::String(id) => id.clone(),
            id => id.to_string(),
        };
        Sample::new(stored).map_err(|reason| bad(format!("sample {id}: {reason}")))
    };
    stored.into_iter().enumerate().map(sample).collect()
}

impl Sample {
    fn new(stored: Stored) -> Result<Sample, String> {
        let images = match stored.image {
            None => Vec::new(),
            Some(OneOrMore::One(image)) => vec![image],
            Some(OneOrMore::More(images)) => images,
        };
        if stored.video.is_some() && !images.is_empty() {
            return Err("has images and a video; expected either".into());
        }
        let mut turns = Vec::new();
        for pair in stored.conversations.chunks(2) {
            match pair {
                [human, gpt] if is_human(&human.from) && !is_human(&gpt.from) => {
                    turns.push([human.value.clone(), gpt.value.clone()]);
                }
                _ => return Err("human and gpt don't take turns".into()),
            }
        }
        if turns.is_empty() {
            return Err("has no conversation".into());
        }
        let markers: usize = turns
            .iter()
            .map(|[human, _]| human.matches(IMAGE_MARKER).count())
            .sum();
        let visuals = images.len() + usize::from(stored.video.is_some());
        if markers != visuals {
            return Err(format!(
                "has {markers} {IMAGE_MARKER} for {visuals} images and videos"
            ));
        }
        Ok(Sample {
            images,
            video: stored.video,
            turns,
        })
    }
}

fn is_human(from: &str) -> bool {
    matches!(from, "human" | "user" | "USER")
}

impl<M> Dataset<M> {
    /// Steps of so many epochs.
    pub fn steps(&self, epochs: f64) -> u64 {
        (self.samples.len() as f64 * epochs / self.batch as f64)
            .ceil()
            .max(1.) as u64
    }

    /// The sample that is this number of a step's.
    fn sample(&self, step: u64, item: usize) -> &Sample {
        let place = step as usize * self.batch + item;
        let count = self.samples.len();
        let (epoch, place) = (place / count, place % count);
        &self.samples[self.order.at(epoch, place, self.seed, count)]
    }
}

impl<M: Media> Examples for Dataset<M> {
    fn example(&self, step: u64, item: usize) -> Result<Example> {
        let sample = self.sample(step, item);
        let mut sights = Vec::new();
        for image in &sample.images {
            sights.push(VisualInput::Image(self.media.image(image)?));
        }
        if let Some(video) = &sample.video {
            sights.push(VisualInput::Video(self.media.video(video)?));
        }
        let visuals: Vec<PromptVisual> = sights
            .iter()
            .map(|sight| match sight {
                VisualInput::Video(frames) => PromptVisual::Video {
                    frames: frames.len(),
                },
                _ => PromptVisual::Image,
            })
            .collect();
        let mut visuals = visuals.into_iter();
        let turns = sample.turns.iter().map(|[human, gpt]| {
            let mut parts = Vec::new();
            for (i, text) in human.split(IMAGE_MARKER).enumerate() {
                if i > 0 {
                    parts.extend(visuals.next().map(PromptPart::Visual));
                }
                // The template puts a line break behind each visual.
                let text = if i > 0 {
                    text.strip_prefix('\n').unwrap_or(text)
                } else {
                    text
                };
                if !text.is_empty() {
                    parts.push(PromptPart::Text(text.to_string()));
                }
            }
            Turn {
                parts,
                answer: Some(gpt.clone()),
            }
        });
        let conversation = Conversation {
            template: self.template.clone(),
            system: None,
            wraps_visuals: self.wraps_visuals,
            turns: turns.collect(),
        };
        Ok(Example {
            sights,
            conversations: vec![conversation],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also where steps are asked for backwards, and across epochs, as threads do.
    #[test]
    fn every_epoch_has_every_sample_once_and_a_number_is_always_the_same() {
        let sample = Sample {
            images: Vec::new(),
            video: None,
            turns: Vec::new(),
        };
        let samples = (0..10).map(|i| Sample {
            video: Some(i.to_string()),
            ..sample.clone()
        });
        let dataset = Dataset {
            samples: samples.collect(),
            media: (),
            template: Template::Bare,
            wraps_visuals: false,
            batch: 4,
            seed: 3,
            order: Order::default(),
        };
        let name = |i: usize| dataset.sample(i as u64 / 4, i % 4).video.clone().unwrap();
        let there: Vec<String> = (0..40).map(name).collect();
        let mut back: Vec<String> = (0..40).rev().map(name).collect();
        back.reverse();
        assert_eq!(there, back);
        for epoch in there.chunks(10) {
            let mut names = epoch.to_vec();
            names.sort();
            assert_eq!(names, (0..10).map(|i| i.to_string()).collect::<Vec<_>>());
        }
        assert_ne!(there[..10], there[10..20]);
    }

    #[test]
    fn samples_are_read_and_what_is_wrong_is_named() {
        let json = br#"[{"id": 7, "image": "a.png", "conversations": [
            {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dog."}]}]"#;
        let samples = read(json).unwrap();
        assert_eq!(samples[0].images, ["a.png"]);
        for (json, reason) in [
            (&b"[]"[..], "no sample"),
            (
                br#"[{"id": "x", "conversations": []}]"#,
                "sample x: has no conversation",
            ),
            (
                br#"[{"id": "x", "image": "a.png", "conversations": [
                    {"from": "human", "value": "What?"}, {"from": "gpt", "value": "A dog."}]}]"#,
                "sample x: has 0 <image> for 1",
            ),
            (
                br#"[{"conversations": [{"from": "gpt", "value": "A dog."}]}]"#,
                "sample number 0: human and gpt",
            ),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
