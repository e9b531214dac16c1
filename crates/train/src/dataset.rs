//! Conversations about pictures and clips as LLaVA, Chat-UniVi and Video-ChatGPT publish them: JSON
//! or JSON lines, and folders of media.
//!
//! ```json
//! [{ "id": "1", "image": "coco/1.jpg",
//!    "conversations": [{ "from": "human", "value": "<image>\nWhat is this?" },
//!                      { "from": "gpt", "value": "A dog." }] },
//!  { "q": "What happens?", "a": "It rains.", "video_id": "v_1" }]
//! ```
//!
//! `image` and `video` are a path or a list of paths. Each `<image>` or `<video>` in what a human
//! says stands for the next of them; in samples without either these are words. A first message of
//! the assistant's and a last one of the human's are not learned from.
//!
//! Samples are read as the reference reads them (`preprocess_multimodal`, `preprocess_v1`):
//! markers at the end of a message move to its front, lines around markers and empty lines are
//! joined, and `\` in a path is `/`. A sample that can't be learned from is left out and counted.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{
    Deserializer as _,
    de::{SeqAccess, Visitor},
};
use serde_json::Value;
use univi::{
    Error, Result,
    image::Rgb8,
    prompt::{Conversation, IMAGE_MARKER, PromptPart, PromptVisual, Template, Turn},
    tokenizer::Tokenizer,
};

use crate::{
    conversations::{Example, Examples, VisualInput},
    example::Written,
    nano::data::rng,
};

/// What stands for a clip in published data.
const VIDEO_MARKER: &str = "<video>";

/// Where pictures and clips come from, by the names that the data has for them.
pub trait Media: Sync {
    /// Decodes a picture.
    ///
    /// # Errors
    /// `Io`, `BadImage`.
    fn image(&self, name: &str) -> Result<Rgb8>;

    /// Decodes the frames of a clip, chosen as inference chooses them.
    ///
    /// # Errors
    /// `Io`, `BadVideo`.
    fn video(&self, name: &str) -> Result<Vec<Rgb8>>;

    /// Checks what can be checked without decoding: whether it is there.
    ///
    /// # Errors
    /// `Io`, `BadImage`, `BadVideo`.
    fn check(&self, medium: &Medium) -> Result<()>;
}

/// A picture or a clip, by its name in the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// A picture.
    Image(String),
    /// A clip.
    Video(String),
}

/// One conversation and what it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its name in messages.
    pub id: String,
    /// What it is about, in the order of the markers.
    pub media: Vec<Medium>,
    turns: Vec<SampleTurn>,
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq)]
struct SampleTurn {
    question: Vec<Content>,
    answer: String,
}

/// A piece of a question.
#[derive(Debug, Clone, PartialEq)]
enum Content {
    Text(String),
    /// The next of the sample's media.
    Medium,
}

/// Samples that are not learned from, and why.
#[derive(Debug)]
pub struct Skipped {
    limit: usize,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// Ids and reasons.
    reasons: Vec<(String, String)>,
    /// Those that were found in training, by their index: each epoch comes by them.
    in_training: BTreeSet<usize>,
}

impl Skipped {
    /// None yet; more than `limit` are an error.
    pub fn new(limit: usize) -> Skipped {
        Skipped {
            limit,
            found: Mutex::default(),
        }
    }

    /// Allows another number of them.
    ///
    /// # Errors
    /// `BadFile` where there are more already.
    pub fn set_limit(&mut self, limit: usize) -> Result<()> {
        self.limit = limit;
        self.check(&self.found())
    }

    /// Counts a sample.
    ///
    /// # Errors
    /// `BadFile` where there are too many now.
    pub fn add(&self, id: &str, reason: &str) -> Result<()> {
        let mut found = self.found();
        found.reasons.push((id.to_string(), reason.to_string()));
        self.check(&found)
    }

    /// Ids and reasons, in the order in which they were found.
    pub fn reasons(&self) -> Vec<(String, String)> {
        self.found().reasons.clone()
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, found: &Found) -> Result<()> {
        match found.reasons.first() {
            Some((id, reason)) if found.reasons.len() > self.limit => Err(bad(format!(
                "{} samples can't be learned from, at most {} may be skipped; sample {id}: {reason}",
                found.reasons.len(),
                self.limit
            ))),
            _ => Ok(()),
        }
    }
}

