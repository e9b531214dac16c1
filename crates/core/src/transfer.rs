//! The transfer of one file over HTTP, or of a range of its bytes, as a state machine without IO:
//! what to ask the server for, what to make of its answer, and whether and when to try again.
//!
//! ```text
//! loop {
//!     let head = fetch(transfer.request())?;
//!     match transfer.on_response(&head)? { .. }
//!     for chunk in body { transfer.received(chunk.len())?; .. }
//!     if transfer.ended()?.is_none() { break }
//! }
//! ```
//!
//! A server may break off, stall, ask for patience, ignore ranges or change the file meanwhile.
//! Each of these leads on, to a file that is whole, or to one error that names it.

use std::ops::Range;

use crate::{Error, Result};

/// Failures in a row, without a byte between them, after which nobody waits any longer.
const MAX_FAILURES: u32 = 5;

/// After so many requests with `Range` that had no answer, the whole file is asked for.
const MAX_UNANSWERED_RANGES: u32 = 2;

/// The first pause; each further one is twice as long.
const FIRST_PAUSE_MS: u32 = 500;

/// A server that asks for more patience is taken for one that is down.
const MAX_PAUSE_MS: u32 = 60_000;

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Bytes from here on: the header `Range: bytes=N-`; without it, where 0 and all are wanted.
    pub from: u64,
    /// The last byte, where a range is wanted: the header `Range: bytes=N-M`.
    pub to: Option<u64>,
    /// The header `If-Range`: what is there already belongs to this version.
    pub if_range: Option<String>,
}

/// The head of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status, such as 200.
    pub status: u16,
    /// The header `Content-Type`.
    pub content_type: Option<String>,
    /// The header `Content-Length`, where the body comes as it is stored.
    pub content_length: Option<u64>,
    /// Whether that is uncertain: a browser shows the `Content-Length` of another origin, but not
    /// its `Content-Encoding`.
    pub may_be_packed: bool,
    /// The header `Content-Range`; a browser shows that of another origin only where the server
    /// exposes it.
    pub content_range: Option<String>,
    /// A strong `ETag`, else `Last-Modified`.
    pub validator: Option<String>,
    /// The header `Retry-After`, in milliseconds from now.
    pub retry_after_ms: Option<u32>,
}

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseAction {
    /// Its body goes on where the bytes that have come end.
    Continues,
    /// Its body is the whole file again, the very same: so many bytes of it have come already.
    Skip(u64),
    /// Its body is the whole file, in another version: what has come is of no use.
    Restart,
    /// Everything has come.
    Complete,
    /// Its body is of no use. Ask again after so many milliseconds.
    Pause(u32),
}

/// A file on its way.
#[derive(Debug, Clone)]
pub struct Transfer {
    name: String,
    /// How much is wanted: the range's length, else the file's, where it is known.
    bytes: Option<u64>,
    /// The range of the file that is wanted, where it is not all.
    range: Option<FileRange>,
    /// The length of the body under way, unless it turns out to be packed.
    body_bytes: Option<u64>,
    /// Bytes that have come.
    done: u64,
    validator: Option<String>,
    /// A hash decides whether the bytes are right, so the version is of no interest.
    pinned: bool,
    /// A request with `If-Range` had no answer: the server may not allow other origins to send it.
    if_range_fails: bool,
    /// The same with `Range`, which older browsers ask permission for as well.
    ranges_unanswered: u32,
    /// The body under way is the whole file.
    whole_body: bool,
    /// Where the last body of the whole file ended, before its length was reached.
    ended_short: Option<u64>,
    failures: u32,
    seed: u64,
}

/// A range of a file.
#[derive(Debug, Clone)]
struct FileRange {
    start: u64,
    /// The file's length, where it is known.
    file_bytes: Option<u64>,
}

impl Transfer {
    /// Begins the transfer of a file of which `kept` bytes are there from earlier, of the version
    /// `validator`. `seed` spreads the pauses, so that many who failed together don't return
    /// together.
    pub fn new(
        name: impl Into<String>,
        bytes: Option<u64>,
        kept: u64,
        validator: Option<String>,
        seed: u64,
    ) -> Transfer {
        Transfer {
            name: name.into(),
            bytes,
            range: None,
            body_bytes: None,
            done: kept,
            validator,
            pinned: false,
            if_range_fails: false,
            ranges_unanswered: 0,
            whole_body: false,
            ended_short: None,
            failures: 0,
            seed,
        }
    }

