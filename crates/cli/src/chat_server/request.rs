//! Requests for chat completions, checked and taken apart as the package's `completions.ts` does.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use univi::{
    Result as EngineResult,
    constraint::Schema,
    sampler::{Sampler, Sampling},
    session::GenerateOptions,
};

use super::{
    budget::Reserved,
    media::{DecodedVisual, SentVisual, Sources},
    refusal::Refusal,
};

type Result<T> = std::result::Result<T, Refusal>;

/// The roles of messages.
const ROLES: [&str; 4] = ["system", "developer", "user", "assistant"];

/// The roles whose messages are read as instructions where they come before all else.
const INSTRUCTING: [&str; 2] = ["system", "developer"];

/// Fields that have an effect.
const FIELDS: [&str; 16] = [
    "messages",
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
    "response_format",
    "logprobs",
    "top_logprobs",
];

/// Whether a value asks for what happens anyway.
type IsNeutral = fn(&Value) -> bool;

/// Fields without effect, by the values that ask for what happens anyway.
const NEUTRAL: [(&str, IsNeutral); 18] = [
    ("n", |value| value.as_f64() == Some(1.0)),
    ("tools", is_empty),
    ("functions", is_empty),
    ("logit_bias", is_empty),
    ("tool_choice", |value| value == "none" || value == "auto"),
    ("function_call", |value| value == "none" || value == "auto"),
    ("parallel_tool_calls", |_| true), // There are no tools.
    ("frequency_penalty", |value| value.as_f64() == Some(0.0)),
    ("presence_penalty", |value| value.as_f64() == Some(0.0)),
    ("modalities", |value| {
        let kinds = value.as_array();
        kinds.is_some_and(|kinds| kinds.iter().all(|kind| kind == "text"))
    }),
    ("reasoning_effort", |value| value == "none"),
    ("store", |value| value == &Value::Bool(false)),
    ("service_tier", |value| {
        value == "auto" || value == "default"
    }),
    ("verbosity", |value| value == "medium"),
    // These say who asks and what for, and nothing about the answer.
    ("metadata", |_| true),
    ("user", |_| true),
    ("safety_identifier", |_| true),
    ("prompt_cache_key", |_| true),
];

/// Sets a number of how tokens are sampled.
type SetNumber = fn(Sampling, f32) -> Sampling;

/// Numbers of how tokens are sampled, each with a range.
const SAMPLING: [(&str, SetNumber); 4] = [
    ("temperature", Sampling::temperature),
    ("top_p", Sampling::top_p),
    ("min_p", Sampling::min_p),
    ("repetition_penalty", Sampling::repetition_penalty),
];

/// The most tokens that are reported beside one of an answer.
const MAX_TOP_LOGPROBS: usize = 20;

/// A request, as the model's thread answers it.
pub struct ChatRequest {
    /// Instead of the template's own system text.
    pub system: Option<String>,
    /// Questions and their answers. One without parts is a greeting of the assistant.
    pub turns: Vec<(Vec<SentPart>, String)>,
    pub question: Vec<SentPart>,
    pub options: AnswerOptions,
    /// Whether the answer comes piece by piece.
    pub stream: bool,
    /// Whether the last piece has the usage.
    pub includes_usage: bool,
    /// The memory that it takes.
    pub reserved: Option<Reserved>,
}

/// A part of a message.
pub enum SentPart {
    Text(String),
    /// Decoded already, unless the model's thread has it encoded.
    Visual(SentVisual, Option<DecodedVisual>),
}

/// How an answer is generated. The schema is its text, since a compiled one stays on its thread.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerOptions {
    max_tokens: usize,
    sampling: Sampling,
    stop: Vec<String>,
    schema: Option<String>,
    /// Whether log-probabilities are reported, and of how many tokens beside each.
    pub logprobs: Option<usize>,
}

impl AnswerOptions {
    /// Returns the library's options.
    ///
    /// # Errors
    /// As [`Schema::parse`].
    pub fn generate(&self) -> EngineResult<GenerateOptions> {
        let schema = self.schema.as_deref().map(Schema::parse).transpose()?;
        Ok(GenerateOptions::default()
            .max_tokens(self.max_tokens)
            .sampling(self.sampling)
            .stop(self.stop.clone())
            .schema(schema)
            .logprobs(self.logprobs))
    }
}

