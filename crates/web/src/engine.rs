//! A loaded model: it looks, and it talks.

use std::{ops::ControlFlow, rc::Rc};

use js_sys::{Array, Function, Promise};
use univi::{
    Error,
    constraint::Schema,
    image::Rgb8,
    model::{ChatUniVi, EncodedFrame as CoreEncodedFrame, EncodedVisual as CoreVisual},
    prompt::Template,
    sampler::Sampling,
    session::{
        EnginePart, EngineSession as CoreSession, Finish, GenerateOptions, Overflow,
        SessionOptions as CoreSessionOptions,
    },
};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::{
    object::{object, thrown, whole},
    on::{On, map, on_either, with},
    visual::{Clip, EncodedFrame, Frame, FrameBuffer, Visual},
};

type Model = On<Rc<ChatUniVi<univi::Cpu>>, Rc<ChatUniVi<univi::gpu::Gpu>>>;

/// A model that can be asked.
#[wasm_bindgen]
pub struct Engine {
    name: String,
    model: Model,
}

/// Tokens that a picture, or an event of a clip, is merged to, where that is said.
type Budget = Option<f64>;

fn tokens_of(budget: Budget) -> univi::Result<Option<usize>> {
    Ok(whole("visualTokens", budget)?.map(|n| n as usize))
}

impl Engine {
    /// A model that is called `name`.
    pub fn new(name: String, model: Model) -> Engine {
        Engine { name, model }
    }

    /// Width and height of what the model looks at.
    pub fn image_px(&self) -> univi::Result<usize> {
        Ok(with!(&self.model, model => model.vision()?.config().clip.image_px))
    }

    async fn encode_picture(&self, picture: &Rgb8, budget: Budget) -> univi::Result<Visual> {
        let tokens = tokens_of(budget)?;
        let visual =
            map!(&self.model, model => model.vision()?.merging_to(tokens)?.image(picture).await?);
        Ok(Visual::new(visual, vec![Frame::new(picture, 0.)]))
    }

    async fn encode_clip(&self, clip: Clip, budget: Budget) -> univi::Result<Visual> {
        let tokens = tokens_of(budget)?;
        let (frames, crops) = clip.into_parts();
        let visual = map!(&self.model, model => {
            model.vision()?.merging_to(tokens)?.video(crops.into_iter().map(Ok)).await?
        });
        Ok(Visual::new(visual, frames))
    }

    async fn encode_one(
        &self,
        picture: &Rgb8,
        time_s: f64,
        budget: Budget,
    ) -> univi::Result<EncodedFrame> {
        let tokens = tokens_of(budget)?;
        let frame = map!(&self.model, model => model.vision()?.merging_to(tokens)?.encode_frame(picture).await?);
        Ok(EncodedFrame::new(frame, Frame::new(picture, time_s)))
    }

    async fn merge(&self, buffer: FrameBuffer, budget: Budget) -> univi::Result<Visual> {
        let tokens = tokens_of(budget)?;
        let FrameBuffer { encoded, frames } = buffer;
        let visual = match &self.model {
            On::Cpu(model) => {
                let encoded = own(encoded, |frame| match frame {
                    On::Cpu(frame) => Some(frame),
                    On::Gpu(_) => None,
                })?;
                On::Cpu(
                    model
                        .vision()?
                        .merging_to(tokens)?
                        .merge_frames(&encoded)
                        .await?,
                )
            }
            On::Gpu(model) => {
                let encoded = own(encoded, |frame| match frame {
                    On::Gpu(frame) => Some(frame),
                    On::Cpu(_) => None,
                })?;
                On::Gpu(
                    model
                        .vision()?
                        .merging_to(tokens)?
                        .merge_frames(&encoded)
                        .await?,
                )
            }
        };
        Ok(Visual::new(visual, frames))
    }
}

#[wasm_bindgen]
impl Engine {
    /// What the model is, as a plain object.
    #[wasm_bindgen(
        unchecked_return_type = "{ name: string; vision: boolean; contextLength: number }"
    )]
    pub fn info(&self) -> JsValue {
        let (vision, context) =
            with!(&self.model, model => (model.has_vision(), model.llama().context()));
        object([
            ("name", (&self.name).into()),
            ("vision", vision.into()),
            ("contextLength", context.into()),
        ])
    }

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

    /// Bytes of the GPU's memory that are taken, 0 on the CPU.
    #[wasm_bindgen(getter, js_name = gpuBytes)]
    pub fn gpu_bytes(&self) -> f64 {
        match &self.model {
            On::Cpu(_) => 0.,
            On::Gpu(model) => model.backend().memory_bytes() as f64,
        }
    }

    /// Begins a conversation.
    ///
    /// # Errors
    /// `bad-request` for a template that does not exist.
    pub fn session(&self, options: &SessionOptions) -> Result<Session, JsValue> {
        let options = options.options().map_err(thrown)?;
        let session = map!(&self.model, model => CoreSession::new(model.clone(), options));
        Ok(Session(session))
    }

    /// Gives the device back at once, rather than when JavaScript collects its garbage.
    pub fn dispose(self) {
        if let On::Gpu(model) = &self.model {
            model.backend().destroy();
        }
    }
}