    /// Begins the transfer of the bytes `range` of a file that has `file_bytes`, where that is
    /// known. A server that knows no ranges is refused, since the whole file may be a thousand
    /// times as long. What comes is not compared with any version: the address has to name one.
    pub fn of_range(
        name: impl Into<String>,
        range: Range<u64>,
        file_bytes: Option<u64>,
        seed: u64,
    ) -> Transfer {
        let bytes = range.end.saturating_sub(range.start);
        Transfer {
            range: Some(FileRange {
                start: range.start,
                file_bytes,
            }),
            ..Transfer::new(name, Some(bytes), 0, None, seed).pinned(true)
        }
    }

    /// Sets whether a hash guards the file: bytes of any version are joined then, and no `If-Range`
    /// is sent, which a browser may send to another origin only after asking for permission.
    pub fn pinned(mut self, pinned: bool) -> Transfer {
        self.pinned = pinned;
        self
    }

    /// Returns what to ask for next.
    pub fn request(&self) -> Request {
        if let (Some(range), Some(bytes)) = (&self.range, self.bytes) {
            return Request {
                from: range.start.saturating_add(self.done),
                to: Some(range.start.saturating_add(bytes.saturating_sub(1))),
                if_range: None,
            };
        }
        let from = match self.ranges_unanswered {
            0..MAX_UNANSWERED_RANGES => self.done,
            _ => 0,
        };
        Request {
            from,
            to: None,
            if_range: self
                .validator
                .clone()
                .filter(|_| from > 0 && !self.pinned && !self.if_range_fails),
        }
    }

    /// Returns the bytes that have come.
    pub fn done_bytes(&self) -> u64 {
        self.done
    }

    /// Returns the version that the bytes belong to.
    pub fn validator(&self) -> Option<&str> {
        self.validator.as_deref()
    }

    /// Looks at the head of an answer to [`Transfer::request`].
    ///
    /// # Errors
    /// `Io` for an answer that no patience changes, or when patience ends; `BadFile` for something
    /// else than the file.
    pub fn on_response(&mut self, head: &ResponseHead) -> Result<ResponseAction> {
        match head.status {
            200 | 206 if is_page(head) => Err(self.bad(
                "the server sent a web page instead of the file; is the address right?".into(),
            )),
            200 if self.range.is_some() => Err(self.io(
                "the server sent the whole file instead of the range that was asked for: it, or \
                 a proxy before it, knows no ranges"
                    .into(),
            )),
            200 => self.whole(head),
            206 => self.part(head),
            416 if self.range.is_some() => {
                let end = self.request().to.map_or(0, |to| to + 1);
                let found = total(head).map_or(String::new(), |total| format!(" {total}"));
                Err(self.bad(format!(
                    "the server's file has{found} bytes, fewer than the {end} that are expected: \
                     it is of another version"
                )))
            }
            // Nothing is left of a file that is as long as what has come, or longer than it should
            // be.
            416 if self.done > 0 => match total(head) {
                Some(total) if total == self.done => {
                    self.check_length(Some(total))?;
                    Ok(ResponseAction::Complete)
                }
                _ => {
                    self.restart(None);
                    self.broke("the file is shorter than what has come of it", None)
                        .map(ResponseAction::Pause)
                }
            },
            408 | 425 | 429 | 500 | 502 | 503 | 504 => {
                let why = format!("the server answered {}", head.status);
                self.broke(&why, head.retry_after_ms)
                    .map(ResponseAction::Pause)
            }
            status => Err(self.io(format!(
                "the server answered {status}; is the address right?"
            ))),
        }
    }

    fn whole(&mut self, head: &ResponseHead) -> Result<ResponseAction> {
        self.whole_body = true;
        if head.may_be_packed {
            self.body_bytes = head.content_length;
        } else {
            self.check_length(head.content_length)?;
        }
        if self.done == 0 {
            self.validator = head.validator.clone();
            return Ok(ResponseAction::Continues);
        }
        let same_version = self.validator.is_some() && self.validator == head.validator;
        if self.pinned || same_version {
            // The server knows no ranges.
            return Ok(ResponseAction::Skip(self.done));
        }
        self.restart(head.validator.clone());
        Ok(ResponseAction::Restart)
    }

    fn part(&mut self, head: &ResponseHead) -> Result<ResponseAction> {
        self.whole_body = false;
        self.body_bytes = None;
        let expected = format!("bytes {}-", self.request().from);
        if let Some(range) = &head.content_range
            && !range.starts_with(&expected)
        {
            return Err(self.io(format!(
                "the server answered with the range {range:?}, asked for was {expected}"
            )));
        }
        // A server may ignore `If-Range`, and where none was sent only the answer has the version.
        let known = head.validator.is_some() && self.validator.is_some();
        let other = head.validator != self.validator && (known || self.if_range_fails);
        if other && !self.pinned {
            self.restart(None);
            let why = "the file has changed on the server";
            return self.broke(why, None).map(ResponseAction::Pause);
        }
        if let Some(range) = &self.range {
            return match (range.file_bytes, total(head)) {
                (Some(bytes), Some(found)) if bytes != found => {
                    Err(self.bad(other_length(found, bytes)))
                }
                _ => Ok(ResponseAction::Continues),
            };
        }
        self.check_length(total(head))?;
        Ok(ResponseAction::Continues)
    }