/// Samples in the order in which they are learned.
pub struct Dataset<M> {
    /// All of them, at least one.
    pub samples: Vec<Sample>,
    /// Those that turn out to be damaged.
    pub skipped: Skipped,
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

fn bad(reason: impl Into<String>) -> Error {
    Error::BadFile {
        format: "conversations",
        reason: reason.into(),
    }
}

/// Reads a file of conversations: JSON, or one JSON object after the other. Samples that can't be
/// learned from go to `skipped`, which has no limit yet.
///
/// # Errors
/// `BadFile` for what is no JSON, or has no sample.
pub fn read(json: &[u8], skipped: &Skipped) -> Result<Vec<Sample>> {
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
    let mut samples = Vec::new();
    let mut count = 0;
    let mut take = |value: &Value| {
        let id = id_of(value, count);
        count += 1;
        match Sample::new(id.clone(), value) {
            Ok(sample) => {
                samples.push(sample);
                Ok(())
            }
            Err(reason) => skipped.add(&id, &reason),
        }
    };
    if json.trim_ascii_start().starts_with(b"[") {
        let mut taken = Ok(());
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let mut each = |value: Value| {
            if taken.is_ok() {
                taken = take(&value);
            }
        };
        let read = deserializer.deserialize_seq(Elements(&mut each));
        read.and_then(|()| deserializer.end())
            .map_err(|e| bad(e.to_string()))?;
        taken?;
    } else {
        for value in serde_json::Deserializer::from_slice(json).into_iter() {
            take(&value.map_err(|e| bad(e.to_string()))?)?;
        }
    }
    match count {
        0 => Err(bad("there is no sample in it")),
        _ => Ok(samples),
    }
}

/// Hands over the elements of an array one by one: all of a large file would take ten times its
/// size.
struct Elements<'a>(&'a mut dyn FnMut(Value));

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of samples")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> std::result::Result<(), A::Error> {
        while let Some(value) = array.next_element()? {
            (self.0)(value);
        }
        Ok(())
    }
}

fn id_of(sample: &Value, number: usize) -> String {
    match &sample["id"] {
        Value::Null => format!("number {number}"),
        Value::String(id) => id.clone(),
        id => id.to_string(),
    }
}

impl Sample {
    fn new(id: String, stored: &Value) -> Result<Sample, String> {
        if !stored.is_object() {
            return Err("is no object".into());
        }
        let (mut stored_media, messages) = match &stored["video_id"] {
            Value::String(video) if stored["conversations"].is_null() => {
                let text = |key: &str| {
                    let text = stored[key].as_str();
                    text.ok_or_else(|| format!("has a video_id and no {key:?}"))
                };
                let question = format!("{VIDEO_MARKER}\n{}", text("q")?);
                let messages = vec![(true, question), (false, text("a")?.to_string())];
                let videos = VecDeque::from([path(video)]);
                let images = VecDeque::new();
                (StoredMedia { images, videos }, messages)
            }
            _ => (StoredMedia::new(stored)?, messages(stored)?),
        };
        let count = stored_media.images.len() + stored_media.videos.len();
        let (is_text, mut media, mut markers) = (count == 0, Vec::new(), 0);
        let mut messages = messages.into_iter().peekable();
        if messages.peek().is_some_and(|(is_human, _)| !is_human) {
            messages.next();
        }
        let mut turns = Vec::new();
        while let Some((is_human, question)) = messages.next() {
            if !is_human {
                return Err("the assistant speaks twice in a row".into());
            }
            let answer = match messages.next() {
                None => break,
                Some((true, _)) => return Err("the human speaks twice in a row".into()),
                Some((false, answer)) => answer,
            };
            if answer.trim().is_empty() {
                return Err("an answer is empty".into());
            }
            turns.push(match is_text {
                true => SampleTurn {
                    question: vec![Content::Text(question)],
                    answer,
                },
                false => SampleTurn {
                    question: contents(&question, |marker| {
                        markers += 1;
                        media.extend(stored_media.next(marker));
                    }),
                    answer: answer.replace("\n\n", "\n"),
                },
            });
        }
        if turns.is_empty() {
            return Err("there is no answer to learn from".into());
        }
        if markers != count {
            return Err(format!(
                "has {markers} {IMAGE_MARKER} and {VIDEO_MARKER} for {count} images and videos"
            ));
        }
        if media.len() != count {
            return Err(format!(
                "{IMAGE_MARKER} and {VIDEO_MARKER} are not as many as its images and videos"
            ));
        }
        Ok(Sample { id, media, turns })
    }