#[wasm_bindgen]
extern "C" {
    /// How a conversation is put to the model.
    #[wasm_bindgen(
        typescript_type = "{ system?: string; template?: string; overflow?: \"refuse\" | \"drop-oldest\" }"
    )]
    pub type SessionOptions;

    #[wasm_bindgen(method, getter)]
    fn system(this: &SessionOptions) -> Option<String>;
    #[wasm_bindgen(method, getter)]
    fn template(this: &SessionOptions) -> Option<String>;
    #[wasm_bindgen(method, getter)]
    fn overflow(this: &SessionOptions) -> Option<String>;

    /// How an answer is chosen.
    #[wasm_bindgen(
        typescript_type = "{ maxTokens?: number; temperature?: number; topK?: number; topP?: number; minP?: number; repetitionPenalty?: number; seed?: number; stop?: readonly string[]; jsonSchema?: string }"
    )]
    pub type SamplingOptions;

    #[wasm_bindgen(method, getter, js_name = maxTokens)]
    fn max_tokens(this: &SamplingOptions) -> Option<f64>;
    #[wasm_bindgen(method, getter)]
    fn temperature(this: &SamplingOptions) -> Option<f32>;
    #[wasm_bindgen(method, getter, js_name = topK)]
    fn top_k(this: &SamplingOptions) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = topP)]
    fn top_p(this: &SamplingOptions) -> Option<f32>;
    #[wasm_bindgen(method, getter, js_name = minP)]
    fn min_p(this: &SamplingOptions) -> Option<f32>;
    #[wasm_bindgen(method, getter, js_name = repetitionPenalty)]
    fn repetition_penalty(this: &SamplingOptions) -> Option<f32>;
    #[wasm_bindgen(method, getter)]
    fn seed(this: &SamplingOptions) -> Option<f64>;
    #[wasm_bindgen(method, getter)]
    fn stop(this: &SamplingOptions) -> Option<Array>;
    #[wasm_bindgen(method, getter, js_name = jsonSchema)]
    fn json_schema(this: &SamplingOptions) -> Option<String>;
}

impl SessionOptions {
    fn options(&self) -> univi::Result<CoreSessionOptions> {
        let template = self
            .template()
            .map(|name| Template::from_name(&name))
            .transpose()?;
        let overflow = match self.overflow().as_deref() {
            None | Some("refuse") => Overflow::Refuse,
            Some("drop-oldest") => Overflow::DropOldest,
            Some(other) => {
                let reason = format!("overflow is {other:?}, expected refuse or drop-oldest");
                return Err(Error::BadRequest { reason });
            }
        };
        Ok(CoreSessionOptions {
            system: self.system(),
            template,
            overflow,
        })
    }
}

impl SamplingOptions {
    fn generate(&self) -> univi::Result<GenerateOptions> {
        let default = GenerateOptions::default();
        let not_text = || Error::BadRequest {
            reason: "what stops an answer must be strings".into(),
        };
        let stop = self.stop().unwrap_or_default().to_vec();
        let stop = stop
            .iter()
            .map(|text| text.as_string().ok_or_else(not_text));
        Ok(GenerateOptions {
            max_tokens: whole("maxTokens", self.max_tokens())?
                .map_or(default.max_tokens, |n| n as usize),
            sampling: Sampling {
                temperature: self.temperature().unwrap_or(default.sampling.temperature),
                top_k: whole("topK", self.top_k())?.map_or(default.sampling.top_k, |n| n as usize),
                top_p: self.top_p().unwrap_or(default.sampling.top_p),
                min_p: self.min_p().unwrap_or(default.sampling.min_p),
                repetition_penalty: self
                    .repetition_penalty()
                    .unwrap_or(default.sampling.repetition_penalty),
                seed: whole("seed", self.seed())?.unwrap_or(default.sampling.seed),
                ..default.sampling
            },
            stop: stop.collect::<univi::Result<_>>()?,
            schema: self
                .json_schema()
                .map(|text| Schema::parse(&text))
                .transpose()?,
        })
    }
}

