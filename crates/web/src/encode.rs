//! A model that encodes what it is shown.

use univi::image::Rgb8;
use univi_web_bindings::thrown;
use wasm_bindgen::prelude::*;

use crate::{
    engine::Engine,
    visual::{Clip, EncodedFrame, Frame, FrameBuffer, Visual},
};

/// Tokens that a picture, or an event of a clip, is merged to, where that is said.
type Budget = Option<f64>;

impl Engine {
    async fn encode_picture(&self, picture: &Rgb8, budget: Budget) -> univi::Result<Visual> {
        let visual = self.encoder(budget)?.image(picture).await?;
        Ok(Visual::new(visual, vec![Frame::new(picture, 0.)]))
    }

    async fn encode_clip(&self, clip: Clip, budget: Budget) -> univi::Result<Visual> {
        let (frames, crops) = clip.into_parts();
        let crops = crops.into_iter().map(Ok);
        let visual = self.encoder(budget)?.video(crops).await?;
        Ok(Visual::new(visual, frames))
    }

    async fn encode_one(
        &self,
        picture: &Rgb8,
        time_s: f64,
        budget: Budget,
    ) -> univi::Result<EncodedFrame> {
        let frame = self.encoder(budget)?.encode_frame(picture).await?;
        Ok(EncodedFrame::new(frame, Frame::new(picture, time_s)))
    }

    async fn merge(&self, buffer: FrameBuffer, budget: Budget) -> univi::Result<Visual> {
        let FrameBuffer { encoded, frames } = buffer;
        let visual = self.encoder(budget)?.merge_frames(&encoded).await?;
        Ok(Visual::new(visual, frames))
    }
}

#[wasm_bindgen]
impl Engine {
    /// Encodes a picture file; `name` is what errors call it.
    ///
    /// # Errors
    /// `bad-image`; `bad-request` where the model does not see; what the device reports.
    pub async fn image(
        &self,
        bytes: Vec<u8>,
        name: String,
        #[wasm_bindgen(js_name = visualTokens)] budget: Budget,
    ) -> Result<Visual, JsValue> {
        let picture = Rgb8::decode(&bytes).map_err(|error| thrown(error.in_file(name)))?;
        self.encode_picture(&picture, budget).await.map_err(thrown)
    }

    /// Encodes `rgba: [height, width, 4]`.
    ///
    /// # Errors
    /// As [`Engine::image`].
    pub async fn pixels(
        &self,
        width: usize,
        height: usize,
        rgba: wasm_bindgen::Clamped<Vec<u8>>,
        #[wasm_bindgen(js_name = visualTokens)] budget: Budget,
    ) -> Result<Visual, JsValue> {
        let picture = Rgb8::from_rgba(width, height, &rgba).map_err(thrown)?;
        self.encode_picture(&picture, budget).await.map_err(thrown)
    }

    /// Returns about how many tokens a clip of so many frames becomes.
    ///
    /// # Errors
    /// `bad-request` where the model does not see, or can't merge to such a budget.
    #[wasm_bindgen(js_name = clipTokens)]
    pub fn clip_tokens(
        &self,
        frames: usize,
        #[wasm_bindgen(js_name = visualTokens)] budget: Budget,
    ) -> Result<usize, JsValue> {
        let encoder = self.encoder(budget).map_err(thrown)?;
        Ok(encoder.config().video_tokens(frames))
    }

    /// Encodes a clip.
    ///
    /// # Errors
    /// `bad-video` without frames, else as [`Engine::image`].
    pub async fn clip(
        &self,
        clip: Clip,
        #[wasm_bindgen(js_name = visualTokens)] budget: Budget,
    ) -> Result<Visual, JsValue> {
        self.encode_clip(clip, budget).await.map_err(thrown)
    }

    /// Encodes one frame of a live session, `rgba: [height, width, 4]`, to a few tokens.
    ///
    /// # Errors
    /// As [`Engine::image`].
    #[wasm_bindgen(js_name = encodeFrame)]
    pub async fn encode_frame(
        &self,
        width: usize,
        height: usize,
        rgba: wasm_bindgen::Clamped<Vec<u8>>,
        time_s: f64,
        #[wasm_bindgen(js_name = visualTokens)] budget: Budget,
    ) -> Result<EncodedFrame, JsValue> {
        let picture = Rgb8::from_rgba(width, height, &rgba).map_err(thrown)?;
        self.encode_one(&picture, time_s, budget)
            .await
            .map_err(thrown)
    }

    /// Merges frames into one clip; nothing is encoded again.
    ///
    /// # Errors
    /// `bad-video` without frames, or what the device reports.
    #[wasm_bindgen(js_name = mergeFrames)]
    pub async fn merge_frames(
        &self,
        buffer: FrameBuffer,
        #[wasm_bindgen(js_name = visualTokens)] budget: Budget,
    ) -> Result<Visual, JsValue> {
        self.merge(buffer, budget).await.map_err(thrown)
    }
}
