//! The vision encoder: CLIP, merging, projector.

use std::rc::Rc;

use super::{
    clip::{self, Clip},
    engine_visual::{EngineVisual, VisualKind},
    merge,
    projector::{self, Projector},
    weights::{ExpectedTensor, Weights},
};
use crate::{
    Backend, Error, Result,
    config::{ClipConfig, MergeMethod, VisionConfig, pooled_grid},
    image::{Preprocess, Rgb8, patches, preprocess},
};

/// Frames that go through the encoder at a time.
const FRAME_BATCH: usize = 8;

/// The vision encoder: encoder, merging, projector.
pub struct Vision<B: Backend> {
    backend: B,
    config: VisionConfig,
    clip: Rc<Clip<B>>,
    projector: Rc<Projector<B>>,
    /// Rows and columns of means that each picture's patches become.
    pooled: Option<[usize; 2]>,
}

/// A frame that was looked at by itself, to be asked about together with others. Cloning shares it.
pub struct EngineFrame<B: Backend>(Rc<merge::Frames<B>>);

impl<B: Backend> Clone for EngineFrame<B> {
    fn clone(&self) -> Self {
        EngineFrame(self.0.clone())
    }
}

/// Returns the tensors of a vision side.
pub fn vision_tensors(config: &VisionConfig) -> Vec<ExpectedTensor> {
    let mut wanted = clip::tensors(&config.clip);
    wanted.extend(projector::tensors(
        config.projector,
        config.clip.width,
        config.width,
    ));
    wanted
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
            pooled: None,
        })
    }

    /// Returns the same vision encoder, merging to about `tokens` tokens a picture or an event of a
    /// clip; without a number, to as many as the model was trained with.
    ///
    /// # Errors
    /// As [`MergeConfig::with_tokens`](crate::config::MergeConfig::with_tokens), and `BadRequest`
    /// for a number that there can't be means of, or any where nothing is merged.
    pub fn merging_to(&self, tokens: Option<usize>, method: MergeMethod) -> Result<Vision<B>> {
        let mut config = self.config.clone();
        let patches = config.clip.patches();
        let refuse = |reason| Err(Error::BadRequest { reason });
        let mut pooled = None;
        match (method, tokens) {
            (MergeMethod::AsTrained, None) => {}
            (MergeMethod::AsTrained, Some(tokens)) => {
                config.merge = config.merge.with_tokens(tokens, patches)?;
            }
            (MergeMethod::Pool, Some(tokens)) if !(1..=patches).contains(&tokens) => {
                return refuse(format!("{tokens} means a picture, expected 1 to {patches}"));
            }
            (MergeMethod::Pool, tokens) => {
                let tokens = tokens.unwrap_or(config.image_tokens());
                pooled = Some(pooled_grid(config.clip.grid(), tokens));
                config.merge.use_cluster = false;
            }
            (MergeMethod::None, None) => config.merge.use_cluster = false,
            (MergeMethod::None, Some(tokens)) => {
                return refuse(format!(
                    "{tokens} tokens a picture without merging: it has {patches}"
                ));
            }
        }
        Ok(Vision {
            backend: self.backend.clone(),
            config,
            clip: self.clip.clone(),
            projector: self.projector.clone(),
            pooled,
        })
    }

    /// Returns the means of `features [pictures * patches, c]` where the patches are pooled, and
    /// how many there are of each picture.
    fn pooled(&self, features: B::Tensor) -> (B::Tensor, usize) {
        let (b, grid, patches) = (
            &self.backend,
            self.config.clip.grid(),
            self.config.clip.patches(),
        );
        let Some([rows, columns]) = self.pooled else {
            return (features, patches);
        };
        let (height, width) = (grid / rows, grid / columns);
        let pictures = b.shape(&features)[0] / patches;
        let mut ids = Vec::with_capacity(pictures * patches);
        for picture in 0..pictures {
            for block in 0..rows * columns {
                let (top, left) = (block / columns * height, block % columns * width);
                for patch in 0..height * width {
                    let (y, x) = (top + patch / width, left + patch % width);
                    ids.push((picture * patches + y * grid + x) as u32);
                }
            }
        }
        let rows_of_blocks = b.gather(&features, &b.ids(&ids));
        (b.mean(&rows_of_blocks, height * width), rows * columns)
    }

    /// Returns what the vision side is made of.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Returns the most tokens that a picture becomes.
    pub fn image_tokens(&self) -> usize {
        match self.pooled {
            Some([rows, columns]) => rows * columns,
            None => self.config.image_tokens(),
        }
    }

    /// Returns what the encoder sees in pictures: features `[pictures * patches, c]`.
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
        let (features, _) = self.pooled(self.features([Ok(picture.clone())]).await?);
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
        let (features, patches) = self.pooled(self.features(frames).await?);
        let count = self.backend.shape(&features)[0] / patches;
        let frames = merge::Frames::new(&self.backend, &features, count, &self.config.merge);
        self.clip(&frames).await
    }

    /// Looks at one frame of what goes on: a few tokens of it stay on the device.
    ///
    /// # Errors
    /// `BadImage`; or as [`Backend::read`].
    pub async fn encode_frame(&self, frame: &Rgb8) -> Result<EngineFrame<B>> {
        let (features, _) = self.pooled(self.features([Ok(frame.clone())]).await?);
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
        Ok(EngineVisual::new(backend, kind, embeds, grid, merged.trace))
    }
}