    fn check_length(&mut self, found: Option<u64>) -> Result<()> {
        match (self.bytes, found) {
            (Some(bytes), Some(found)) if bytes != found => {
                Err(self.bad(other_length(found, bytes)))
            }
            (None, Some(_)) => {
                self.bytes = found;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Counts bytes of the body that were of use.
    ///
    /// # Errors
    /// `BadFile` for more bytes than the file has.
    pub fn received(&mut self, bytes: u64) -> Result<()> {
        self.done = self.done.saturating_add(bytes);
        self.failures = 0;
        // Unpacked, a body is longer than it was announced.
        self.body_bytes = self.body_bytes.filter(|&all| self.done <= all);
        match self.bytes {
            Some(all) if self.done > all => Err(self.bad(match self.range {
                None => {
                    format!(
                        "more than its {all} bytes come from the server: it is of another version"
                    )
                }
                Some(_) => format!("more than the {all} bytes that were asked for come"),
            })),
            _ => Ok(()),
        }
    }

    /// Ends the body -> the pause before the next request, in milliseconds; none where the file is
    /// whole.
    ///
    /// # Errors
    /// As [`Transfer::broke`]; `BadFile` where the whole file ends too early a second time.
    pub fn ended(&mut self) -> Result<Option<u32>> {
        match self.bytes.or(self.body_bytes) {
            Some(all) if self.done < all => {
                if self.whole_body && self.ended_short == Some(self.done) {
                    return Err(self.bad(other_length(self.done, all)));
                }
                self.ended_short = self.whole_body.then_some(self.done).or(self.ended_short);
                let why = format!("the transfer ended after {} of {all} bytes", self.done);
                self.broke(&why, None).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Records that no answer came -> the pause before the next request, in milliseconds.
    ///
    /// # Errors
    /// As [`Transfer::broke`].
    pub fn unanswered(&mut self, why: &str) -> Result<u32> {
        match self.request() {
            Request {
                if_range: Some(_), ..
            } => self.if_range_fails = true,
            Request { from: 1.., .. } => self.ranges_unanswered += 1,
            _ => {}
        }
        self.broke(why, None)
    }

    /// Records that an answer's body broke off or stalled -> the pause before the next request, in
    /// milliseconds.
    ///
    /// # Errors
    /// `Io` after too many failures in a row, or where the server asks for more patience than
    /// anybody has.
    pub fn broke(&mut self, why: &str, retry_after_ms: Option<u32>) -> Result<u32> {
        self.failures += 1;
        if self.failures >= MAX_FAILURES {
            return Err(self.io(format!(
                "{why}, {MAX_FAILURES} times in a row; try again later"
            )));
        }
        match retry_after_ms {
            Some(ms) if ms > MAX_PAUSE_MS => {
                Err(self.io(format!("{why} and asks to come back in {} s", ms / 1000)))
            }
            Some(ms) => Ok(ms),
            None => Ok(self.pause_ms()),
        }
    }

    /// Drops all that has come, which is of no use: the next request is for the whole file.
    pub fn restart(&mut self, validator: Option<String>) {
        self.done = 0;
        self.validator = validator;
    }

    /// Between half and one and a half times of what the number of failures calls for.
    fn pause_ms(&mut self) -> u32 {
        // A step of a linear congruential generator is random enough to spread visitors.
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let base = FIRST_PAUSE_MS << (self.failures - 1);
        base / 2 + ((self.seed >> 33) % u64::from(base)) as u32
    }

    fn io(&self, reason: String) -> Error {
        Error::Io { reason }.in_file(&self.name)
    }

    fn bad(&self, reason: String) -> Error {
        let format = "transfer";
        Error::BadFile { format, reason }.in_file(&self.name)
    }
}

fn other_length(found: u64, expected: u64) -> String {
    format!("the server's file has {found} bytes, expected {expected}: it is of another version")
}

/// The `N` of `Content-Range: bytes A-B/N`.
fn total(head: &ResponseHead) -> Option<u64> {
    head.content_range
        .as_deref()?
        .rsplit_once('/')?
        .1
        .parse()
        .ok()
}

fn is_page(head: &ResponseHead) -> bool {
    head.content_type
        .as_deref()
        .is_some_and(|content_type| content_type.starts_with("text/html"))
}

#[cfg(test)]
mod tests;
