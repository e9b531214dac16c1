//! The thread that owns the model, and answers several requests at a time.

use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;
use univi::{
    Error, Model, Part, Result, Session, VisualOptions,
    session::{Finish, SessionOptions},
};

use super::{
    conversations::{Conversations, Place},
    encoded::EncodedVisuals,
    media::Reading,
    metrics::Metrics,
    queue::{Event, Job, Queue, Timings},
    request::SentPart,
};

/// What the thread of the model shares with the connections.
pub struct Shared {
    pub queue: Queue,
    pub metrics: Arc<Metrics>,
    /// Whether the device still computes.
    pub healthy: AtomicBool,
    /// The hashes of the visuals that are encoded, which need not be decoded again.
    encoded: Mutex<HashSet<[u8; 32]>>,
}

impl Shared {
    /// Makes the state of a server that has answered nothing yet.
    pub fn new(queue: usize, together: usize) -> Shared {
        Shared {
            queue: Queue::new(queue, together),
            metrics: Arc::default(),
            healthy: AtomicBool::new(true),
            encoded: Mutex::default(),
        }
    }

    /// Returns whether a visual is encoded already.
    pub fn is_encoded(&self, hash: &[u8; 32]) -> bool {
        let encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        encoded.contains(hash)
    }
}

/// How requests are put to the model.
pub struct Answering {
    /// What requests leave open.
    pub session: SessionOptions,
    pub visual: VisualOptions,
    pub reading: Reading,
    /// Conversations whose KV caches are kept.
    pub conversations: usize,
}

/// Returns how many requests are answered at a time, where so many conversations are kept.
pub fn together(conversations: usize) -> usize {
    conversations.clamp(1, Session::TOGETHER)
}

/// Closes the queue when the thread ends, even by a panic.
struct CloseAtEnd<'a>(&'a Shared);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.healthy.store(false, Ordering::SeqCst);
        self.0.queue.close();
    }
}

/// Answers requests for as long as the device computes.
pub async fn run(model: &Model, answering: &Answering, shared: &Shared) {
    let _close = CloseAtEnd(shared);
    let mut thread = ModelThread {
        model,
        answering,
        shared,
        conversations: Conversations::new(model.clone(), answering.conversations),
        encoded: EncodedVisuals::default(),
        answers: BTreeMap::new(),
    };
    loop {
        // Whoever waits joins while there is a place; where nobody is answered, it is waited for.
        while thread.answers.len() < together(answering.conversations) {
            let job = match thread.answers.is_empty() {
                true => Some(shared.queue.pop()),
                false => shared.queue.try_pop(),
            };
            let Some(job) = job else { break };
            if thread.begin(job).await.is_break() {
                return;
            }
        }
        if thread.step().await.is_break() {
            return;
        }
    }
}

struct ModelThread<'a> {
    model: &'a Model,
    answering: &'a Answering,
    shared: &'a Shared,
    conversations: Conversations,
    encoded: EncodedVisuals,
    /// Those that are being generated.
    answers: BTreeMap<Place, Request>,
}

/// A request's parts, encoded.
struct Prompt {
    turns: Vec<(Vec<Part>, String)>,
    question: Vec<Part>,
}

/// A request whose answer is being generated. What it brought is on the device, and takes no memory
/// here.
struct Request {
    reply: UnboundedSender<Event>,
    timings: Timings,
    /// When the prompt's turn came, with everything encoded.
    asked: Instant,
    first_text: Option<Instant>,
    /// Tokens whose log-probabilities were sent.
    tokens: usize,
}

