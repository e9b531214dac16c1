//! A model is asked the questions of a benchmark, as its reference asks.

use std::{cell::RefCell, time::Instant};

use univi::{
    Error, Model, Result, VisionEncoder, Visual, VisualKind,
    image::Rgb8,
    prompt::{Conversation, Prompt, PromptPart, PromptVisual, Slot, Template, Turn},
    sampler::Sampling,
    session::{GenerateOptions, SessionOptions},
    tokenizer::EncodeOptions,
};
use univi_eval::{Media, Protocol, Record, Sample};

use crate::{
    args::{FrameArgs, VisualPath},
    encode,
};

/// How a model is asked.
pub struct Asking<'a> {
    pub model: &'a Model,
    pub vision: Option<VisionEncoder>,
    pub frames: &'a FrameArgs,
    pub protocol: Protocol,
    pub template: Template,
    pub system: Option<String>,
    pub temperature: f32,
    pub max_tokens: usize,
    pub seed: u64,
    /// Seconds until the first token of each answer, until they are taken.
    pub prefill_s: RefCell<Vec<f64>>,
}

impl Asking<'_> {
    /// Answers a sample. Each has a session and a seed of its own, so that an answer does not
    /// depend on what was asked before it in the same run.
    ///
    /// # Errors
    /// What is wrong with the sample, or what the device reports.
    pub async fn answer(&self, index: usize, sample: &Sample) -> Result<Record> {
        let visual = self.encode(&sample.media).await?;
        let mut record = Record::of(index, sample);
        record.visual_tokens = visual.as_ref().map_or(0, Visual::tokens);
        let visuals: Vec<Visual> = visual.into_iter().collect();
        for question in &sample.questions {
            let prompt = self.prompt(question, visuals.first())?;
            self.put(question, prompt, &visuals, index, &mut record)
                .await?;
        }
        Ok(record)
    }

    async fn put(
        &self,
        question: &str,
        prompt: Prompt,
        visuals: &[Visual],
        index: usize,
        record: &mut Record,
    ) -> Result<()> {
        match self.protocol {
            Protocol::Answer => {
                let max_tokens = self.max_tokens;
                let text = self.generate(&prompt, visuals, index, max_tokens, record);
                let text = text.await?;
                record.texts.push(text);
            }
            Protocol::FirstToken(answers) => {
                record.prompt_tokens += self.tokens(&prompt, visuals)?;
                let start = Instant::now();
                let likeliest = self.likeliest(&prompt, visuals, answers).await?;
                let took = start.elapsed().as_secs_f64();
                self.prefill_s.borrow_mut().push(took);
                record.texts.push(likeliest.to_owned());
            }
            Protocol::ReasonThenChoose { bridge, max_tokens } => {
                let longest = self.max_tokens;
                let reasoning = self.generate(&prompt, visuals, index, longest, record);
                let reasoning = reasoning.await?;
                let prompt = prompt.continued_by(&format!("{reasoning}{bridge}"));
                let answer = self.generate(&prompt, visuals, index, max_tokens, record);
                let answer = answer.await?;
                let letters: Vec<String> = ('A'..='Z').map(String::from).collect();
                let offered: Vec<&str> = letters
                    .iter()
                    .map(String::as_str)
                    .filter(|letter| question.contains(&format!("({letter})")))
                    .collect();
                if !offered.is_empty() {
                    let choice = self.likeliest(&prompt, visuals, &offered).await?;
                    record.choice = Some(choice.to_owned());
                }
                record.texts.extend([reasoning, answer]);
            }
        }
        Ok(())
    }

    async fn encode(&self, media: &Media) -> Result<Option<Visual>> {
        let vision = || {
            self.vision.as_ref().ok_or(Error::BadRequest {
                reason: "this model has no vision encoder".into(),
            })
        };
        let path = match media {
            Media::None => return Ok(None),
            Media::Embedded(bytes) => {
                return Ok(Some(vision()?.image(&Rgb8::decode(bytes)?).await?));
            }
            Media::Missing(name) => {
                return Err(Error::Io {
                    reason: format!("{name} is not there"),
                });
            }
            Media::Image(path) => VisualPath::Image(path.clone()),
            Media::Video(path) => VisualPath::Video(path.clone()),
        };
        let vision = vision()?;
        let clip = encode::read(vision, &encode::open(&path)?, self.frames)?;
        let is_image = matches!(media, Media::Image(_));
        Ok(Some(match &clip.frames[..] {
            [picture] if is_image => vision.image(picture).await?,
            _ => vision.video(clip.frames.into_iter().map(Ok)).await?,
        }))
    }

    fn prompt(&self, question: &str, visual: Option<&Visual>) -> Result<Prompt> {
        let visual = visual.map(|visual| match visual.kind() {
            VisualKind::Image => PromptVisual::Image,
            VisualKind::Video => PromptVisual::Video {
                frames: visual.event_frames().iter().map(Vec::len).sum(),
            },
        });
        let mut parts: Vec<PromptPart> = visual.map(PromptPart::Visual).into_iter().collect();
        parts.push(PromptPart::Text(question.to_owned()));
        let conversation = Conversation {
            template: self.template.clone(),
            system: self.system.clone(),
            wraps_visuals: self.model.wraps_visuals(),
            turns: vec![Turn {
                parts,
                answer: None,
            }],
        };
        conversation.prompt()
    }

    async fn generate(
        &self,
        prompt: &Prompt,
        visuals: &[Visual],
        index: usize,
        max_tokens: usize,
        record: &mut Record,
    ) -> Result<String> {
        let sampling = Sampling::default()
            .temperature(self.temperature)
            .seed(self.seed.wrapping_add(index as u64));
        let options = GenerateOptions::default()
            .sampling(sampling)
            .max_tokens(max_tokens)
            .stop(self.template.stop());
        let mut session = self.model.session(SessionOptions::default());
        let start = Instant::now();
        let mut first = None;
        let mut stream = session.complete(prompt, visuals.to_vec(), &options).await?;
        while let Some(text) = stream.next().await? {
            if !text.is_empty() {
                first.get_or_insert_with(|| start.elapsed().as_secs_f64());
            }
        }
        let answer = stream.stop();
        self.prefill_s.borrow_mut().extend(first);
        record.prompt_tokens += answer.usage.prompt;
        Ok(answer.text.trim().to_owned())
    }

    /// Returns the tokens of a prompt.
    fn tokens(&self, prompt: &Prompt, visuals: &[Visual]) -> Result<usize> {
        let slots = prompt.encode(self.model.tokenizer())?;
        let slot = |slot: &Slot| match slot {
            Slot::Tokens(ids) => ids.len(),
            Slot::Visual(at) => visuals.get(*at).map_or(0, Visual::tokens),
        };
        Ok(slots.iter().map(slot).sum())
    }

    /// Returns which of these answers has the likeliest first token; among equals the first one.
    async fn likeliest<'a>(
        &self,
        prompt: &Prompt,
        visuals: &[Visual],
        answers: &[&'a str],
    ) -> Result<&'a str> {
        let mut session = self.model.session(SessionOptions::default());
        let logits = session.logits(prompt, visuals).await?;
        let mut encoded: Vec<(&str, Vec<u32>)> = Vec::with_capacity(answers.len());
        for answer in answers {
            let ids = self
                .model
                .tokenizer()
                .encode(answer, EncodeOptions::PIECE)?;
            encoded.push((answer, ids));
        }
        // In the reference's vocabulary each is one token. In a smaller one the last token of a
        // longer one stands for many words.
        let is_whole = |ids: &[u32]| ids.len() == 1;
        if encoded.iter().any(|(_, ids)| is_whole(ids)) {
            encoded.retain(|(_, ids)| is_whole(ids));
        }
        let mut best: Option<(f32, &str)> = None;
        for (answer, ids) in encoded {
            let logit = ids.last().and_then(|&id| logits.get(id as usize)).copied();
            let logit = logit.unwrap_or(f32::NEG_INFINITY);
            if best.is_none_or(|(most, _)| logit > most) {
                best = Some((logit, answer));
            }
        }
        Ok(best.map_or("", |(_, answer)| answer))
    }
}
