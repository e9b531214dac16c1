//! Chat-UniVi (arXiv 2311.08046): pictures and clips become a short list of embeddings, which stand
//! in the prompt like words.

use std::{cell::OnceCell, rc::Rc};

use super::{
    clip::{self, Clip},
    llama::Llama,
    merge::{self, Event, Trace},
    projector::{self, Projector},
    weights::{ExpectedTensor, Weights},
};
use crate::{
    Backend, Error, Result,
    config::{ClipConfig, VisionConfig},
    constraint::Vocabulary,
    image::{Preprocess, Rgb8, patches, preprocess},
    prompt::{self, Prompt, Slot, Template},
    tokenizer::Tokenizer,
};

/// Frames that go through the encoder at a time.
const FRAME_BATCH: usize = 8;

/// The vision encoder: encoder, merging, projector.
pub struct Vision<B: Backend> {
    backend: B,
    config: VisionConfig,
    clip: Rc<Clip<B>>,
    projector: Rc<Projector<B>>,
}

/// What a visual was when it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisualKind {
    /// One picture.
    Image,
    /// Frames of a clip.
    Video,
}

/// A frame that was looked at by itself, to be asked about together with others. Cloning shares it.
pub struct EngineFrame<B: Backend>(Rc<merge::Frames<B>>);

impl<B: Backend> Clone for EngineFrame<B> {
    fn clone(&self) -> Self {
        EngineFrame(self.0.clone())
    }
}

/// A picture or clip as the language model reads it. Cloning shares it.
pub struct EngineVisual<B: Backend>(Rc<VisualData<B>>);

struct VisualData<B: Backend> {
    backend: B,
    kind: VisualKind,
    /// `[tokens, width]`
    embeds: B::Tensor,
    grid: usize,
    trace: Rc<Trace<B>>,
}

/// What became of the patches of a visual, without its embeddings: it takes a few kilobytes of the
/// device for as long as it may be asked for. Cloning shares it.
pub struct MergeRecord<B: Backend> {
    backend: B,
    kind: VisualKind,
    tokens: usize,
    grid: usize,
    trace: Rc<Trace<B>>,
}

/// A model: a language model, how one speaks with it, and the vision encoder if it has any.
pub struct ChatUniVi<B: Backend> {
    backend: B,
    llama: Llama<B>,
    vision: Option<Vision<B>>,
    language: Language,
    /// Made for the first answer that is held to a schema.
    vocabulary: OnceCell<Rc<Vocabulary>>,
}

/// How a model's words are written down.
#[derive(Debug)]
pub struct Language {
    /// The vocabulary.
    pub tokenizer: Tokenizer,
    /// How a conversation becomes a prompt.
    pub template: Template,
    /// Whether `<im_start>` and `<im_end>` stand around visuals.
    pub wraps_visuals: bool,
}

/// One place in a prompt.
pub enum PromptToken<B: Backend> {
    /// A token of the vocabulary.
    Token(u32),
    /// This embedding of a visual.
    Row(EngineVisual<B>, usize),
}

impl<B: Backend> Clone for PromptToken<B> {
    fn clone(&self) -> Self {
        match self {
            PromptToken::Token(id) => PromptToken::Token(*id),
            PromptToken::Row(visual, row) => PromptToken::Row(visual.clone(), *row),
        }
    }
}

impl<B: Backend> PartialEq for PromptToken<B> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (PromptToken::Token(a), PromptToken::Token(b)) => a == b,
            (PromptToken::Row(a, i), PromptToken::Row(b, j)) => a == b && i == j,
            _ => false,
        }
    }
}

/// The tensors of a vision side.
pub fn vision_tensors(config: &VisionConfig) -> Vec<ExpectedTensor> {
    let mut wanted = clip::tensors(&config.clip);
    wanted.extend(projector::tensors(
        config.projector,
        config.clip.width,
        config.width,
    ));
    wanted
}