impl ChatRequest {
    /// Reads a request for the model that is called `model`. Nothing is decoded yet.
    ///
    /// # Errors
    /// What is wrong with it, or not supported, by the name of the field.
    pub fn parse(body: &[u8], model: &str, sources: &Sources) -> Result<ChatRequest> {
        let no_json = |e| Refusal::bad(format!("the request can't be read as JSON: {e}"));
        let Value::Object(mut fields) = serde_json::from_slice(body).map_err(no_json)? else {
            return Err(Refusal::bad("the request must be a JSON object"));
        };
        // `null` stands for a field that is left out.
        fields.retain(|_, value| !value.is_null());
        refuse_unknown(&fields)?;
        check_model(&fields, model)?;
        let stream = bool_field(&fields, "stream")?.unwrap_or(false);
        let includes_usage = stream_options(&fields, stream)?;
        let options = answer_options(&fields, body)?;
        let messages = messages(fields.get("messages"), sources)?;
        let (system, turns, question) = conversation(messages);
        Ok(ChatRequest {
            system,
            turns,
            question,
            options,
            stream,
            includes_usage,
            reserved: None,
        })
    }

    /// Makes a request of a single text, for tests of what requests wait in.
    #[cfg(test)]
    pub fn of_text(text: &str) -> ChatRequest {
        ChatRequest {
            system: None,
            turns: Vec::new(),
            question: vec![SentPart::Text(text.into())],
            options: answer_options(&Map::new(), b"{}").expect("defaults"),
            stream: false,
            includes_usage: false,
            reserved: None,
        }
    }

    /// Returns all parts, in their order.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = &mut SentPart> {
        let turns = self.turns.iter_mut().flat_map(|(parts, _)| parts);
        turns.chain(&mut self.question)
    }

    /// Returns hashes of the conversation, part by part, by which conversations that begin alike
    /// are found. The first is that of the system text.
    pub fn keys(&self) -> Vec<u64> {
        let mut keys = vec![key(("system", &self.system))];
        let part_key = |part: &SentPart| match part {
            SentPart::Text(text) => key(("text", text)),
            SentPart::Visual(visual, _) => key(("visual", visual.hash)),
        };
        for (parts, answer) in &self.turns {
            keys.extend(parts.iter().map(part_key));
            keys.push(key(("answer", answer)));
        }
        keys.extend(self.question.iter().map(part_key));
        keys
    }
}

fn key(content: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

fn refuse<T>(message: impl Into<String>, param: &str) -> Result<T> {
    Err(Refusal::bad(message).about(param))
}

/// What is shown of a value that is refused.
fn excerpt(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn refuse_unknown(fields: &Map<String, Value>) -> Result<()> {
    for (name, value) in fields {
        let is_neutral =
            |(own, is_neutral): &(&str, fn(&Value) -> bool)| own == name && is_neutral(value);
        if !FIELDS.contains(&name.as_str()) && !NEUTRAL.iter().any(is_neutral) {
            let value = excerpt(value);
            return refuse(
                format!("{name}: {value} is not supported; leave it out"),
                name,
            );
        }
    }
    Ok(())
}

fn check_model(fields: &Map<String, Value>, served: &str) -> Result<()> {
    match fields.get("model") {
        None => Ok(()),
        Some(Value::String(name)) if name == served => Ok(()),
        Some(Value::String(name)) => {
            let message = format!("the model {name:?} is not served here; there is {served:?}");
            let status = hyper::StatusCode::NOT_FOUND;
            Err(Refusal::new(status, "model_not_found", message).about("model"))
        }
        Some(other) => refuse(
            format!("model is {}, expected a string", excerpt(other)),
            "model",
        ),
    }
}

/// Refuses what a field at `place` holds beside what `is_taken`.
fn refuse_others(
    fields: &Map<String, Value>,
    place: &str,
    is_taken: impl Fn(&str, &Value) -> bool,
) -> Result<()> {
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        if !is_taken(name, value) {
            let name = format!("{place}.{name}");
            let value = excerpt(value);
            return refuse(
                format!("{name}: {value} is not supported; leave it out"),
                &name,
            );
        }
    }
    Ok(())
}

/// Whether the usage is asked for.
fn stream_options(fields: &Map<String, Value>, stream: bool) -> Result<bool> {
    let options = match fields.get("stream_options") {
        None => return Ok(false),
        Some(_) if !stream => {
            let message = "stream_options is for streams alone: add stream: true, or leave it out";
            return refuse(message, "stream_options");
        }
        Some(Value::Object(options)) => options,
        Some(other) => {
            let message = format!("stream_options is {}, expected an object", excerpt(other));
            return refuse(message, "stream_options");
        }
    };
    refuse_others(options, "stream_options", |name, value| match name {
        "include_obfuscation" => value == &Value::Bool(false),
        "include_usage" => value.is_boolean(),
        _ => false,
    })?;
    Ok(options.get("include_usage") == Some(&Value::Bool(true)))
}

fn bool_field(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(other) => refuse(
            format!("{name} is {}, expected true or false", excerpt(other)),
            name,
        ),
    }
}

