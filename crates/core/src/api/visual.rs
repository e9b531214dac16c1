//! Images and videos, encoded, and what became of their patches.

use crate::{
    Cpu, Error, Gpu, Result,
    config::{MergeMethod, VisionConfig},
    image::Rgb8,
    model::{EngineFrame, EngineVisual, MergeRecord, Vision, VisualKind, merge::VideoEvent},
};

use super::device::{OnBackend, dispatch};

/// Options of encoding images and videos.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VisualOptions {
    /// Tokens that an image, or an event of a video, is merged to, about; `None` for as many as
    /// the model was trained with.
    pub tokens: Option<usize>,
    /// How patches become tokens.
    pub merge: MergeMethod,
}

impl VisualOptions {
    /// Sets [`VisualOptions::tokens`].
    pub fn tokens(mut self, tokens: impl Into<Option<usize>>) -> VisualOptions {
        self.tokens = tokens.into();
        self
    }

    /// Sets [`VisualOptions::merge`].
    pub fn merge(mut self, merge: MergeMethod) -> VisualOptions {
        self.merge = merge;
        self
    }
}

/// Encodes images and videos: CLIP, merging, projector. Not `Send`: it stays on the thread of its
/// device.
pub struct VisionEncoder(OnBackend<Vision<Cpu>, Vision<Gpu>>);

impl VisionEncoder {
    pub(super) fn new(engine: OnBackend<Vision<Cpu>, Vision<Gpu>>) -> VisionEncoder {
        VisionEncoder(engine)
    }

    /// Returns the same encoder with other options.
    ///
    /// # Errors
    /// As [`MergeConfig::with_tokens`](crate::config::MergeConfig::with_tokens).
    pub fn with_options(&self, options: &VisualOptions) -> Result<VisionEncoder> {
        Ok(VisionEncoder(
            dispatch!(map &self.0, vision => vision.merging_to(options.tokens, options.merge)?),
        ))
    }

    /// Returns the encoder's configuration.
    pub fn config(&self) -> &VisionConfig {
        dispatch!(&self.0, vision => vision.config())
    }

    /// Returns the most tokens that an image becomes.
    pub fn image_tokens(&self) -> usize {
        dispatch!(&self.0, vision => vision.image_tokens())
    }

    /// Encodes an image.
    ///
    /// # Errors
    /// `BadImage`; or what the device reports.
    pub async fn image(&self, image: &Rgb8) -> Result<Visual> {
        Ok(Visual(
            dispatch!(map &self.0, vision => vision.image(image).await?),
        ))
    }

    /// Encodes the frames of a video, chosen by [`sample_times`](crate::frames::sample_times).
    /// They are taken as they are needed, so that no more than a batch is held at a time.
    ///
    /// # Errors
    /// `BadVideo` without frames; the errors of the frames; or what the device reports.
    pub async fn video(&self, frames: impl IntoIterator<Item = Result<Rgb8>>) -> Result<Visual> {
        Ok(Visual(
            dispatch!(map &self.0, vision => vision.video(frames).await?),
        ))
    }

    /// Encodes one frame of a live video, of which a few tokens stay on the device.
    ///
    /// # Errors
    /// `BadImage`; or what the device reports.
    pub async fn encode_frame(&self, frame: &Rgb8) -> Result<EncodedFrame> {
        Ok(EncodedFrame(
            dispatch!(map &self.0, vision => vision.encode_frame(frame).await?),
        ))
    }

    /// Merges encoded frames to the video that they are together, without encoding them again.
    ///
    /// # Errors
    /// `BadVideo` without frames, `BadRequest` for frames of another device or that were merged to
    /// different numbers of tokens; or what the device reports.
    pub async fn merge_frames(&self, frames: &[EncodedFrame]) -> Result<Visual> {
        let foreign = || Error::BadRequest {
            reason: "a frame was encoded by a model on another device".into(),
        };
        Ok(Visual(dispatch!(map &self.0, vision => {
            let frames = frames.iter().map(|frame| frame.0.get().cloned().ok_or_else(foreign));
            vision.merge_frames(&frames.collect::<Result<Vec<_>>>()?).await?
        })))
    }
}

/// One encoded frame of a live video. Clones share it. Not `Send`: it stays on the thread of its
/// device.
#[derive(Clone)]
pub struct EncodedFrame(OnBackend<EngineFrame<Cpu>, EngineFrame<Gpu>>);

/// An encoded image or video, as the language model takes it. Clones share it. Not `Send`: it stays
/// on the thread of its device.
#[derive(Clone)]
pub struct Visual(pub(super) OnBackend<EngineVisual<Cpu>, EngineVisual<Gpu>>);

impl Visual {
    /// Returns whether it is an image or a video.
    pub fn kind(&self) -> VisualKind {
        dispatch!(&self.0, visual => visual.kind())
    }

    /// Returns the tokens that it takes in a prompt.
    pub fn tokens(&self) -> usize {
        dispatch!(&self.0, visual => visual.tokens())
    }

    /// Returns the patches in a row and in a column of each frame.
    pub fn patches_per_side(&self) -> usize {
        dispatch!(&self.0, visual => visual.grid())
    }

    /// Returns the frames of each event, by their indices among those that were encoded. An image
    /// is one event.
    pub fn event_frames(&self) -> &[Vec<usize>] {
        dispatch!(&self.0, visual => visual.event_frames())
    }

    /// Reads back from the device which patch was merged into which token.
    ///
    /// # Errors
    /// What the device reports.
    pub async fn token_map(&self) -> Result<TokenMap> {
        self.stored_token_map().read().await
    }

    /// Returns the token map as it lies on the device, without the embeddings: a few kilobytes, to
    /// be read when it is asked for.
    pub fn stored_token_map(&self) -> StoredTokenMap {
        StoredTokenMap(dispatch!(map &self.0, visual => visual.merge_record()))
    }
}

/// A token map that lies on the device. Not `Send`: it stays on the thread of its device.
pub struct StoredTokenMap(OnBackend<MergeRecord<Cpu>, MergeRecord<Gpu>>);

impl StoredTokenMap {
    /// Returns the token map without the stages of merging, which are on the device.
    pub fn without_stages(&self) -> TokenMap {
        dispatch!(&self.0, record => {
            let events = record.event_frames().iter().map(|frames| VideoEvent {
                frames: frames.clone(),
                stages: Vec::new(),
            });
            TokenMap {
                kind: record.kind(),
                tokens: record.tokens(),
                patches_per_side: record.grid(),
                events: events.collect(),
            }
        })
    }

    /// Reads it back.
    ///
    /// # Errors
    /// What the device reports.
    pub async fn read(&self) -> Result<TokenMap> {
        Ok(TokenMap {
            events: dispatch!(&self.0, record => record.events().await?),
            ..self.without_stages()
        })
    }
}

/// Which patch of an image or video was merged into which token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenMap {
    /// Whether it is of an image or a video.
    pub kind: VisualKind,
    /// Tokens of all events together.
    pub tokens: usize,
    /// Patches in a row and in a column of each frame.
    pub patches_per_side: usize,
    /// The events in their order; an image is one.
    pub events: Vec<VideoEvent>,
}