impl ModelThread<'_> {
    /// Begins to answer a request. Breaks where the device is lost.
    async fn begin(&mut self, mut job: Job) -> ControlFlow<()> {
        if job.reply.send(Event::Taken).is_err() {
            self.shared.queue.finish();
            return ControlFlow::Continue(());
        }
        let mut timings = Timings {
            queue: job.queued.elapsed(),
            ..Timings::default()
        };
        match self.begin_answer(&mut job, &mut timings).await {
            Ok(Some((place, asked))) => {
                let _ = job.reply.send(Event::Begun);
                let request = Request {
                    reply: job.reply,
                    timings,
                    asked,
                    first_text: None,
                    tokens: 0,
                };
                self.answers.insert(place, request);
                ControlFlow::Continue(())
            }
            Ok(None) => {
                self.shared.queue.finish();
                ControlFlow::Continue(())
            }
            Err(error) => self.fail(&job.reply, error),
        }
    }

    /// Encodes what a request brings and begins its answer; `None` where its client has left.
    async fn begin_answer(
        &mut self,
        job: &mut Job,
        timings: &mut Timings,
    ) -> Result<Option<(Place, Instant)>> {
        let taken = Instant::now();
        let keys = job.request.keys();
        let Some(prompt) = self.encode(job).await? else {
            return Ok(None);
        };
        let asked = Instant::now();
        timings.encode = asked - taken;
        let place = match self.ask(job, &keys, &prompt).await {
            // Whatever else lies on the device may go.
            Err(Error::OutOfMemory { .. }) => {
                self.conversations.clear();
                self.encoded.clear();
                self.publish_encoded();
                self.ask(job, &keys, &prompt).await?
            }
            asked => asked?,
        };
        Ok(Some((place, asked)))
    }

    async fn ask(&mut self, job: &Job, keys: &[u64], prompt: &Prompt) -> Result<Place> {
        let options = job.request.options.generate()?;
        let own = &self.answering.session;
        let system = job.request.system.clone().or_else(|| own.system.clone());
        let session_options = own.clone().system(system);
        let place = self.conversations.place_for(keys.to_vec()).await?;
        let session = self.conversations.session(place);
        let turns = prompt.turns.iter().cloned();
        let turns = turns.map(|(parts, answer)| (parts.into(), answer));
        let begun = match session.restart(session_options, turns).await {
            Ok(()) => session.begin(prompt.question.clone(), &options).await,
            Err(error) => Err(error),
        };
        if begun.is_err() {
            self.conversations.give_back(place);
        }
        begun.map(|_| place)
    }

    /// Computes the next part of each answer, and sends what is new. Breaks where the device is
    /// lost.
    async fn step(&mut self) -> ControlFlow<()> {
        let left = |request: &Request| request.reply.is_closed();
        let places = self.answers.iter().filter(|(_, request)| left(request));
        for place in places.map(|(&place, _)| place).collect::<Vec<_>>() {
            self.end(place);
        }
        let (places, mut sessions): (Vec<_>, Vec<_>) =
            self.conversations.taken().into_iter().unzip();
        let texts = Session::next_of_each(&mut sessions).await;
        for (place, text) in places.into_iter().zip(texts) {
            match text {
                Ok(Some(text)) if text.is_empty() => {}
                Ok(Some(text)) => {
                    let logprobs = self.conversations.session(place).logprobs();
                    let request = self.answers.get_mut(&place).expect("it is answered");
                    request.first_text.get_or_insert_with(Instant::now);
                    let logprobs = logprobs[request.tokens..].to_vec();
                    request.tokens += logprobs.len();
                    let _ = request.reply.send(Event::Text(text, logprobs));
                }
                Ok(None) => self.end(place),
                Err(error) => {
                    self.conversations.give_back(place);
                    let request = self.answers.remove(&place).expect("it is answered");
                    self.fail(&request.reply, error)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Ends an answer, complete or not.
    fn end(&mut self, place: Place) {
        let ended = Instant::now();
        let answer = self.conversations.session(place).end();
        self.conversations.give_back(place);
        self.shared.queue.finish();
        let request = self.answers.remove(&place).expect("it is answered");
        let answer = answer.expect("it did not fail");
        let first_text = request.first_text.unwrap_or(ended);
        let timings = Timings {
            first_text: first_text - request.asked,
            decode: ended
                .checked_duration_since(first_text)
                .unwrap_or(Duration::ZERO),
            ..request.timings
        };
        self.shared.metrics.add(&answer.usage, &timings);
        if answer.finish != Finish::Aborted {
            let done = Event::Done(answer.finish, answer.usage, timings);
            let _ = request.reply.send(done);
        }
    }

    /// Says what went wrong. Breaks where nothing can be computed any more.
    fn fail(&self, reply: &UnboundedSender<Event>, error: Error) -> ControlFlow<()> {
        self.shared.queue.finish();
        let is_lost = matches!(error, Error::DeviceLost { .. });
        // The client may have left meanwhile.
        let _ = reply.send(Event::Failed(error));
        match is_lost {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Encodes what is visual in a request; `None` where its client has left.
    async fn encode(&mut self, job: &mut Job) -> Result<Option<Prompt>> {
        let mut turns = Vec::new();
        for (parts, answer) in std::mem::take(&mut job.request.turns) {
            match self.encode_parts(parts, job).await? {
                Some(parts) => turns.push((parts, answer)),
                None => return Ok(None),
            }
        }
        let question = std::mem::take(&mut job.request.question);
        let question = self.encode_parts(question, job).await?;
        Ok(question.map(|question| Prompt { turns, question }))
    }

    async fn encode_parts(&mut self, parts: Vec<SentPart>, job: &Job) -> Result<Option<Vec<Part>>> {
        let mut encoded = Vec::with_capacity(parts.len());
        for part in parts {
            encoded.push(match part {
                SentPart::Text(text) => Part::Text(text),
                SentPart::Visual(..) if job.reply.is_closed() => return Ok(None),
                SentPart::Visual(sent, decoded) => {
                    let Answering {
                        visual, reading, ..
                    } = self.answering;
                    let metrics = &self.shared.metrics;
                    let visual = self
                        .encoded
                        .get(&sent, decoded, self.model, visual, reading, metrics)
                        .await?;
                    self.publish_encoded();
                    Part::Visual(visual)
                }
            });
        }
        Ok(Some(encoded))
    }

    fn publish_encoded(&self) {
        let encoded = self.shared.encoded.lock();
        *encoded.unwrap_or_else(PoisonError::into_inner) = self.encoded.hashes().collect();
    }
}