fn number_field(fields: &Map<String, Value>, name: &str) -> Result<Option<f32>> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::Number(value)) => Ok(value.as_f64().map(|value| value as f32)),
        Some(other) => refuse(
            format!("{name} is {}, expected a number", excerpt(other)),
            name,
        ),
    }
}

fn whole_field(fields: &Map<String, Value>, name: &str) -> Result<Option<u64>> {
    let Some(value) = fields.get(name) else {
        return Ok(None);
    };
    // `4.0` is a whole number, too.
    let whole = value.as_u64().or_else(|| {
        let value = value.as_f64()?;
        let is_whole = value >= 0.0 && value.fract() == 0.0 && value < (1u64 << 53) as f64;
        is_whole.then_some(value as u64)
    });
    match whole {
        Some(whole) => Ok(Some(whole)),
        None => {
            let message = format!("{name} is {}, expected a whole number", excerpt(value));
            refuse(message, name)
        }
    }
}

fn answer_options(fields: &Map<String, Value>, body: &[u8]) -> Result<AnswerOptions> {
    let default = Sampling::default();
    let size =
        |name| -> Result<Option<usize>> { Ok(whole_field(fields, name)?.map(|n| n as usize)) };
    let max_tokens = match size("max_completion_tokens")? {
        Some(most) => Some(most),
        None => size("max_tokens")?,
    };
    let mut sampling = default
        .top_k(size("top_k")?.unwrap_or(default.top_k))
        .seed(whole_field(fields, "seed")?.unwrap_or(default.seed));
    for (name, set) in SAMPLING {
        if let Some(value) = number_field(fields, name)? {
            sampling = set(sampling, value);
            // Checks what is out of range: the others before it are not.
            Sampler::new(sampling).map_err(|error| Refusal::from(error).about(name))?;
        }
    }
    let options = AnswerOptions {
        max_tokens: max_tokens.unwrap_or(GenerateOptions::default().max_tokens),
        sampling,
        stop: stop(fields)?,
        schema: schema(fields, body)?,
        logprobs: logprobs(fields)?,
    };
    // Checks the schema, here where it costs no other request its turn.
    let about_schema = |e| Refusal::from(e).about("response_format");
    options.generate().map_err(about_schema)?;
    Ok(options)
}

/// Whether log-probabilities are asked for, and of how many tokens beside each of the answer.
fn logprobs(fields: &Map<String, Value>) -> Result<Option<usize>> {
    let is_asked = bool_field(fields, "logprobs")?.unwrap_or(false);
    let top = whole_field(fields, "top_logprobs")?.unwrap_or(0) as usize;
    if top > MAX_TOP_LOGPROBS {
        let message = format!("top_logprobs is {top}, expected 0 to {MAX_TOP_LOGPROBS}");
        return refuse(message, "top_logprobs");
    }
    if top > 0 && !is_asked {
        let message = "top_logprobs needs logprobs: true; add it, or leave top_logprobs out";
        return refuse(message, "top_logprobs");
    }
    Ok(is_asked.then_some(top))
}

fn stop(fields: &Map<String, Value>) -> Result<Vec<String>> {
    let message = "stop must be a string or a list of strings";
    match fields.get("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(texts)) => texts
            .iter()
            .map(|text| match text {
                Value::String(text) => Ok(text.clone()),
                _ => refuse(message, "stop"),
            })
            .collect(),
        Some(_) => refuse(message, "stop"),
    }
}

