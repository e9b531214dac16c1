//! Pictures and clips on their way to the model, and what it saw of them.

use js_sys::{Array, Function, Uint32Array};
use univi::{
    VideoEvent, VisualKind,
    frames::{FrameOptions, sample_times},
    image::{Animation, Rgb8},
};
use univi_web_bindings::{object, thrown, whole};
use wasm_bindgen::prelude::*;

use crate::{callback::goes_on, engine::Engine};

#[wasm_bindgen]
extern "C" {
    /// Which frames of a clip to look at.
    #[wasm_bindgen(
        typescript_type = "{ startSeconds?: number; endSeconds?: number; frameRate?: number; maxFrames?: number }"
    )]
    pub type FrameChoice;

    #[wasm_bindgen(method, getter, js_name = startSeconds)]
    fn start_seconds(this: &FrameChoice) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = endSeconds)]
    fn end_seconds(this: &FrameChoice) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = frameRate)]
    fn frame_rate(this: &FrameChoice) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = maxFrames)]
    fn max_frames(this: &FrameChoice) -> Option<f64>;
}

impl FrameChoice {
    fn options(&self) -> univi::Result<FrameOptions> {
        let default = FrameOptions::default();
        Ok(FrameOptions::default()
            .frame_rate(self.frame_rate().unwrap_or(default.frame_rate))
            .max_frames(
                whole("maxFrames", self.max_frames())?.map_or(default.max_frames, |n| n as usize),
            )
            .start_s(self.start_seconds())
            .end_s(self.end_seconds()))
    }
}

/// A frame as it was shown.
#[derive(Clone, Copy)]
pub struct Frame {
    time_s: f64,
    width_px: usize,
    height_px: usize,
}

impl Frame {
    /// A picture, or a frame of a clip, that is shown at `time_s`.
    pub fn new(picture: &Rgb8, time_s: f64) -> Frame {
        Frame {
            time_s,
            width_px: picture.width_px,
            height_px: picture.height_px,
        }
    }

    fn plain(&self) -> JsValue {
        let side = self.width_px.min(self.height_px) as f64;
        let (width, height) = (self.width_px as f64, self.height_px as f64);
        let crop = object([
            ("x", ((width - side) / 2.).into()),
            ("y", ((height - side) / 2.).into()),
            ("side", side.into()),
        ]);
        object([
            ("timeSeconds", self.time_s.into()),
            ("width", width.into()),
            ("height", height.into()),
            ("crop", crop),
        ])
    }
}

/// The frames of a clip, gathered one by one. Only the part of each that the model looks at is
/// kept.
#[wasm_bindgen]
#[derive(Default)]
pub struct Clip {
    frames: Vec<Frame>,
    crops: Vec<Rgb8>,
}