    /// The conversation, with what has become of its media.
    fn conversation(
        &self,
        visuals: &[PromptVisual],
        template: &Template,
        wraps_visuals: bool,
    ) -> Conversation {
        let mut visuals = visuals.iter();
        let turns = self.turns.iter().map(|turn| Turn {
            parts: (turn.question.iter())
                .filter_map(|content| match content {
                    Content::Text(text) => Some(PromptPart::Text(text.clone())),
                    Content::Medium => visuals.next().copied().map(PromptPart::Visual),
                })
                .collect(),
            answer: Some(turn.answer.clone()),
        });
        Conversation {
            template: template.clone(),
            system: None,
            wraps_visuals,
            turns: turns.collect(),
        }
    }
}

/// The media of a sample that no marker has taken yet.
struct StoredMedia {
    images: VecDeque<String>,
    videos: VecDeque<String>,
}

impl StoredMedia {
    fn new(stored: &Value) -> Result<StoredMedia, String> {
        let paths = |key: &str| {
            let one = |value: &Value| match value.as_str() {
                Some(name) if !name.is_empty() => Ok(path(name)),
                _ => Err(format!("{key} is no path and no list of paths")),
            };
            match &stored[key] {
                Value::Null => Ok(VecDeque::new()),
                Value::Array(values) => values.iter().map(one).collect(),
                value => one(value).map(|path| VecDeque::from([path])),
            }
        };
        Ok(StoredMedia {
            images: paths("image")?,
            videos: paths("video")?,
        })
    }

    /// What a marker stands for. Where there are media of one kind alone, it does not matter which
    /// marker it is.
    fn next(&mut self, marker: &str) -> Option<Medium> {
        let image = |name| Medium::Image(name);
        match marker {
            VIDEO_MARKER if !self.videos.is_empty() => self.videos.pop_front().map(Medium::Video),
            IMAGE_MARKER if !self.images.is_empty() => self.images.pop_front().map(image),
            _ if self.videos.is_empty() => self.images.pop_front().map(image),
            _ => self.videos.pop_front().map(Medium::Video),
        }
    }
}

/// A path as the data has it: that of a Windows machine, too.
fn path(name: &str) -> String {
    name.replace('\\', "/")
}

/// Who speaks, and what: whether it is the human.
fn messages(stored: &Value) -> Result<Vec<(bool, String)>, String> {
    let Value::Array(messages) = &stored["conversations"] else {
        return Err("has no conversation".into());
    };
    if messages.is_empty() {
        return Err("has no conversation".into());
    }
    let message = |message: &Value| {
        let is_human = match message["from"].as_str() {
            Some("human" | "user" | "USER") => true,
            Some("gpt" | "assistant" | "ASSISTANT") => false,
            Some(other) => return Err(format!("a message is from {other:?}, not human or gpt")),
            None => return Err("a message does not say who it is from".into()),
        };
        match message["value"].as_str() {
            Some(text) => Ok((is_human, text.to_string())),
            None => Err("a message has no text".into()),
        }
    };
    messages.iter().map(message).collect()
}

/// The pieces of a question about media, as the reference joins them; `take` is called with each
/// marker.
fn contents(question: &str, mut take: impl FnMut(&str)) -> Vec<Content> {
    let mut text = question.to_string();
    if text.contains(IMAGE_MARKER) || text.contains(VIDEO_MARKER) {
        let joined = text.replace(&format!("{IMAGE_MARKER}\n"), IMAGE_MARKER);
        let joined = joined
            .trim()
            .replace(&format!("\n{IMAGE_MARKER}"), IMAGE_MARKER);
        text = joined.trim().to_string();
        for marker in [IMAGE_MARKER, VIDEO_MARKER] {
            let all = marker.repeat(text.matches(marker).count());
            if let Some(rest) = text.strip_suffix(&all).filter(|_| !all.is_empty()) {
                text = format!("{all}{}", rest.trim()).trim().to_string();
            }
        }
    }
    // A line break follows each visual; the template writes it.
    for marker in [IMAGE_MARKER, VIDEO_MARKER] {
        text = text.replace(marker, &format!("{marker}\n"));
    }
    let text = text.replace("\n\n", "\n");
    let mut contents = Vec::new();
    let mut rest = &text[..];
    let push = |contents: &mut Vec<Content>, text: &str| {
        if !text.is_empty() {
            contents.push(Content::Text(text.to_string()));
        }
    };
    loop {
        let markers = [IMAGE_MARKER, VIDEO_MARKER].into_iter();
        let next = markers.filter_map(|marker| Some((rest.find(marker)?, marker)));
        let Some((at, marker)) = next.min() else {
            push(&mut contents, rest);
            return contents;
        };
        push(&mut contents, &rest[..at]);
        take(marker);
        contents.push(Content::Medium);
        rest = &rest[at + marker.len()..];
        rest = rest.strip_prefix('\n').unwrap_or(rest);
    }
}