/// The JSON schema of the answer, with its properties in the order in which they were written.
fn schema(fields: &Map<String, Value>, body: &[u8]) -> Result<Option<String>> {
    let name = "response_format";
    let format = match fields.get(name) {
        None => return Ok(None),
        Some(Value::Object(format)) => format,
        Some(other) => {
            return refuse(
                format!("{name} is {}, expected an object", excerpt(other)),
                name,
            );
        }
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(r#"{"type":"object"}"#.into())),
        Some("json_schema") => {
            let schema = format
                .get("json_schema")
                .and_then(|schema| schema.get("schema"));
            if !schema.is_some_and(Value::is_object) {
                let message =
                    format!("{name}: json_schema.schema is no object; put the JSON schema there");
                return refuse(message, name);
            }
            let ordered: OrderedRequest = serde_json::from_slice(body)
                .map_err(|e| Refusal::bad(format!("{name}: {e}")).about(name))?;
            Ok(Some(ordered.response_format.json_schema.schema.0))
        }
        _ => {
            let kind = excerpt(format.get("type").unwrap_or(&Value::Null));
            let message = format!(
                "{name} of type {kind} is not supported; there are text, json_object and json_schema"
            );
            refuse(message, name)
        }
    }
}

/// What of a request must keep its order, which `serde_json::Value` sorts.
#[derive(Deserialize)]
struct OrderedRequest {
    response_format: OrderedFormat,
}

#[derive(Deserialize)]
struct OrderedFormat {
    json_schema: OrderedSchema,
}

#[derive(Deserialize)]
struct OrderedSchema {
    schema: JsonText,
}

/// JSON as text, with the names of objects in their order.
struct JsonText(String);

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(JsonTextVisitor)
    }
}

struct JsonTextVisitor;

impl JsonTextVisitor {
    fn scalar<E>(value: impl Into<Value>) -> std::result::Result<JsonText, E> {
        Ok(JsonText(value.into().to_string()))
    }
}

