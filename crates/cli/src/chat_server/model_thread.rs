//! The thread that owns the model, and answers one request after the other.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use univi::{
    Error, Model, Part, Result, VisualOptions,
    session::{Finish, SessionOptions},
};

use super::{
    conversations::Conversations,
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
    pub fn new(queue: usize) -> Shared {
        Shared {
            queue: Queue::new(queue),
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
    };
    loop {
        let mut job = shared.queue.pop();
        if job.reply.send(Event::Taken).is_err() {
            continue;
        }
        if let Err(error) = thread.answer(&mut job).await {
            let is_lost = matches!(error, Error::DeviceLost { .. });
            // The client may have left meanwhile.
            let _ = job.reply.send(Event::Failed(error));
            if is_lost {
                return;
            }
        }
    }
}

struct ModelThread<'a> {
    model: &'a Model,
    answering: &'a Answering,
    shared: &'a Shared,
    conversations: Conversations,
    encoded: EncodedVisuals,
}

/// A request's parts, encoded.
struct Prompt {
    turns: Vec<(Vec<Part>, String)>,
    question: Vec<Part>,
}

impl ModelThread<'_> {
    /// Answers a request; where its client leaves, without an end.
    async fn answer(&mut self, job: &mut Job) -> Result<()> {
        let mut timings = Timings {
            queue: job.queued.elapsed(),
            ..Timings::default()
        };
        let taken = Instant::now();
        let keys = job.request.keys();
        let Some(prompt) = self.encode(job).await? else {
            return Ok(());
        };
        timings.encode = taken.elapsed();
        let mut begun = false;
        let answered = self.generate(job, &keys, &prompt, timings, &mut begun);
        match answered.await {
            // Whatever else lies on the device may go.
            Err(Error::OutOfMemory { .. }) if !begun => {
                self.conversations.clear();
                self.encoded.clear();
                self.publish_encoded();
                let again = self.generate(job, &keys, &prompt, timings, &mut begun);
                again.await
            }
            answered => answered,
        }
    }

    async fn generate(
        &mut self,
        job: &Job,
        keys: &[u64],
        prompt: &Prompt,
        mut timings: Timings,
        begun: &mut bool,
    ) -> Result<()> {
        let options = job.request.options.generate()?;
        let own = &self.answering.session;
        let system = job.request.system.clone().or_else(|| own.system.clone());
        let session_options = own.clone().system(system);
        let session = self.conversations.session_for(keys.to_vec()).await?;
        let asked = Instant::now();
        let turns = prompt.turns.iter().cloned();
        let turns = turns.map(|(parts, answer)| (parts.into(), answer));
        session.restart(session_options, turns).await?;
        let mut answer = session.ask(prompt.question.clone(), &options).await?;
        *begun = true;
        let _ = job.reply.send(Event::Begun);
        let mut first_text = None;
        let mut tokens = 0;
        loop {
            if job.reply.is_closed() {
                break;
            }
            match answer.next().await? {
                Some(text) if text.is_empty() => {}
                Some(text) => {
                    first_text.get_or_insert_with(Instant::now);
                    let logprobs = answer.logprobs()[tokens..].to_vec();
                    tokens += logprobs.len();
                    let _ = job.reply.send(Event::Text(text, logprobs));
                }
                None => break,
            }
        }
        let ended = Instant::now();
        let answer = answer.stop();
        let first_text = first_text.unwrap_or(ended);
        timings.first_text = first_text - asked;
        timings.decode = ended
            .checked_duration_since(first_text)
            .unwrap_or(Duration::ZERO);
        self.shared.metrics.add(&answer.usage, &timings);
        if answer.finish != Finish::Aborted {
            let done = Event::Done(answer.finish, answer.usage, timings);
            let _ = job.reply.send(done);
        }
        Ok(())
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
