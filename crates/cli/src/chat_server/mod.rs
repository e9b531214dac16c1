//! `univi serve --model`: OpenAI's chat completions over HTTP.
//!
//! ```text
//! connections (threads of univi-serve) ── request.rs: checks, decodes ──▶ queue.rs
//!        ▲                                                                  │ who asks, in turns
//!        └── reply.rs: JSON, server-sent events ◀── events ── model_thread.rs ◀┘
//! ```

mod access;
mod budget;
mod conversations;
mod encoded;
mod fetched;
#[cfg(test)]
mod hostile;
mod media;
mod metrics;
mod model_thread;
mod queue;
mod refusal;
mod reply;
mod request;

use std::{
    future::{Future, poll_fn},
    net::Ipv4Addr,
    num::NonZero,
    path::PathBuf,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::available_parallelism,
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming},
    header::CONTENT_LENGTH,
};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc::unbounded_channel},
    time::timeout,
};
use univi::{Model, Result};
use univi_serve::{EndpointBody, EndpointFuture, Endpoints, Peer};

use crate::{
    args::{FrameArgs, ModelArgs},
    open,
};
use access::Access;
use budget::{Budget, Reserved};
use fetched::Fetcher;
pub use fetched::UrlPrefix;
use media::{Reading, Sources};
use metrics::Outcome;
use model_thread::{Answering, Shared};
use queue::{Asker, Event, Job, NoPlace};
use refusal::{Refusal, TIMED_OUT};
use reply::{Counted, Head};
use request::{ChatRequest, SentPart};

/// How long the rest of a body that is too long is read, so that its client gets to the answer.
const DRAIN: Duration = Duration::from_secs(2);

/// Seconds after which a request that found no place is worth another try.
const RETRY_AFTER_S: u64 = 1;

/// What a server of a model does.
pub struct ChatServerOptions {
    pub model: ModelArgs,
    pub frames: FrameArgs,
    /// What clients call the model.
    pub model_name: String,
    /// One of these is needed, where there are any.
    pub api_keys: Vec<String>,
    /// Origins whose pages may ask.
    pub allow_origins: Vec<String>,
    /// The folder whose files a request may name.
    pub message_files: Option<PathBuf>,
    /// Where pictures and clips may be fetched from.
    pub allow_urls: Vec<UrlPrefix>,
    /// How long fetching one may take.
    pub fetch_timeout: Duration,
    /// Requests that wait while others are answered.
    pub queue: usize,
    pub max_body_bytes: u64,
    /// Memory that requests take together while they arrive and wait.
    pub request_memory: u64,
    /// How long a request may take to arrive, and may wait for its turn.
    pub timeout: Duration,
    /// Conversations whose KV caches are kept, of which up to [`Session::TOGETHER`] are answered at
    /// a time.
    pub conversations: usize,
    /// Whether every address belongs to this server.
    pub takes_all: bool,
}

/// The addresses of a model that is loaded.
pub struct ChatServer {
    access: Access,
    shared: Arc<Shared>,
    reading: Reading,
    model_name: String,
    context: usize,
    device: String,
    /// When the model was loaded, in seconds since 1970.
    created: u64,
    answers: AtomicU64,
    max_body_bytes: u64,
    budget: Budget,
    /// Requests may decode what they bring, a few at a time: one whose client leaves before its
    /// turn decodes nothing.
    decoding: Semaphore,
    timeout: Duration,
    takes_all: bool,
}

/// What is known of a model once it is loaded.
struct Loaded {
    reading: Reading,
    context: usize,
    device: String,
}

impl ChatServer {
    /// Loads the model on a thread of its own, which then answers.
    ///
    /// # Errors
    /// As [`open::device`] and [`open::model`].
    pub fn start(options: ChatServerOptions) -> Result<ChatServer> {
        let access = Access::new(&options.api_keys, &options.allow_origins);
        let shared = Arc::new(Shared::new(
            options.queue,
            model_thread::together(options.conversations),
        ));
        let (sender, loaded) = mpsc::sync_channel(1);
        let of_thread = Arc::clone(&shared);
        let (model_name, max_body_bytes) = (options.model_name.clone(), options.max_body_bytes);
        let (timeout, takes_all) = (options.timeout, options.takes_all);
        let budget = Budget::new(options.request_memory);
        std::thread::spawn(move || {
            pollster::block_on(async {
                match load(&options).await {
                    Ok((model, answering)) => {
                        let loaded = Loaded {
                            reading: answering.reading.clone(),
                            context: model.context(),
                            device: model.device().name(),
                        };
                        // It is waited for.
                        let _ = sender.send(Ok(loaded));
                        model_thread::run(&model, &answering, &of_thread).await;
                    }
                    Err(error) => drop(sender.send(Err(error))),
                }
            });
        });
        let ended = |_| univi::Error::Io {
            reason: "the model's thread ended while it loaded the model".into(),
        };
        let loaded = loaded.recv().map_err(ended)??;
        Ok(ChatServer {
            access,
            shared,
            reading: loaded.reading,
            model_name,
            context: loaded.context,
            device: loaded.device,
            created: reply::now_s(),
            answers: AtomicU64::new(0),
            max_body_bytes,
            budget,
            decoding: Semaphore::new(available_parallelism().map_or(1, NonZero::get)),
            timeout,
            takes_all,
        })
    }