impl<'de> Visitor<'de> for JsonTextVisitor {
    type Value = JsonText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<JsonText, E> {
        Self::scalar(())
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<JsonText, E> {
        Self::scalar(value)
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<JsonText, E> {
        Self::scalar(value)
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<JsonText, E> {
        Self::scalar(value)
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<JsonText, E> {
        Self::scalar(value)
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<JsonText, E> {
        Self::scalar(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<JsonText, A::Error> {
        let mut texts = Vec::new();
        while let Some(JsonText(item)) = items.next_element()? {
            texts.push(item);
        }
        Ok(JsonText(format!("[{}]", texts.join(","))))
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut entries: A,
    ) -> std::result::Result<JsonText, A::Error> {
        let mut texts = Vec::new();
        while let Some((name, JsonText(value))) = entries.next_entry::<String, JsonText>()? {
            let name = serde_json::to_string(&name).map_err(A::Error::custom)?;
            texts.push(format!("{name}:{value}"));
        }
        Ok(JsonText(format!("{{{}}}", texts.join(","))))
    }
}

/// A message, checked.
struct Message {
    role: &'static str,
    parts: Vec<SentPart>,
}

fn messages(value: Option<&Value>, sources: &Sources) -> Result<Vec<Message>> {
    let list = value
        .and_then(Value::as_array)
        .filter(|list| !list.is_empty());
    let Some(list) = list else {
        let message = "messages must be a list with the user's question at its end";
        return refuse(message, "messages");
    };
    let mut messages = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        messages.push(message(value, &format!("messages[{i}]"), sources)?);
    }
    let said = || messages.iter().filter(|message| !message.parts.is_empty());
    let is_asked = said().any(|message| message.role == "user");
    if !is_asked
        || said()
            .next_back()
            .is_some_and(|last| last.role == "assistant")
    {
        let message = "the last message is not the user's: there is no question to answer";
        return refuse(message, "messages");
    }
    Ok(messages)
}

fn message(value: &Value, at: &str, sources: &Sources) -> Result<Message> {
    let Value::Object(fields) = value else {
        return refuse(format!("{at} is no message"), at);
    };
    let role = fields.get("role").unwrap_or(&Value::Null);
    if role == "tool" || role == "function" {
        return refuse(
            format!("{at} is of role {role}: tools are not supported"),
            at,
        );
    }
    let Some(role) = ROLES.into_iter().find(|known| role == known) else {
        let role = excerpt(role);
        let message =
            format!("{at} is of role {role}; there are system, developer, user and assistant");
        return refuse(message, at);
    };
    for (name, value) in fields {
        let is_own = name == "role" || name == "content";
        if !is_own && !value.is_null() && !is_empty(value) {
            return refuse(format!("{at}.{name} is not supported; leave it out"), at);
        }
    }
    let content = fields.get("content").unwrap_or(&Value::Null);
    let parts = match content {
        Value::Null if role == "assistant" => Vec::new(),
        Value::Null => {
            let message = format!(
                "{at}.content is missing; a message of role \"{role}\" needs a text or parts"
            );
            return refuse(message, at);
        }
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![SentPart::Text(text.clone())],
        Value::Array(parts) => parts
            .iter()
            .enumerate()
            .map(|(i, value)| part(value, role, &format!("{at}.content[{i}]"), sources))
            .collect::<Result<_>>()?,
        _ => {
            return refuse(
                format!("{at}.content is neither a text nor a list of parts"),
                at,
            );
        }
    };
    Ok(Message { role, parts })
}

fn part(value: &Value, role: &str, place: &str, sources: &Sources) -> Result<SentPart> {
    let Value::Object(fields) = value else {
        return refuse(format!("{place} is no part of a message"), place);
    };
    let kind = fields
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if role != "user" && kind != "text" {
        let message = format!(
            "{place} is of type {kind:?} in a message of role \"{role}\"; only the user shows something"
        );
        return refuse(message, place);
    }
    refuse_others(fields, place, |name, _| name == "type" || name == kind)?;
    let about = |e| Refusal::from(e).about(place);
    match kind {
        "text" => match fields.get("text") {
            Some(Value::String(text)) => Ok(SentPart::Text(text.clone())),
            _ => refuse(format!("{place} has no text"), place),
        },
        "image_url" => {
            let at = format!("{place}.image_url");
            let url = url_of(fields.get(kind), &at)?;
            let visual = SentVisual::picture(url, &at, sources).map_err(about)?;
            Ok(SentPart::Visual(visual, None))
        }
        "video_url" => {
            let at = format!("{place}.video_url");
            let url = url_of(fields.get(kind), &at)?;
            let visual = SentVisual::clip(url, &at, sources).map_err(about)?;
            Ok(SentPart::Visual(visual, None))
        }
        _ => {
            let message =
                format!("{place} is of type {kind:?}; there are text, image_url and video_url");
            refuse(message, place)
        }
    }
}

/// The URL of a picture or clip: alone, or in OpenAI's object.
fn url_of<'a>(value: Option<&'a Value>, at: &str) -> Result<&'a str> {
    let url = match value {
        Some(Value::Object(fields)) => {
            refuse_others(fields, at, |name, value| match name {
                "detail" => value == "auto",
                _ => name == "url",
            })?;
            fields.get("url")
        }
        other => other,
    };
    match url {
        Some(Value::String(url)) => Ok(url),
        _ => refuse(format!("{at} has no url"), at),
    }
}

type Turns = Vec<(Vec<SentPart>, String)>;

/// Messages as turns: neighbours of one role become one.
fn conversation(messages: Vec<Message>) -> (Option<String>, Turns, Vec<SentPart>) {
    let instructs = |message: &Message| INSTRUCTING.contains(&message.role);
    let text_of = |parts: Vec<SentPart>| {
        let texts = parts.into_iter().filter_map(|part| match part {
            SentPart::Text(text) => Some(text),
            SentPart::Visual(..) => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    };
    let mut messages = messages.into_iter().peekable();
    let mut instructions = Vec::new();
    while let Some(message) = messages.next_if(instructs) {
        instructions.push(text_of(message.parts));
    }
    let mut turns = Vec::new();
    let (mut question, mut answers) = (Vec::new(), Vec::new());
    for Message { role, parts } in messages {
        if role == "assistant" {
            if !parts.is_empty() {
                answers.push(text_of(parts));
            }
            continue;
        }
        if !answers.is_empty() {
            let answer = std::mem::take(&mut answers).join("\n");
            turns.push((std::mem::take(&mut question), answer));
        }
        // A line break follows each visual anyway.
        if matches!(question.last(), Some(SentPart::Text(_))) && !parts.is_empty() {
            question.push(SentPart::Text("\n".into()));
        }
        question.extend(parts);
    }
    let system = (!instructions.is_empty()).then(|| instructions.join("\n"));
    (system, turns, question)
}