impl<B: Backend> ChatUniVi<B> {
    /// A model of its parts.
    ///
    /// # Errors
    /// `BadMetadata` where the vision side was made for a language model of another width;
    /// `BadFile` where the vocabulary has more tokens than the language model.
    pub fn new(
        backend: B,
        llama: Llama<B>,
        vision: Option<Vision<B>>,
        language: Language,
    ) -> Result<ChatUniVi<B>> {
        let width = llama.config().width;
        if let Some(found) = vision
            .as_ref()
            .map(|vision| vision.config.width)
            .filter(|&found| found != width)
        {
            let reason = format!(
                "is {found}, but the language model is {width} wide: the files belong to different models"
            );
            return Err(Error::BadMetadata {
                key: "clip.vision.projection_dim".into(),
                reason,
            });
        }
        let (tokens, rows) = (language.tokenizer.vocab_len(), llama.config().vocabulary);
        if tokens > rows {
            let reason = format!(
                "has {tokens} tokens, but the language model knows {rows}: the files belong to different models"
            );
            return Err(Error::BadFile {
                format: "tokenizer",
                reason,
            });
        }
        Ok(ChatUniVi {
            backend,
            llama,
            vision,
            language,
            vocabulary: OnceCell::new(),
        })
    }

    /// What computes.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The language model.
    pub fn llama(&self) -> &Llama<B> {
        &self.llama
    }

    /// The vision encoder.
    ///
    /// # Errors
    /// `BadRequest` where the model has none.
    pub fn vision(&self) -> Result<&Vision<B>> {
        let blind = || Error::BadRequest {
            reason: "this model has no vision side: it can't look at images and videos".into(),
        };
        self.vision.as_ref().ok_or_else(blind)
    }

    /// Whether the model has a vision encoder.
    pub fn has_vision(&self) -> bool {
        self.vision.is_some()
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.language.tokenizer
    }

    /// What the tokens spell, for answers that are held to a schema.
    pub fn vocabulary(&self) -> Rc<Vocabulary> {
        let made = || Rc::new(Vocabulary::new(self.tokenizer()));
        self.vocabulary.get_or_init(made).clone()
    }

    /// How a conversation becomes a prompt.
    pub fn template(&self) -> &Template {
        &self.language.template
    }

    /// Whether `<im_start>` and `<im_end>` stand around visuals.
    pub fn wraps_visuals(&self) -> bool {
        self.language.wraps_visuals
    }

    /// Every place of a prompt, visuals where they stand.
    ///
    /// # Errors
    /// `BadRequest` where the prompt has a visual that is not given, or the other way round;
    /// `Tokenizer`.
    pub fn prompt_tokens(
        &self,
        prompt: &Prompt,
        visuals: &[EngineVisual<B>],
    ) -> Result<Vec<PromptToken<B>>> {
        if prompt.visuals.len() != visuals.len() {
            let reason = format!(
                "the prompt has {} images and videos, {} are given",
                prompt.visuals.len(),
                visuals.len()
            );
            return Err(Error::BadRequest { reason });
        }
        let mut prompt_tokens = Vec::new();
        for slot in prompt.encode(self.tokenizer())? {
            match slot {
                Slot::Tokens(ids) => prompt_tokens.extend(ids.into_iter().map(PromptToken::Token)),
                Slot::Visual(i) => prompt_tokens.extend(
                    (0..visuals[i].tokens()).map(|row| PromptToken::Row(visuals[i].clone(), row)),
                ),
            }
        }
        Ok(prompt_tokens)
    }

    /// The embeddings `[places, width]`.
    ///
    /// # Panics
    /// Without places.
    pub fn embed(&self, prompt_tokens: &[PromptToken<B>]) -> B::Tensor {
        let b = &self.backend;
        // Runs of tokens, and runs of rows of one visual.
        let together = |a: &PromptToken<B>, b: &PromptToken<B>| match (a, b) {
            (PromptToken::Token(_), PromptToken::Token(_)) => true,
            (PromptToken::Row(a, i), PromptToken::Row(b, j)) => a == b && i + 1 == *j,
            _ => false,
        };
        let token = |prompt_token: &PromptToken<B>| {
            if let PromptToken::Token(id) = prompt_token {
                Some(*id)
            } else {
                None
            }
        };
        let run = |prompt_tokens: &[PromptToken<B>]| match &prompt_tokens[0] {
            PromptToken::Token(_) => self
                .llama
                .embed(&b.ids(&prompt_tokens.iter().filter_map(token).collect::<Vec<_>>())),
            PromptToken::Row(visual, row) => {
                b.slice(visual.embeds(), *row..row + prompt_tokens.len())
            }
        };
        let runs: Vec<B::Tensor> = prompt_tokens.chunk_by(together).map(run).collect();
        match &runs[..] {
            [run] => run.clone(),
            runs => b.concat(&runs.iter().collect::<Vec<_>>()),
        }
    }
}

