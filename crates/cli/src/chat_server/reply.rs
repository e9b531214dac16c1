//! Answers in OpenAI's shapes, whole and piece by piece.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{SystemTime, UNIX_EPOCH},
};

use hyper::{
    Response, StatusCode,
    body::{Body, Bytes, Frame, SizeHint},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use univi::session::{Finish, TokenLogprob, TokenLogprobs, Usage};
use univi_serve::EndpointBody;

use super::{
    metrics::{Metrics, Outcome},
    queue::{Event, Timings},
    refusal::Refusal,
};

/// What all pieces of an answer have.
#[derive(Debug, Clone)]
pub struct Head {
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    pub model: String,
    /// Whether the answer comes with log-probabilities.
    pub has_logprobs: bool,
}

impl Head {
    /// Returns the `logprobs` of a choice.
    fn logprobs_json(&self, tokens: &[TokenLogprobs]) -> Value {
        if !self.has_logprobs {
            return Value::Null;
        }
        let tokens = tokens.iter().map(|token| {
            let mut value = token_json(&token.chosen);
            value["top_logprobs"] = token.top.iter().map(token_json).collect();
            value
        });
        json!({ "content": tokens.collect::<Value>(), "refusal": null })
    }
}

fn token_json(token: &TokenLogprob) -> Value {
    json!({
        "token": String::from_utf8_lossy(&token.bytes),
        "logprob": token.logprob,
        "bytes": token.bytes,
    })
}

/// Counts a request once it is over, by default as one whose client left.
pub struct Counted {
    metrics: Arc<Metrics>,
    pub outcome: Outcome,
}

impl Counted {
    /// Begins with a request.
    pub fn new(metrics: Arc<Metrics>) -> Counted {
        Counted {
            metrics,
            outcome: Outcome::Cancelled,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.count(self.outcome);
    }
}

/// Returns the seconds since 1970.
pub fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Returns how an answer ended, for the metrics.
pub fn outcome(finish: Finish) -> Outcome {
    match finish {
        Finish::Stop => Outcome::Stop,
        Finish::Length => Outcome::Length,
        Finish::Aborted => Outcome::Cancelled,
    }
}

/// Writes a whole answer.
pub fn completion(
    head: &Head,
    content: &str,
    logprobs: &[TokenLogprobs],
    finish: Finish,
    usage: &Usage,
    timings: &Timings,
) -> Value {
    json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": content },
            "finish_reason": finish_reason(finish),
            "logprobs": head.logprobs_json(logprobs),
        }],
        "usage": usage_json(usage, timings),
    })
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length | Finish::Aborted => "length",
    }
}

/// Writes what an answer took, in the fields of the package's completions, and what only a server
/// has: the wait, and encoding.
fn usage_json(usage: &Usage, timings: &Timings) -> Value {
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
    let per_second = |tokens: usize, duration: std::time::Duration| match duration.as_secs_f64() {
        seconds if seconds > 0.0 => tokens as f64 / seconds,
        _ => 0.0,
    };
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {
            "cached_tokens": usage.reused,
            "visual_tokens": usage.visual,
        },
        "queue_ms": ms(timings.queue),
        "encode_ms": ms(timings.encode),
        "time_to_first_token_ms": ms(timings.first_text),
        "prefill_tokens_per_second": per_second(usage.prompt - usage.reused, timings.first_text),
        "decode_tokens_per_second": per_second(usage.completion.saturating_sub(1), timings.decode),
    })
}

/// Makes an answer of JSON.
pub fn json_response(status: StatusCode, value: &Value) -> Response<EndpointBody> {
    text_response(status, "application/json", value.to_string())
}

/// Makes an answer of text.
pub fn text_response(
    status: StatusCode,
    content_type: &'static str,
    text: String,
) -> Response<EndpointBody> {
    respond(status, content_type, Box::pin(Whole(Some(text.into()))))
}

/// Makes the answer that refuses a request.
pub fn refusal_response(refusal: &Refusal) -> Response<EndpointBody> {
    let mut response = json_response(refusal.status, &refusal.json());
    if let Some(seconds) = refusal.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if let Some(methods) = refusal.allow {
        let methods = HeaderValue::from_static(methods);
        response.headers_mut().insert(ALLOW, methods);
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert("www-authenticate", scheme);
    }
    response
}

/// Makes an answer of events that the model's thread sends.
pub fn stream_response(
    head: Head,
    includes_usage: bool,
    events: UnboundedReceiver<Event>,
    counted: Counted,
) -> Response<EndpointBody> {
    let mut stream = Stream {
        head,
        includes_usage,
        events: Some(events),
        counted,
        pieces: VecDeque::new(),
    };
    stream.push_delta(json!({ "role": "assistant", "content": "" }), &[], None);
    respond(StatusCode::OK, "text/event-stream", Box::pin(stream))
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: EndpointBody,
) -> Response<EndpointBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A body that is there.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Server-sent events of an answer.
struct Stream {
    head: Head,
    includes_usage: bool,
    /// `None` once the answer is over. Where the client leaves, this is dropped, and the answer
    /// ends.
    events: Option<UnboundedReceiver<Event>>,
    counted: Counted,
    pieces: VecDeque<Bytes>,
}

impl Stream {
    fn push(&mut self, data: &str) {
        self.pieces.push_back(format!("data: {data}\n\n").into());
    }

    fn push_chunk(&mut self, choices: Value, usage: Option<Value>) {
        let mut chunk = json!({
            "id": self.head.id,
            "object": "chat.completion.chunk",
            "created": self.head.created,
            "model": self.head.model,
            "choices": choices,
        });
        if self.includes_usage {
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        self.push(&chunk.to_string());
    }

    fn push_delta(
        &mut self,
        delta: Value,
        logprobs: &[TokenLogprobs],
        finish_reason: Option<&str>,
    ) {
        let choice = json!({
            "index": 0,
            "delta": delta,
            "logprobs": match logprobs {
                [] => Value::Null,
                tokens => self.head.logprobs_json(tokens),
            },
            "finish_reason": finish_reason,
        });
        self.push_chunk(json!([choice]), None);
    }

    fn take(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Displaced | Event::Taken | Event::Begun) => {}
            Some(Event::Text(text, logprobs)) => {
                self.push_delta(json!({ "content": text }), &logprobs, None);
            }
            Some(Event::Done(finish, usage, timings)) => {
                self.push_delta(json!({}), &[], Some(finish_reason(finish)));
                if self.includes_usage {
                    self.push_chunk(json!([]), Some(usage_json(&usage, &timings)));
                }
                self.push("[DONE]");
                self.counted.outcome = outcome(finish);
                self.events = None;
            }
            Some(Event::Failed(error)) => self.fail(&error.into()),
            None => self.fail(&ended_thread()),
        }
    }

    /// The status is sent already: an event reports the error.
    fn fail(&mut self, refusal: &Refusal) {
        self.push(&refusal.json().to_string());
        self.counted.outcome = Outcome::Failed;
        self.events = None;
    }
}

/// Refuses a request that the model's thread has dropped.
pub fn ended_thread() -> Refusal {
    let message = "the model's thread has ended; restart the server";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "model_ended", message)
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(events) = &mut this.events else {
                return Poll::Ready(None);
            };
            let event = ready!(events.poll_recv(context));
            this.take(event);
        }
    }
}
