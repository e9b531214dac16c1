//! Pictures and clips as the language model reads them, and how their tokens came about.

use std::rc::Rc;

use super::merge::{Trace, VideoEvent};
use crate::{Backend, Result, prompt::PromptVisual};

/// What a visual was when it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisualKind {
    /// One picture.
    Image,
    /// Frames of a clip.
    Video,
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
    /// Embeddings `[tokens, width]` of frames of `grid * grid` patches each.
    pub(super) fn new(
        backend: B,
        kind: VisualKind,
        embeds: B::Tensor,
        grid: usize,
        trace: Trace<B>,
    ) -> EngineVisual<B> {
        EngineVisual(Rc::new(VisualData {
            backend,
            kind,
            embeds,
            grid,
            trace: Rc::new(trace),
        }))
    }

    /// Returns whether it is a picture or a clip.
    pub fn kind(&self) -> VisualKind {
        self.0.kind
    }

    /// Returns what a prompt knows of it.
    pub fn in_prompt(&self) -> PromptVisual {
        match self.0.kind {
            VisualKind::Image => PromptVisual::Image,
            VisualKind::Video => PromptVisual::Video {
                frames: self.event_frames().iter().map(Vec::len).sum(),
            },
        }
    }

    /// Embeddings that it takes in a prompt.
    pub fn tokens(&self) -> usize {
        self.0.backend.shape(&self.0.embeds)[0]
    }

    /// Returns the embeddings `[tokens, width]`.
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

    /// Returns the frames of each event, by their numbers among those that were shown. A picture is
    /// one event.
    pub fn event_frames(&self) -> &[Vec<usize>] {
        self.0.trace.event_frames()
    }

    /// Reads back which patch became part of which token.
    ///
    /// # Errors
    /// As [`Backend::read`].
    pub async fn events(&self) -> Result<Vec<VideoEvent>> {
        self.0.trace.events(&self.0.backend).await
    }
}

impl<B: Backend> MergeRecord<B> {
    /// Returns whether it is of a picture or a clip.
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
    pub async fn events(&self) -> Result<Vec<VideoEvent>> {
        self.trace.events(&self.backend).await
    }
}