impl<B: Backend> Vision<B> {
    /// Takes the vision side out of `weights`.
    ///
    /// # Errors
    /// `MissingTensor`.
    pub fn new(weights: &mut Weights<B>, config: &VisionConfig) -> Result<Vision<B>> {
        Ok(Vision {
            backend: weights.backend().clone(),
            config: config.clone(),
            clip: Rc::new(Clip::new(weights, &config.clip)?),
            projector: Rc::new(Projector::new(weights, config.projector)?),
        })
    }

    /// The same vision encoder, merging to about `tokens` tokens a picture or an event of a clip;
    /// without a number, to as many as the model was trained with.
    ///
    /// # Errors
    /// As [`MergeConfig::with_tokens`](crate::config::MergeConfig::with_tokens).
    pub fn merging_to(&self, tokens: Option<usize>) -> Result<Vision<B>> {
        let mut config = self.config.clone();
        if let Some(tokens) = tokens {
            config.merge = config.merge.with_tokens(tokens, config.clip.patches())?;
        }
        Ok(Vision {
            backend: self.backend.clone(),
            config,
            clip: self.clip.clone(),
            projector: self.projector.clone(),
        })
    }

    /// What the vision side is made of.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// What the encoder sees in pictures: features `[pictures * patches, c]`.
    ///
    /// # Errors
    /// `BadImage`; or as [`Backend::read`].
    pub async fn features(
        &self,
        pictures: impl IntoIterator<Item = Result<Rgb8>>,
    ) -> Result<B::Tensor> {
        let b = &self.backend;
        let &ClipConfig {
            image_px,
            patch_px,
            mean,
            std,
            ..
        } = &self.config.clip;
        let mut pictures = pictures.into_iter().peekable();
        let mut features = Vec::new();
        while pictures.peek().is_some() {
            let mut rows = Vec::new();
            for picture in pictures.by_ref().take(FRAME_BATCH) {
                let planar = preprocess(
                    &picture?,
                    &Preprocess {
                        size_px: image_px,
                        mean,
                        std,
                    },
                )?;
                rows.extend(patches(&planar, image_px, patch_px));
            }
            let rows = b.tensor(&rows, 3 * patch_px * patch_px);
            features.push(
                self.clip
                    .encode(&rows, b.shape(&rows)[0] / self.config.clip.patches()),
            );
            // One batch at a time: a slow device would take a long clip for a hang.
            b.finish().await?;
        }
        if features.is_empty() {
            return Err(Error::BadVideo {
                reason: "it has no frames".into(),
            });
        }
        Ok(b.concat(&features.iter().collect::<Vec<_>>()))
    }

    /// Looks at a picture.
    ///
    /// # Errors
    /// `BadImage`; or as [`Backend::read`].
    pub async fn image(&self, picture: &Rgb8) -> Result<EngineVisual<B>> {
        let features = self.features([Ok(picture.clone())]).await?;
        self.visual(
            VisualKind::Image,
            merge::image(&self.backend, &features, &self.config.merge),
        )
        .await
    }

    /// Looks at the frames of a clip, chosen by [`sample_times`](crate::frames::sample_times).
    /// They are taken as they are needed, [`Result`] by result, so that no more than a batch is
    /// held at a time.
    ///
    /// # Errors
    /// `BadVideo` without frames; what the frames themselves bring; or as [`Backend::read`].
    pub async fn video(
        &self,
        frames: impl IntoIterator<Item = Result<Rgb8>>,
    ) -> Result<EngineVisual<B>> {
        let features = self.features(frames).await?;
        let count = self.backend.shape(&features)[0] / self.config.clip.patches();
        let frames = merge::Frames::new(&self.backend, &features, count, &self.config.merge);
        self.clip(&frames).await
    }

    /// Looks at one frame of what goes on: a few tokens of it stay on the device.
    ///
    /// # Errors
    /// `BadImage`; or as [`Backend::read`].
    pub async fn encode_frame(&self, frame: &Rgb8) -> Result<EngineFrame<B>> {
        let features = self.features([Ok(frame.clone())]).await?;
        let frames = merge::Frames::new(&self.backend, &features, 1, &self.config.merge);
        self.backend.finish().await?;
        Ok(EngineFrame(Rc::new(frames)))
    }