#[wasm_bindgen]
impl Clip {
    /// A clip without frames.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Clip {
        Clip::default()
    }

    /// Returns the moments to sample, in seconds from the clip's first frame: `first_times_s` are
    /// the times of its first frames, `last_s` and `end_s` when its last one appears and ends.
    ///
    /// # Errors
    /// `bad-video`, `bad-request`.
    #[wasm_bindgen(js_name = frameTimes)]
    pub fn frame_times(
        first_times_s: &[f64],
        last_s: f64,
        end_s: f64,
        choice: &FrameChoice,
    ) -> Result<Vec<f64>, JsValue> {
        let options = choice.options().map_err(thrown)?;
        sample_times(first_times_s, last_s, end_s, &options).map_err(thrown)
    }

    /// Adds a frame: `rgba: [height, width, 4]`.
    ///
    /// # Errors
    /// `bad-image`, `bad-request`.
    #[wasm_bindgen(js_name = pushFrame)]
    pub fn push_frame(
        &mut self,
        engine: &Engine,
        width: usize,
        height: usize,
        rgba: wasm_bindgen::Clamped<Vec<u8>>,
        time_s: f64,
    ) -> Result<(), JsValue> {
        let picture = Rgb8::from_rgba(width, height, &rgba).map_err(thrown)?;
        self.push(engine, &picture, time_s).map_err(thrown)
    }

    /// Adds the chosen frames of an animated GIF or WebP. `on_frame` is called between two frames
    /// of the file, and ends the work by returning false; returns false where it did.
    ///
    /// # Errors
    /// `bad-video`, `bad-request`, or what `on_frame` throws.
    #[wasm_bindgen(js_name = pushAnimation)]
    pub async fn push_animation(
        &mut self,
        engine: &Engine,
        bytes: Vec<u8>,
        name: String,
        choice: &FrameChoice,
        #[wasm_bindgen(unchecked_param_type = "() => boolean | Promise<boolean>")]
        on_frame: &Function,
    ) -> Result<bool, JsValue> {
        let failed = |error: univi::Error| thrown(error.in_file(name.clone()));
        let animation = Animation::new(bytes).map_err(failed)?;
        let options = choice.options().map_err(failed)?;
        let (times_s, indices) = animation.sample(&options).map_err(failed)?;
        let mut times_s = times_s.into_iter();
        let size_px = engine.image_px().map_err(failed)?;
        let [width_px, height_px] = animation.size_px();
        for drawn in animation.crops(&indices, size_px).map_err(failed)? {
            if let Some((_, crop)) = drawn.map_err(failed)? {
                self.frames.push(Frame {
                    time_s: times_s.next().unwrap_or_default(),
                    width_px,
                    height_px,
                });
                self.crops.push(crop);
            }
            if !goes_on(on_frame, "", &JsValue::UNDEFINED).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn push(&mut self, engine: &Engine, picture: &Rgb8, time_s: f64) -> univi::Result<()> {
        self.frames.push(Frame::new(picture, time_s));
        self.crops.push(picture.crop(engine.image_px()?)?);
        Ok(())
    }
}

impl Clip {
    /// The frames as they were shown, and what of them is to be looked at.
    pub fn into_parts(self) -> (Vec<Frame>, Vec<Rgb8>) {
        (self.frames, self.crops)
    }
}

/// A frame of a live session, of which a few tokens are kept.
#[wasm_bindgen]
pub struct EncodedFrame {
    inner: univi::EncodedFrame,
    frame: Frame,
}

impl EncodedFrame {
    /// The tokens of `frame`.
    pub fn new(inner: univi::EncodedFrame, frame: Frame) -> EncodedFrame {
        EncodedFrame { inner, frame }
    }
}

#[wasm_bindgen]
impl EncodedFrame {
    /// When it was shown.
    #[wasm_bindgen(getter, js_name = timeSeconds)]
    pub fn time_seconds(&self) -> f64 {
        self.frame.time_s
    }
}

/// Frames to be merged into one clip, gathered one by one.
#[wasm_bindgen]
#[derive(Default)]
pub struct FrameBuffer {
    pub(crate) encoded: Vec<univi::EncodedFrame>,
    /// As they were shown.
    pub(crate) frames: Vec<Frame>,
}

#[wasm_bindgen]
impl FrameBuffer {
    /// Nothing yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> FrameBuffer {
        FrameBuffer::default()
    }

    /// Adds the next frame, which stays what it is.
    pub fn push(&mut self, frame: &EncodedFrame) {
        self.encoded.push(frame.inner.clone());
        self.frames.push(frame.frame);
    }
}

/// A picture or clip as the language model reads it.
#[wasm_bindgen]
pub struct Visual {
    pub(crate) inner: univi::Visual,
    frames: Vec<Frame>,
}

impl Visual {
    /// What became of `frames`.
    pub fn new(inner: univi::Visual, frames: Vec<Frame>) -> Visual {
        Visual { inner, frames }
    }
}

#[wasm_bindgen]
impl Visual {
    /// Returns the token map, which stays on the device until it is read; which patch became part
    /// of which token only with `stages`.
    #[wasm_bindgen(js_name = tokenMap)]
    pub fn token_map(&self, stages: bool) -> TokenMap {
        TokenMap {
            inner: self.inner.stored_token_map(),
            frames: self.frames.clone(),
            stages,
        }
    }
}

/// A token map that can be read back.
#[wasm_bindgen]
pub struct TokenMap {
    inner: univi::StoredTokenMap,
    frames: Vec<Frame>,
    stages: bool,
}

#[wasm_bindgen]
impl TokenMap {
    /// Reads it back, as a plain object (`TokenMap` of the npm package).
    ///
    /// # Errors
    /// What the device reports.
    #[wasm_bindgen(unchecked_return_type = "any")]
    pub async fn read(&self) -> Result<JsValue, JsValue> {
        let map = match self.stages {
            true => self.inner.read().await.map_err(thrown)?,
            false => self.inner.without_stages(),
        };
        let kind = match map.kind {
            VisualKind::Image => "image",
            VisualKind::Video => "clip",
        };
        let frames: Array = self.frames.iter().map(Frame::plain).collect();
        let share = map.tokens / map.events.len();
        let events: Array = map
            .events
            .iter()
            .map(|event| plain_event(event, share))
            .collect();
        Ok(object([
            ("kind", kind.into()),
            ("patchesPerSide", map.patches_per_side.into()),
            ("frames", frames.into()),
            ("events", events.into()),
            ("tokens", map.tokens.into()),
        ]))
    }
}

/// Every event has its share of the tokens.
fn plain_event(event: &VideoEvent, tokens: usize) -> JsValue {
    let frames: Array = event
        .frames
        .iter()
        .map(|&frame| JsValue::from(frame))
        .collect();
    let stages: Array = event
        .stages
        .iter()
        .map(|stage| {
            object([
                ("tokens", stage.sizes.len().into()),
                ("groups", Uint32Array::from(&stage.groups[..]).into()),
            ])
        })
        .collect();
    object([
        ("frames", frames.into()),
        ("tokens", tokens.into()),
        ("stages", stages.into()),
    ])
}