impl<M> Dataset<M> {
    /// Steps of so many epochs.
    pub fn steps(&self, epochs: f64) -> u64 {
        (self.samples.len() as f64 * epochs / self.batch as f64)
            .ceil()
            .max(1.) as u64
    }

    /// The sample that is this number of a step's: its index.
    fn index(&self, step: u64, item: usize) -> usize {
        let place = step as usize * self.batch + item;
        let count = self.samples.len();
        let (epoch, place) = (place / count, place % count);
        self.order.at(epoch, place, self.seed, count)
    }

    /// A sample's conversation, with what has become of its media.
    fn conversation(&self, sample: &Sample, visuals: &[PromptVisual]) -> Conversation {
        sample.conversation(visuals, &self.template, self.wraps_visuals)
    }
}

impl<M: Media> Dataset<M> {
    /// Leaves out samples that need not be decoded for that: whose media are not there, or whose
    /// words don't fit in `context` positions of `tokenizer`'s tokens beside `visual_tokens` for
    /// each visual.
    ///
    /// # Errors
    /// `BadFile` where too many are left out, or all.
    pub fn skip_unusable(
        &mut self,
        tokenizer: &Tokenizer,
        context: usize,
        visual_tokens: usize,
    ) -> Result<()> {
        let check = |sample: &Sample| -> Result<()> {
            sample
                .media
                .iter()
                .try_for_each(|medium| self.media.check(medium))?;
            // A token is a byte at least, but for a handful of the template's own.
            let bytes: usize = sample
                .turns
                .iter()
                .map(|turn| turn.bytes() + ROLE_BYTES)
                .sum();
            if bytes + sample.media.len() * visual_tokens + TEMPLATE_BYTES <= context {
                return Ok(());
            }
            let visual = |medium: &Medium| match medium {
                Medium::Image(_) => PromptVisual::Image,
                // It has this many tokens at least.
                Medium::Video(_) => PromptVisual::Video { frames: 1 },
            };
            let visuals: Vec<PromptVisual> = sample.media.iter().map(visual).collect();
            let tokens = vec![visual_tokens; visuals.len()];
            let conversation = self.conversation(sample, &visuals);
            Written::new(&conversation, tokenizer, &tokens, context).map(drop)
        };
        let found: Vec<Option<Error>> = self
            .samples
            .par_iter()
            .map(|sample| check(sample).err())
            .collect();
        let mut found = found.into_iter();
        let mut first = None;
        let mut added = Ok(());
        self.samples.retain(|sample| match found.next().flatten() {
            None => true,
            Some(error) => {
                let reason = error.to_string();
                if added.is_ok() {
                    added = self.skipped.add(&sample.id, &reason);
                }
                first.get_or_insert_with(|| format!("sample {}: {reason}", sample.id));
                false
            }
        });
        added?;
        if self.samples.is_empty() {
            let reason = first.unwrap_or_default();
            return Err(bad(format!("no sample can be learned from; {reason}")));
        }
        Ok(())
    }
}

/// More than any template writes before a conversation, and around a turn of it.
const TEMPLATE_BYTES: usize = 4096;
const ROLE_BYTES: usize = 64;

impl SampleTurn {
    fn bytes(&self) -> usize {
        let question = self.question.iter().map(|content| match content {
            Content::Text(text) => text.len(),
            Content::Medium => 0,
        });
        question.sum::<usize>() + self.answer.len()
    }
}

impl<M: Media> Examples for Dataset<M> {
    fn example(&self, step: u64, item: usize) -> Result<Example> {
        let sample = &self.samples[self.index(step, item)];
        let decode = |medium: &Medium| match medium {
            Medium::Image(name) => self.media.image(name).map(VisualInput::Image),
            Medium::Video(name) => self.media.video(name).map(VisualInput::Video),
        };
        let visuals = sample
            .media
            .iter()
            .map(decode)
            .collect::<Result<Vec<_>>>()?;
        let prompts = visuals.iter().map(|visual| match visual {
            VisualInput::Video(frames) => PromptVisual::Video {
                frames: frames.len(),
            },
            _ => PromptVisual::Image,
        });
        let conversation = self.conversation(sample, &prompts.collect::<Vec<_>>());
        Ok(Example {
            sights: visuals,
            conversations: vec![conversation],
        })
    }

    fn skip(&self, step: u64, item: usize, error: Error) -> Result<()> {
        let index = self.index(step, item);
        if self.skipped.found().in_training.insert(index) {
            self.skipped
                .add(&self.samples[index].id, &error.to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