    /// Frames that were looked at before, as the clip that they are together: nothing is looked at
    /// again.
    ///
    /// # Errors
    /// `BadVideo` without frames, `BadRequest` for frames that were merged to different numbers of
    /// tokens; or as [`Backend::read`].
    pub async fn merge_frames(&self, frames: &[EngineFrame<B>]) -> Result<EngineVisual<B>> {
        if frames.is_empty() {
            return Err(Error::BadVideo {
                reason: "no frame of it has been seen yet".into(),
            });
        }
        let all: Vec<&merge::Frames<B>> = frames.iter().map(|frame| &*frame.0).collect();
        if all.iter().any(|frames| !frames.is_like(all[0])) {
            return Err(Error::BadRequest {
                reason: "its frames were merged to different numbers of tokens".into(),
            });
        }
        self.clip(&merge::Frames::join(&self.backend, &all)).await
    }

    async fn clip(&self, frames: &merge::Frames<B>) -> Result<EngineVisual<B>> {
        let merged = merge::video(&self.backend, frames, &self.config.merge, None).await?;
        self.visual(VisualKind::Video, merged).await
    }

    async fn visual(&self, kind: VisualKind, merged: merge::Merged<B>) -> Result<EngineVisual<B>> {
        let embeds = self.projector.forward(&merged.tokens);
        self.backend.finish().await?;
        let (backend, grid) = (self.backend.clone(), self.config.clip.grid());
        Ok(EngineVisual(Rc::new(VisualData {
            backend,
            kind,
            embeds,
            grid,
            trace: Rc::new(merged.trace),
        })))
    }
}

impl<B: Backend> Clone for EngineVisual<B> {
    fn clone(&self) -> Self {
        EngineVisual(self.0.clone())
    }
}

/// Whether it is the same look at the same thing.
impl<B: Backend> PartialEq for EngineVisual<B> {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl<B: Backend> EngineVisual<B> {
    /// Picture or clip.
    pub fn kind(&self) -> VisualKind {
        self.0.kind
    }

    /// What a prompt knows of it.
    pub fn in_prompt(&self) -> prompt::PromptVisual {
        match self.0.kind {
            VisualKind::Image => prompt::PromptVisual::Image,
            VisualKind::Video => prompt::PromptVisual::Video {
                frames: self.event_frames().iter().map(Vec::len).sum(),
            },
        }
    }

    /// Embeddings that it takes in a prompt.
    pub fn tokens(&self) -> usize {
        self.0.backend.shape(&self.0.embeds)[0]
    }

    /// `[tokens, width]`
    pub fn embeds(&self) -> &B::Tensor {
        &self.0.embeds
    }

    /// Patches in a row and in a column of each frame.
    pub fn grid(&self) -> usize {
        self.0.grid
    }

    /// Returns what became of its patches, to be read back when it is asked for.
    pub fn merge_record(&self) -> MergeRecord<B> {
        let VisualData {
            backend,
            kind,
            grid,
            trace,
            ..
        } = &*self.0;
        MergeRecord {
            backend: backend.clone(),
            kind: *kind,
            tokens: self.tokens(),
            grid: *grid,
            trace: trace.clone(),
        }
    }

    /// The frames of each event, by their numbers among those that were shown. A picture is one
    /// event.
    pub fn event_frames(&self) -> &[Vec<usize>] {
        self.0.trace.event_frames()
    }

    /// Reads back which patch became part of which token.
    ///
    /// # Errors
    /// As [`Backend::read`].
    pub async fn events(&self) -> Result<Vec<Event>> {
        self.0.trace.events(&self.0.backend).await
    }
}

impl<B: Backend> MergeRecord<B> {
    /// Whether it is of a picture or a clip.
    pub fn kind(&self) -> VisualKind {
        self.kind
    }

    /// Returns the tokens that the visual takes in a prompt.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns the patches in a row and in a column of each frame.
    pub fn grid(&self) -> usize {
        self.grid
    }

    /// Returns the frames of each event; a picture is one event.
    pub fn event_frames(&self) -> &[Vec<usize>] {
        self.trace.event_frames()
    }

    /// Reads back which patch became part of which token.
    ///
    /// # Errors
    /// As [`Backend::read`].
    pub async fn events(&self) -> Result<Vec<Event>> {
        self.trace.events(&self.backend).await
    }
}
