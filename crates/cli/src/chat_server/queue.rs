//! Requests that wait for the model: those who ask take turns, each with its oldest request, and
//! not more wait than a limit.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;
use univi::{
    Error,
    session::{Finish, TokenLogprobs, Usage},
};

use super::request::ChatRequest;

/// How long ago, in turns, somebody's last turn still counts.
const REMEMBERED_TURNS: u64 = 1024;

/// Who asks: which of the keys, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asker {
    pub key: Option<usize>,
    pub address: IpAddr,
}

/// A request on its way to the model.
pub struct Job {
    pub request: ChatRequest,
    pub asker: Asker,
    /// Where the client leaves, its other end is dropped.
    pub reply: UnboundedSender<Event>,
    pub queued: Instant,
}

/// What becomes of a request.
pub enum Event {
    /// Its place is another's, who has fewer: it may be tried again later.
    Displaced,
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
    together: usize,
}

#[derive(Default)]
struct State {
    /// In the order in which they came.
    waiting: Vec<Job>,
    /// Turns so far, and the last one of each who asks.
    turns: u64,
    last_turns: HashMap<Asker, u64>,
    /// Requests that are being answered.
    answered: usize,
    closed: bool,
}

impl Queue {
    /// Makes a queue in which up to `limit` requests wait while `together` are answered.
    pub fn new(limit: usize, together: usize) -> Queue {
        Queue {
            state: Mutex::default(),
            arrived: Condvar::new(),
            limit,
            together,
        }
    }

    /// Returns whether a request of `asker` would find a place now.
    ///
    /// # Errors
    /// Why it would not.
    pub fn check(&self, asker: Asker) -> Result<(), NoPlace> {
        self.place(&mut self.state(), asker).map(drop)
    }

    /// Takes a place at the end. Where none is free, the latest request of who has most of them
    /// makes room, unless that is the asker.
    ///
    /// # Errors
    /// Why there is none.
    pub fn push(&self, job: Job) -> Result<(), NoPlace> {
        let mut state = self.state();
        if let Some(displaced) = self.place(&mut state, job.asker)? {
            let displaced = state.waiting.remove(displaced);
            // Its client may have left.
            let _ = displaced.reply.send(Event::Displaced);
        }
        state.waiting.push(job);
        self.arrived.notify_one();
        Ok(())
    }

    /// Returns the next request, once there is one: the oldest of who had no turn for longest.
    /// [`Queue::finish`] is due once it is over.
    pub fn pop(&self) -> Job {
        let mut state = self.state();
        loop {
            if let Some(index) = state.next() {
                return state.take(index);
            }
            let waited = self.arrived.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`Queue::pop`], where somebody waits.
    pub fn try_pop(&self) -> Option<Job> {
        let mut state = self.state();
        state.next().map(|index| state.take(index))
    }

    /// Counts a request as over.
    pub fn finish(&self) {
        self.state().answered -= 1;
    }

    /// Returns how many wait, and how many are being answered.
    pub fn length(&self) -> (usize, usize) {
        let mut state = self.state();
        forget_those_who_left(&mut state);
        (state.waiting.len(), state.answered)
    }

    /// Sends everybody away, now and from here on.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
    }

    /// Finds a place, and the request that has to make room for it.
    fn place(&self, state: &mut State, asker: Asker) -> Result<Option<usize>, NoPlace> {
        forget_those_who_left(state);
        if state.closed {
            return Err(NoPlace::Closed);
        }
        if state.waiting.len() + state.answered < self.limit + self.together {
            return Ok(None);
        }
        let mut places: HashMap<Asker, usize> = HashMap::new();
        for job in &state.waiting {
            *places.entry(job.asker).or_default() += 1;
        }
        let own = places.get(&asker).copied().unwrap_or(0);
        let most = places.values().copied().max().unwrap_or(0);
        // With one place less the other one still has as many.
        if most < own + 2 {
            return Err(NoPlace::Full);
        }
        let latest = |job: &Job| places.get(&job.asker) == Some(&most);
        Ok(state.waiting.iter().rposition(latest))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The oldest request of who had no turn for longest.
    fn next(&self) -> Option<usize> {
        let last_turn = |job: &Job| self.last_turns.get(&job.asker).copied().unwrap_or(0);
        // The first of several that are equal.
        (0..self.waiting.len()).min_by_key(|&i| last_turn(&self.waiting[i]))
    }

    fn take(&mut self, index: usize) -> Job {
        let job = self.waiting.remove(index);
        self.answered += 1;
        self.turns += 1;
        let turns = self.turns;
        self.last_turns.insert(job.asker, turns);
        self.last_turns
            .retain(|_, last| turns - *last < REMEMBERED_TURNS);
        job
    }
}

/// A client that left makes room at once.
fn forget_those_who_left(state: &mut State) {
    state.waiting.retain(|job| !job.reply.is_closed());
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError, unbounded_channel};

    use super::*;

    fn asker(last: u8) -> Asker {
        Asker {
            key: None,
            address: IpAddr::from([127, 0, 0, last]),
        }
    }

    fn push(queue: &Queue, last: u8) -> Result<UnboundedReceiver<Event>, NoPlace> {
        let (reply, events) = unbounded_channel();
        let job = Job {
            request: ChatRequest::of_text("a"),
            asker: asker(last),
            reply,
            queued: Instant::now(),
        };
        queue.push(job).map(|()| events)
    }

    #[test]
    fn those_who_ask_take_turns() {
        let queue = Queue::new(20, 1);
        let mut clients: Vec<_> = [1, 1, 1, 1, 2, 2, 3]
            .map(|last| push(&queue, last).unwrap())
            .into();
        let turn = || queue.pop().asker.address;
        let turns: Vec<_> = (0..5).map(|_| turn()).collect();
        assert_eq!(turns, [1, 2, 3, 1, 2].map(|last| asker(last).address));
        // Who comes back has had a turn, and waits like all others.
        clients.push(push(&queue, 3).unwrap());
        let turns: Vec<_> = (0..3).map(|_| turn()).collect();
        assert_eq!(turns, [3, 1, 1].map(|last| asker(last).address));
    }

    #[test]
    fn a_full_queue_has_room_for_who_has_fewer() {
        let queue = Queue::new(3, 1);
        let mut clients: Vec<_> = [1, 1, 1, 1].map(|_| push(&queue, 1).unwrap()).into();
        assert_eq!(push(&queue, 1).err(), Some(NoPlace::Full));
        let other = push(&queue, 2).unwrap();
        let said: Vec<_> = clients.iter_mut().map(|events| events.try_recv()).collect();
        let is_open = |said: &Result<Event, TryRecvError>| matches!(said, Err(TryRecvError::Empty));
        assert!(said[..3].iter().all(is_open));
        assert!(matches!(said[3], Ok(Event::Displaced)));
        let another = push(&queue, 2).unwrap();
        // Two each: nobody makes room.
        assert_eq!(push(&queue, 2).err(), Some(NoPlace::Full));
        // Who leaves does.
        drop(other);
        push(&queue, 2).unwrap();
        drop(another);
    }
}