/// What a user says: words and visuals in their order.
#[wasm_bindgen]
#[derive(Default)]
pub struct Turn(Vec<TurnPart>);

enum TurnPart {
    Text(String),
    Visual(on_either!(CoreVisual)),
}

#[wasm_bindgen]
impl Turn {
    /// Nothing yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Turn {
        Turn::default()
    }

    /// Adds words.
    pub fn text(&mut self, text: String) {
        self.0.push(TurnPart::Text(text));
    }

    /// Adds a picture or a clip, which may be shown again later.
    pub fn visual(&mut self, visual: &Visual) {
        self.0.push(TurnPart::Visual(
            map!(&visual.inner, visual => visual.clone()),
        ));
    }
}

/// Turns of a conversation that are over.
#[wasm_bindgen]
#[derive(Default)]
pub struct Past(Vec<(Turn, String)>);

#[wasm_bindgen]
impl Past {
    /// Nothing yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Past {
        Past::default()
    }

    /// What the user said then, and what the answer was.
    pub fn turn(&mut self, turn: Turn, answer: String) {
        self.0.push((turn, answer));
    }
}

/// A conversation with a model.
#[wasm_bindgen]
pub struct Session(on_either!(CoreSession));

#[wasm_bindgen]
impl Session {
    /// Says `turn` and streams the answer into `on_piece`, which gets each piece of text as it
    /// becomes certain, and empty ones while a long prompt is read. It returns, or promises,
    /// whether to go on.
    ///
    /// # Errors
    /// `context-overflow`, `bad-request`, `out-of-memory` where the KV cache can't grow, what the
    /// device reports, or what `on_piece` throws.
    #[wasm_bindgen(
        unchecked_return_type = "{ promptTokens: number; reusedTokens: number; visualTokens: number; completionTokens: number; droppedTurns: number; finishReason: \"stop\" | \"length\" }"
    )]
    pub async fn answer(
        &mut self,
        turn: Turn,
        options: &SamplingOptions,
        #[wasm_bindgen(unchecked_param_type = "(piece: string) => boolean | Promise<boolean>")]
        on_piece: &Function,
    ) -> Result<JsValue, JsValue> {
        let generate = options.generate().map_err(thrown)?;
        let mut failed = None;
        let mut stream =
            async |piece: &str| to_control_flow(&mut failed, goes_on(on_piece, piece).await);
        let answer = match &mut self.0 {
            On::Cpu(session) => {
                let parts = turn.parts(on_cpu).map_err(thrown)?;
                session.answer(parts, &generate, &mut stream).await
            }
            On::Gpu(session) => {
                let parts = turn.parts(on_gpu).map_err(thrown)?;
                session.answer(parts, &generate, &mut stream).await
            }
        };
        if let Some(error) = failed {
            return Err(error);
        }
        let answer = answer.map_err(thrown)?;
        Ok(object([
            ("promptTokens", answer.usage.prompt.into()),
            ("reusedTokens", answer.usage.reused.into()),
            ("visualTokens", answer.usage.visual.into()),
            ("completionTokens", answer.usage.completion.into()),
            ("droppedTurns", answer.usage.dropped_turns.into()),
            (
                "finishReason",
                if answer.finish == Finish::Length {
                    "length"
                } else {
                    "stop"
                }
                .into(),
            ),
        ]))
    }
}

#[wasm_bindgen]
impl Session {
    /// Begins the next question, or goes on with it: pictures and clips are read now. `on_piece`
    /// gets empty pieces meanwhile; false where it broke off.
    ///
    /// # Errors
    /// As [`Session::answer`].
    pub async fn append(
        &mut self,
        turn: Turn,
        #[wasm_bindgen(unchecked_param_type = "(piece: string) => boolean | Promise<boolean>")]
        on_piece: &Function,
    ) -> Result<bool, JsValue> {
        let mut failed = None;
        let mut stream =
            async |piece: &str| to_control_flow(&mut failed, goes_on(on_piece, piece).await);
        let read = match &mut self.0 {
            On::Cpu(session) => {
                let parts = turn.parts(on_cpu).map_err(thrown)?;
                session.append(parts, &mut stream).await
            }
            On::Gpu(session) => {
                let parts = turn.parts(on_gpu).map_err(thrown)?;
                session.append(parts, &mut stream).await
            }
        };
        match failed {
            Some(error) => Err(error),
            None => read.map_err(thrown),
        }
    }

