//! Requests that wait for the model: first come, first served, and not more than a limit.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;
use univi::{
    Error,
    session::{Finish, TokenLogprobs, Usage},
};

use super::request::ChatRequest;

/// A request on its way to the model.
pub struct Job {
    pub request: ChatRequest,
    /// Where the client leaves, its other end is dropped.
    pub reply: UnboundedSender<Event>,
    pub queued: Instant,
}

/// What becomes of a request.
pub enum Event {
    /// It is its turn.
    Taken,
    /// The prompt has room: an answer follows.
    Begun,
    /// The next text of the answer, and its tokens where their log-probabilities are asked for.
    Text(String, Vec<TokenLogprobs>),
    /// The answer is over.
    Done(Finish, Usage, Timings),
    Failed(Error),
}

/// How long an answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// Until it was its turn.
    pub queue: Duration,
    /// Decoding and encoding of pictures and clips.
    pub encode: Duration,
    /// From there to the first text, or to the end where there is none.
    pub first_text: Duration,
    /// From the first text to the end.
    pub decode: Duration,
}

/// Why a request can't wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// As many wait as may.
    Full,
    /// The model's thread has ended.
    Closed,
}

/// The queue between connections and the thread of the model.
pub struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    limit: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Whether a request is being answered.
    busy: bool,
    closed: bool,
}

impl Queue {
    /// Makes a queue in which up to `limit` requests wait while one is answered.
    pub fn new(limit: usize) -> Queue {
        Queue {
            state: Mutex::default(),
            arrived: Condvar::new(),
            limit,
        }
    }

    /// Returns whether a request would find a place now.
    ///
    /// # Errors
    /// Why it would not.
    pub fn check(&self) -> Result<(), NoPlace> {
        self.place(&mut self.state())
    }

    /// Takes a place at the end.
    ///
    /// # Errors
    /// Why there is none.
    pub fn push(&self, job: Job) -> Result<(), NoPlace> {
        let mut state = self.state();
        self.place(&mut state)?;
        state.waiting.push_back(job);
        self.arrived.notify_one();
        Ok(())
    }

    /// Returns the next request, once there is one, and counts the one before as over.
    pub fn pop(&self) -> Job {
        let mut state = self.state();
        state.busy = false;
        loop {
            if let Some(job) = state.waiting.pop_front() {
                state.busy = true;
                return job;
            }
            let waited = self.arrived.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns how many wait, and whether one is being answered.
    pub fn length(&self) -> (usize, bool) {
        let mut state = self.state();
        forget_those_who_left(&mut state);
        (state.waiting.len(), state.busy)
    }

    /// Sends everybody away, now and from here on.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
    }

    fn place(&self, state: &mut State) -> Result<(), NoPlace> {
        forget_those_who_left(state);
        if state.closed {
            Err(NoPlace::Closed)
        } else if state.waiting.len() + usize::from(state.busy) > self.limit {
            Err(NoPlace::Full)
        } else {
            Ok(())
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that left makes room at once.
fn forget_those_who_left(state: &mut State) {
    state.waiting.retain(|job| !job.reply.is_closed());
}
