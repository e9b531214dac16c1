//! A conversation with a model, and its answers.

use std::ops::ControlFlow;

use js_sys::{Array, Function, Uint8Array};
use univi::{
    Error, Part, Question,
    constraint::Schema,
    prompt::Template,
    session::{
        Finish, GenerateOptions, Overflow, SessionOptions as CoreSessionOptions, TokenLogprob,
        TokenLogprobs,
    },
};
use univi_web_bindings::{object, thrown, whole};
use wasm_bindgen::prelude::*;

use crate::{callback::goes_on, engine::Engine, visual::Visual};

#[wasm_bindgen]
impl Engine {
    /// Begins a conversation.
    ///
    /// # Errors
    /// `bad-request` for a template that does not exist.
    pub fn session(&self, options: &SessionOptions) -> Result<Session, JsValue> {
        let options = options.options().map_err(thrown)?;
        Ok(Session(self.model.session(options)))
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
        typescript_type = "{ maxTokens?: number; temperature?: number; topK?: number; topP?: number; minP?: number; repetitionPenalty?: number; seed?: number; stop?: readonly string[]; jsonSchema?: string; logprobs?: number }"
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
    #[wasm_bindgen(method, getter)]
    fn logprobs(this: &SamplingOptions) -> Option<f64>;
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
        Ok(CoreSessionOptions::default()
            .system(self.system())
            .template(template)
            .overflow(overflow))
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
        Ok(GenerateOptions::default()
            .max_tokens(
                whole("maxTokens", self.max_tokens())?.map_or(default.max_tokens, |n| n as usize),
            )
            .sampling(
                default
                    .sampling
                    .temperature(self.temperature().unwrap_or(default.sampling.temperature))
                    .top_k(
                        whole("topK", self.top_k())?.map_or(default.sampling.top_k, |n| n as usize),
                    )
                    .top_p(self.top_p().unwrap_or(default.sampling.top_p))
                    .min_p(self.min_p().unwrap_or(default.sampling.min_p))
                    .repetition_penalty(
                        self.repetition_penalty()
                            .unwrap_or(default.sampling.repetition_penalty),
                    )
                    .seed(whole("seed", self.seed())?.unwrap_or(default.sampling.seed)),
            )
            .stop(stop.collect::<univi::Result<Vec<String>>>()?)
            .schema(
                self.json_schema()
                    .map(|text| Schema::parse(&text))
                    .transpose()?,
            )
            .logprobs(whole("logprobs", self.logprobs())?.map(|top| top as usize)))
    }
}

/// What a user says: words and visuals in their order.
#[wasm_bindgen]
#[derive(Default)]
pub struct Turn(Vec<Part>);

#[wasm_bindgen]
impl Turn {
    /// Nothing yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Turn {
        Turn::default()
    }

    /// Adds words.
    pub fn text(&mut self, text: String) {
        self.0.push(Part::Text(text));
    }

    /// Adds a picture or a clip, which may be shown again later.
    pub fn visual(&mut self, visual: &Visual) {
        self.0.push((&visual.inner).into());
    }
}

/// Turns of a conversation that are over.
#[wasm_bindgen]
#[derive(Default)]
pub struct Past(Vec<(Question, String)>);

#[wasm_bindgen]
impl Past {
    /// Nothing yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Past {
        Past::default()
    }

    /// What the user said then, and what the answer was.
    pub fn turn(&mut self, turn: Turn, answer: String) {
        self.0.push((turn.0.into(), answer));
    }
}

fn logprobs_object(token: &TokenLogprobs) -> JsValue {
    let top = token.top.iter();
    let top = top.map(|other| object(logprob_properties(other)));
    let [text, logprob, bytes] = logprob_properties(&token.chosen);
    object([text, logprob, bytes, ("top", top.collect::<Array>().into())])
}

fn logprob_properties(token: &TokenLogprob) -> [(&'static str, JsValue); 3] {
    let text = String::from_utf8_lossy(&token.bytes);
    [
        ("token", text.as_ref().into()),
        ("logprob", token.logprob.into()),
        ("bytes", Uint8Array::from(&token.bytes[..]).into()),
    ]
}

/// A conversation with a model.
#[wasm_bindgen]
pub struct Session(univi::Session);

#[wasm_bindgen]
impl Session {
    /// Says `turn` and streams the answer into `on_piece`, which gets each piece of text as it
    /// becomes certain, and empty ones while a long prompt is read, and with each the
    /// log-probabilities of its tokens where they are asked for. It returns, or promises, whether
    /// to go on.
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
        #[wasm_bindgen(
            unchecked_param_type = "(piece: string, logprobs: readonly { token: string; logprob: number; bytes: Uint8Array; top: readonly { token: string; logprob: number; bytes: Uint8Array }[] }[] | undefined) => boolean | Promise<boolean>"
        )]
        on_piece: &Function,
    ) -> Result<JsValue, JsValue> {
        let options = options.generate().map_err(thrown)?;
        let mut answer = self.0.ask(turn.0, &options).await.map_err(thrown)?;
        let mut tokens = 0;
        while let Some(piece) = answer.next().await.map_err(thrown)? {
            let new = &answer.logprobs()[tokens..];
            tokens += new.len();
            let logprobs = match options.logprobs {
                Some(_) => new.iter().map(logprobs_object).collect::<Array>().into(),
                None => JsValue::UNDEFINED,
            };
            if !goes_on(on_piece, &piece, &logprobs).await? {
                break;
            }
        }
        let answer = answer.stop();
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
        let mut on_chunk = async || match goes_on(on_piece, "", &JsValue::UNDEFINED).await {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        let read = self.0.append(turn.0, &mut on_chunk).await;
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
        self.0.fork().await.map(Session).map_err(thrown)
    }

    /// Forgets all turns but the first `turns`; what was read of them is not read again.
    pub fn rewind(&mut self, turns: usize) {
        self.0.rewind(turns);
    }

    /// Another conversation instead of this one; what the beginnings share is not read again.
    ///
    /// # Errors
    /// `bad-request` for options that mean nothing.
    pub async fn restart(&mut self, options: &SessionOptions, past: Past) -> Result<(), JsValue> {
        let options = options.options().map_err(thrown)?;
        self.0.restart(options, past.0).await.map_err(thrown)
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
        let usage = self.0.context_usage().map_err(thrown)?;
        Ok(object([
            ("used", usage.used.into()),
            ("capacity", usage.capacity.into()),
        ]))
    }
}