    /// Returns what clients call the model.
    pub fn model_name(&self) -> &str {
        &self.model_name
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<EndpointBody> {
        let allowed = self.access.check_origin(request.headers());
        let (answered, headers) = match allowed {
            Ok(headers) if request.method() == Method::OPTIONS => {
                let empty =
                    reply::text_response(StatusCode::NO_CONTENT, "text/plain", String::new());
                (Ok(empty), headers)
            }
            Ok(headers) => (self.route(request).await, headers),
            Err(refusal) => (Err(refusal), HeaderMap::new()),
        };
        let mut response = answered.unwrap_or_else(|refusal| reply::refusal_response(&refusal));
        response.headers_mut().extend(headers);
        response
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<EndpointBody>, Refusal> {
        let path = request.uri().path().to_owned();
        let method = request.method();
        let is_read = method == Method::GET || method == Method::HEAD;
        let allowed = match path.as_str() {
            "/v1/chat/completions" => (method == Method::POST, "POST"),
            _ => (is_read, "GET, HEAD"),
        };
        let ok = |value: Value| Ok(reply::json_response(StatusCode::OK, &value));
        // A server that runs says nothing else without its key.
        let key = match path.as_str() {
            "/health" if is_read => return Ok(self.health()),
            _ => self.access.check_key(request.headers())?,
        };
        match path.as_str() {
            "/v1/chat/completions" | "/v1/models" | "/metrics" | "/health" if !allowed.0 => {
                let message = format!("{path} takes {}, not {method}", allowed.1);
                let status = StatusCode::METHOD_NOT_ALLOWED;
                let mut refusal = Refusal::new(status, "method_not_allowed", message);
                refusal.allow = Some(allowed.1);
                Err(refusal)
            }
            "/v1/chat/completions" => self.complete(request, key).await,
            "/v1/models" => ok(json!({ "object": "list", "data": [self.model_json()] })),
            "/metrics" => {
                let length = self.shared.queue.length();
                let text = self.shared.metrics.text(length, self.budget.taken());
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                Ok(reply::text_response(StatusCode::OK, content_type, text))
            }
            _ => match path.strip_prefix("/v1/models/") {
                Some(name) if is_read && name == self.model_name => ok(self.model_json()),
                Some(name) if is_read => {
                    let own = &self.model_name;
                    let message =
                        format!("the model {name:?} is not served here; there is {own:?}");
                    Err(Refusal::new(
                        StatusCode::NOT_FOUND,
                        "model_not_found",
                        message,
                    ))
                }
                _ => {
                    let message = format!(
                        "{path} is no address of this server; there are /v1/chat/completions, \
                         /v1/models, /health and /metrics"
                    );
                    Err(Refusal::new(
                        StatusCode::NOT_FOUND,
                        "unknown_address",
                        message,
                    ))
                }
            },
        }
    }

    fn health(&self) -> Response<EndpointBody> {
        match self.shared.healthy.load(Ordering::SeqCst) {
            true => reply::json_response(StatusCode::OK, &json!({ "status": "ok" })),
            false => reply::refusal_response(&reply::ended_thread()),
        }
    }

    fn model_json(&self) -> Value {
        json!({
            "id": self.model_name,
            "object": "model",
            "created": self.created,
            "owned_by": "univi",
            "context_tokens": self.context,
            "takes_visuals": self.reading.size_px.is_some(),
            "device": self.device,
        })
    }

    /// Answers a request for a chat completion.
    async fn complete(
        &self,
        request: Request<Incoming>,
        key: Option<usize>,
    ) -> Result<Response<EndpointBody>, Refusal> {
        let mut counted = Counted::new(Arc::clone(&self.shared.metrics));
        let answered = self.complete_counted(request, key, &mut counted).await;
        match answered {
            Ok(Answered::Whole(value)) => Ok(reply::json_response(StatusCode::OK, &value)),
            Ok(Answered::Stream(head, includes_usage, events)) => Ok(reply::stream_response(
                head,
                includes_usage,
                events,
                counted,
            )),
            Err(refusal) => {
                counted.outcome = match refusal.status {
                    StatusCode::TOO_MANY_REQUESTS => Outcome::QueueFull,
                    _ if refusal.is_timeout() => Outcome::TimedOut,
                    status if status.is_server_error() => Outcome::Failed,
                    _ => Outcome::Refused,
                };
                Err(refusal)
            }
        }
    }

    async fn complete_counted(
        &self,
        request: Request<Incoming>,
        key: Option<usize>,
        counted: &mut Counted,
    ) -> Result<Answered, Refusal> {
        let peer = request.extensions().get::<Peer>();
        let address = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0);
        let asker = Asker { key, address };
        // Before a long body is read for nothing.
        self.shared.queue.check(asker).map_err(no_place)?;
        let mut reserved = self.budget.reserve();
        let body = self.read_body(request, &mut reserved).await?;
        let arrived = Instant::now();
        let request = {
            let permit = timeout(self.timeout, self.decoding.acquire()).await;
            let permit = permit.map_err(|_| self.waited_too_long())?;
            let _permit = permit.expect("it is never closed");
            // Others may have taken the place meanwhile.
            self.shared.queue.check(asker).map_err(no_place)?;
            // Decoding takes a while, and other connections should not wait for it.
            tokio::task::block_in_place(|| self.parse(&body, reserved))?
        };
        drop(body);
        let (stream, includes_usage) = (request.stream, request.includes_usage);
        let head = Head {
            id: self.next_id(),
            created: reply::now_s(),
            model: self.model_name.clone(),
            has_logprobs: request.options.logprobs.is_some(),
        };
        let (sender, mut events) = unbounded_channel();
        let job = Job {
            request,
            asker,
            reply: sender,
            queued: arrived,
        };
        self.shared.queue.push(job).map_err(no_place)?;
        let left = self.timeout.saturating_sub(arrived.elapsed());
        let turn = timeout(left, events.recv()).await;
        if let Ok(Some(Event::Displaced)) = turn {
            return Err(no_place(NoPlace::Full));
        }
        if turn.is_err() {
            return Err(self.waited_too_long());
        }
        let (mut content, mut logprobs) = (String::new(), Vec::new());
        loop {
            match events.recv().await {
                Some(Event::Begun) if stream => {
                    return Ok(Answered::Stream(head, includes_usage, events));
                }
                Some(Event::Displaced | Event::Taken | Event::Begun) => {}
                Some(Event::Text(text, tokens)) => {
                    content += &text;
                    logprobs.extend(tokens);
                }
                Some(Event::Done(finish, usage, timings)) => {
                    counted.outcome = reply::outcome(finish);
                    let answer =
                        reply::completion(&head, &content, &logprobs, finish, &usage, &timings);
                    return Ok(Answered::Whole(answer));
                }
                Some(Event::Failed(error)) => return Err(error.into()),
                None => return Err(reply::ended_thread()),
            }
        }
    }

    fn waited_too_long(&self) -> Refusal {
        let seconds = self.timeout.as_secs();
        let message = format!(
            "the request waited {seconds} s for its turn, which is as long as --timeout allows"
        );
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Refusal::new(status, TIMED_OUT, message).retry_after_s(RETRY_AFTER_S)
    }

    /// Reads a request, and decodes its pictures and clips.
    fn parse(&self, body: &[u8], mut reserved: Reserved) -> Result<ChatRequest, Refusal> {
        let sources = Sources::new(&self.reading);
        let mut request = ChatRequest::parse(body, &self.model_name, &sources)?;
        if !reserved.grow(sources.bytes()) {
            return Err(no_memory());
        }
        request.reserved = Some(reserved);
        for part in request.parts_mut() {
            if let SentPart::Visual(visual, decoded) = part
                && !self.shared.is_encoded(&visual.hash)
            {
                // Without memory for it now it is decoded at its turn.
                let mut reserved = self.budget.reserve();
                if reserved.grow(visual.decoded_bytes(&self.reading)) {
                    let mut now = visual.decode(&self.reading)?;
                    now.reserved = Some(reserved);
                    *decoded = Some(now);
                }
            }
        }
        Ok(request)
    }

    fn next_id(&self) -> String {
        let count = self.answers.fetch_add(1, Ordering::Relaxed);
        format!("chatcmpl-{:x}-{count}", self.created)
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    /// 413 for one that is too long, 408 for one that takes too long, 400 for one that breaks off,
    /// 503 where there is no memory for it now.
    async fn read_body(
        &self,
        request: Request<Incoming>,
        reserved: &mut Reserved,
    ) -> Result<Vec<u8>, Refusal> {
        let max_bytes = self.max_body_bytes;
        let too_long = || {
            let message =
                format!("the request has more than {max_bytes} bytes; --max-body sets the limit");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        };
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let mut body = pin!(request.into_body());
        let read = match length.is_some_and(|length| length > max_bytes) {
            true => Err(too_long()),
            false => timeout(self.timeout, collect(body.as_mut(), max_bytes, reserved))
                .await
                .unwrap_or_else(|_| {
                    let seconds = self.timeout.as_secs();
                    let message = format!("the request did not arrive within {seconds} s");
                    let status = StatusCode::REQUEST_TIMEOUT;
                    Err(Refusal::new(status, TIMED_OUT, message))
                })
                .and_then(|bytes| bytes.ok_or_else(too_long)),
        };
        if read.is_err() {
            // A client that is still sending reads no answer before it is done.
            let rest = async { while let Some(Ok(_)) = next_frame(body.as_mut()).await {} };
            let _ = timeout(DRAIN, rest).await;
        }
        read
    }
}

/// Reads all of a body; `None` where it is longer than `max_bytes`.
async fn collect(
    mut body: Pin<&mut Incoming>,
    max_bytes: u64,
    reserved: &mut Reserved,
) -> Result<Option<Vec<u8>>, Refusal> {
    let mut bytes = Vec::new();
    while let Some(frame) = next_frame(body.as_mut()).await {
        let frame = frame.map_err(|e| Refusal::bad(format!("the request broke off: {e}")))?;
        if let Ok(data) = frame.into_data() {
            if (bytes.len() + data.len()) as u64 > max_bytes {
                return Ok(None);
            }
            if !reserved.grow(data.len() as u64) {
                return Err(no_memory());
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(Some(bytes))
}

async fn next_frame(mut body: Pin<&mut Incoming>) -> Option<hyper::Result<Frame<Bytes>>> {
    poll_fn(|context| body.as_mut().poll_frame(context)).await
}

/// What a request for a completion comes to.
enum Answered {
    Whole(Value),
    Stream(Head, bool, tokio::sync::mpsc::UnboundedReceiver<Event>),
}

fn no_memory() -> Refusal {
    let message = "the requests that arrive and wait take as much memory as they may; ask again \
                   later, or start the server with more --request-memory";
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Refusal::new(status, "out-of-memory", message).retry_after_s(RETRY_AFTER_S)
}

fn no_place(why: NoPlace) -> Refusal {
    match why {
        NoPlace::Closed => reply::ended_thread(),
        NoPlace::Full => {
            let message = "as many requests wait as may; ask again later, or start the server with \
                           a longer --queue";
            let status = StatusCode::TOO_MANY_REQUESTS;
            Refusal::new(status, "queue_full", message).retry_after_s(RETRY_AFTER_S)
        }
    }
}

/// Opens the device and the model.
async fn load(options: &ChatServerOptions) -> Result<(Model, Answering)> {
    let session = options.model.session_options()?;
    let device = open::device(options.model.device.into()).await?;
    let path = &options.model.model;
    let model = open::model(&device, path, &options.model.load_options()).await?;
    let visual = options.frames.visual_options();
    let (size_px, frames) = match model.has_vision() {
        true => {
            let vision = model.vision(&visual)?;
            let config = vision.config();
            (
                Some(config.clip.image_px),
                options.frames.options(&config.merge),
            )
        }
        false => (None, univi::frames::FrameOptions::default()),
    };
    let reading = Reading {
        size_px,
        frames,
        message_files: options.message_files.clone(),
        fetcher: Fetcher::new(options.allow_urls.clone(), options.fetch_timeout),
        max_file_bytes: options.max_body_bytes,
    };
    let answering = Answering {
        session,
        visual,
        reading,
        conversations: options.conversations,
    };
    Ok((model, answering))
}

impl Endpoints for ChatServer {
    fn has(&self, path: &str) -> bool {
        self.takes_all || path.starts_with("/v1/") || path == "/health" || path == "/metrics"
    }

    fn answer(self: Arc<Self>, request: Request<Incoming>) -> EndpointFuture {
        let answer: Pin<Box<dyn Future<Output = Response<EndpointBody>> + Send>> =
            Box::pin(async move { self.respond(request).await });
        answer
    }
}