    /// The same conversation once more.
    ///
    /// # Errors
    /// `out-of-memory`.
    pub async fn fork(&self) -> Result<Session, JsValue> {
        Ok(Session(
            map!(&self.0, session => session.fork().await.map_err(thrown)?),
        ))
    }

    /// Forgets all turns but the first `turns`; what was read of them is not read again.
    pub fn rewind(&mut self, turns: usize) {
        with!(&mut self.0, session => session.rewind(turns));
    }

    /// Another conversation instead of this one; what the beginnings share is not read again.
    ///
    /// # Errors
    /// `bad-request` for options that mean nothing.
    pub fn restart(&mut self, options: &SessionOptions, past: Past) -> Result<(), JsValue> {
        let options = options.options().map_err(thrown)?;
        match &mut self.0 {
            On::Cpu(session) => session.restart(options, past.turns(on_cpu).map_err(thrown)?),
            On::Gpu(session) => session.restart(options, past.turns(on_gpu).map_err(thrown)?),
        }
        Ok(())
    }

    /// How much of the context the conversation takes.
    ///
    /// # Errors
    /// `tokenizer` where the template can't be rendered.
    #[wasm_bindgen(
        js_name = contextUsage,
        unchecked_return_type = "{ used: number; capacity: number }"
    )]
    pub fn context_usage(&self) -> Result<JsValue, JsValue> {
        let usage = with!(&self.0, session => session.context_usage()).map_err(thrown)?;
        Ok(object([
            ("used", usage.used.into()),
            ("capacity", usage.capacity.into()),
        ]))
    }
}

fn on_cpu(visual: on_either!(CoreVisual)) -> Option<CoreVisual<univi::Cpu>> {
    match visual {
        On::Cpu(visual) => Some(visual),
        On::Gpu(_) => None,
    }
}

fn on_gpu(visual: on_either!(CoreVisual)) -> Option<CoreVisual<univi::gpu::Gpu>> {
    match visual {
        On::Gpu(visual) => Some(visual),
        On::Cpu(_) => None,
    }
}

impl Past {
    #[allow(clippy::type_complexity)]
    fn turns<B: univi::Backend>(
        self,
        own: impl Fn(on_either!(CoreVisual)) -> Option<CoreVisual<B>>,
    ) -> univi::Result<Vec<(Vec<EnginePart<B>>, String)>> {
        let turn = |(turn, answer): (Turn, String)| Ok((turn.parts(&own)?, answer));
        self.0.into_iter().map(turn).collect()
    }
}

/// All of them, where they belong to the model that is asked.
fn own<B: univi::Backend>(
    encoded: Vec<on_either!(CoreEncodedFrame)>,
    own: impl Fn(on_either!(CoreEncodedFrame)) -> Option<CoreEncodedFrame<B>>,
) -> univi::Result<Vec<CoreEncodedFrame<B>>> {
    let foreign = || Error::BadRequest {
        reason: "the frame was encoded by a model on another device".into(),
    };
    encoded
        .into_iter()
        .map(|frame| own(frame).ok_or_else(foreign))
        .collect()
}

/// Whether JavaScript wants more; what it threw is kept.
fn to_control_flow(
    failed: &mut Option<JsValue>,
    goes_on: Result<bool, JsValue>,
) -> ControlFlow<()> {
    match goes_on {
        Ok(true) => ControlFlow::Continue(()),
        Ok(false) => ControlFlow::Break(()),
        Err(error) => {
            *failed = Some(error);
            ControlFlow::Break(())
        }
    }
}

impl Turn {
    fn parts<B: univi::Backend>(
        self,
        own: impl Fn(on_either!(CoreVisual)) -> Option<CoreVisual<B>>,
    ) -> univi::Result<Vec<EnginePart<B>>> {
        let foreign = || Error::BadRequest {
            reason: "the visual was encoded by a model on another device".into(),
        };
        let part = |part| match part {
            TurnPart::Text(text) => Ok(EnginePart::Text(text)),
            TurnPart::Visual(visual) => own(visual).map(EnginePart::Visual).ok_or_else(foreign),
        };
        self.0.into_iter().map(part).collect()
    }
}

/// Tells JavaScript a piece; whether to go on.
async fn goes_on(on_piece: &Function, piece: &str) -> Result<bool, JsValue> {
    let said = on_piece.call1(&JsValue::UNDEFINED, &piece.into())?;
    Ok(JsFuture::from(Promise::resolve(&said)).await?.is_truthy())
}
