//! The body of an answer: read while it is sent, as fast as it may, and broken where that is asked
//! for.

use std::{
    io::{self, ErrorKind, Read},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::report::Pending;

/// Bytes that are read at once, which with the connection's own buffer is all that an answer holds
/// in memory.
const CHUNK_BYTES: u64 = 256 << 10;

/// Pieces that a throttled second is divided into, so that a slow line is slow all the time.
const PACED_CHUNKS_PER_S: u64 = 50;

/// What a line makes up for after a timer that came late.
const SLACK: Duration = Duration::from_millis(20);

/// What a connection gets for sending what it holds, before it breaks.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A line that carries so many bytes in a second, over all connections.
#[derive(Debug)]
pub struct Pace {
    bytes_per_s: u64,
    /// When the line has carried all that it was given.
    free: Mutex<Instant>,
}

impl Pace {
    /// Makes an idle line; `bytes_per_s` is above 0.
    pub fn new(bytes_per_s: u64) -> Pace {
        Pace {
            bytes_per_s,
            free: Mutex::new(Instant::now()),
        }
    }

    fn chunk_bytes(&self) -> u64 {
        (self.bytes_per_s / PACED_CHUNKS_PER_S).max(1)
    }

    /// When the line will have carried `bytes` more.
    fn carry(&self, bytes: u64) -> Instant {
        let now = Instant::now();
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let duration = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        *free = (*free).max(earliest) + duration;
        *free
    }
}

/// Where a body ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Bytes that are sent before.
    pub after_bytes: u64,
    pub then: Then,
}

impl Cut {
    /// Ends a body after `after_bytes`.
    pub fn new(after_bytes: u64, then: Then) -> Cut {
        Cut { after_bytes, then }
    }
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The connection breaks.
    Drop,
    /// Nothing: the connection stays, silent, until the other side gives up.
    Stall,
}

/// How a body differs from the bytes that it is made of.
#[derive(Debug, Default)]
pub struct Damage {
    pub cut: Option<Cut>,
    /// The byte with this index, counted from the body's beginning, is inverted.
    pub flipped_byte: Option<u64>,
    /// The length is not sent: the body comes in chunks.
    pub hides_length: bool,
}

/// The body of an answer.
pub struct Body {
    source: Box<dyn Read + Send>,
    left_bytes: u64,
    damage: Damage,
    pace: Option<Arc<Pace>>,
    /// What the next piece, or the break, waits for.
    wait: Option<Pin<Box<Sleep>>>,
    record: Pending,
}

impl Body {
    /// Makes a body of the next `size_bytes` of `source`.
    pub fn new(
        source: Box<dyn Read + Send>,
        size_bytes: u64,
        damage: Damage,
        pace: Option<Arc<Pace>>,
        record: Pending,
    ) -> Body {
        Body {
            source,
            left_bytes: size_bytes,
            damage,
            pace,
            wait: None,
            record,
        }
    }

    /// Makes a body without bytes.
    pub fn empty(record: Pending) -> Body {
        Body::new(Box::new(io::empty()), 0, Damage::default(), None, record)
    }

    /// Bytes that come next: what is left, up to a cut, in pieces.
    fn next_bytes(&self) -> u64 {
        let to_cut = self
            .damage
            .cut
            .map_or(u64::MAX, |cut| cut.after_bytes - self.record.bytes());
        let piece = self
            .pace
            .as_ref()
            .map_or(CHUNK_BYTES, |pace| pace.chunk_bytes().min(CHUNK_BYTES));
        self.left_bytes.min(to_cut).min(piece)
    }

    fn read(&mut self, bytes: u64) -> io::Result<Bytes> {
        let mut piece = Vec::with_capacity(bytes as usize);
        (&mut self.source).take(bytes).read_to_end(&mut piece)?;
        if (piece.len() as u64) < bytes {
            // Its length was sent already: all that is left is to break off.
            let reason = "the file became shorter while it was sent";
            return Err(io::Error::new(ErrorKind::UnexpectedEof, reason));
        }
        let flipped = self
            .damage
            .flipped_byte
            .and_then(|at| at.checked_sub(self.record.bytes()));
        if let Some(byte) = flipped.and_then(|at| piece.get_mut(usize::try_from(at).ok()?)) {
            *byte = !*byte;
        }
        Ok(piece.into())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left_bytes == 0 {
            return Poll::Ready(None);
        }
        let bytes = this.next_bytes();
        if bytes == 0 {
            if this.damage.cut.is_some_and(|cut| cut.then == Then::Stall) {
                // Nothing wakes this: hyper drops it when the other side leaves.
                return Poll::Pending;
            }
            let wait = this.wait.get_or_insert_with(|| Box::pin(sleep(LAST_WORDS)));
            ready!(wait.as_mut().poll(context));
            let reason = "the connection breaks as was asked for";
            return Poll::Ready(Some(Err(io::Error::other(reason))));
        }
        if let Some(pace) = &this.pace {
            let wait = this
                .wait
                .get_or_insert_with(|| Box::pin(sleep_until(pace.carry(bytes))));
            ready!(wait.as_mut().poll(context));
            this.wait = None;
        }
        let piece = tokio::task::block_in_place(|| this.read(bytes))?;
        this.left_bytes -= bytes;
        this.record.add_bytes(bytes);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.damage.hides_length {
            SizeHint::default()
        } else {
            SizeHint::with_exact(self.left_bytes)
        }
    }
}
