//! The transfer of one file over HTTP, as a state machine without IO: what to ask the server for,
//! what to make of its answer, and whether and when to try again.
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
    /// Bytes from here on: the header `Range: bytes=N-`; without it, where 0.
    pub from: u64,
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
    /// The file's length, where it is known.
    bytes: Option<u64>,
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

    /// Sets whether a hash guards the file: bytes of any version are joined then, and no `If-Range`
    /// is sent, which a browser may send to another origin only after asking for permission.
    pub fn pinned(mut self, pinned: bool) -> Transfer {
        self.pinned = pinned;
        self
    }

    /// Returns what to ask for next.
    pub fn request(&self) -> Request {
        let from = match self.ranges_unanswered {
            0..MAX_UNANSWERED_RANGES => self.done,
            _ => 0,
        };
        Request {
            from,
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
            200 => self.whole(head),
            206 => self.part(head),
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
        let expected = format!("bytes {}-", self.done);
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
            Some(all) if self.done > all => Err(self.bad(format!(
                "more than its {all} bytes come from the server: it is of another version"
            ))),
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
mod tests {
    use super::*;

    fn transfer(bytes: Option<u64>, kept: u64) -> Transfer {
        let validator = (kept > 0).then(|| "\"v1\"".to_string());
        Transfer::new("a.gguf", bytes, kept, validator, 7)
    }

    fn head(status: u16) -> ResponseHead {
        ResponseHead {
            status,
            validator: Some("\"v1\"".into()),
            ..ResponseHead::default()
        }
    }

    fn ranged(range: &str) -> ResponseHead {
        ResponseHead {
            content_range: Some(range.into()),
            ..head(206)
        }
    }

    #[test]
    fn a_file_comes_whole() {
        let mut t = transfer(None, 0);
        assert_eq!(
            t.request(),
            Request {
                from: 0,
                if_range: None
            }
        );
        let whole = ResponseHead {
            content_length: Some(10),
            ..head(200)
        };
        assert_eq!(t.on_response(&whole).unwrap(), ResponseAction::Continues);
        assert_eq!(t.validator(), Some("\"v1\""));
        t.received(4).unwrap();
        t.received(6).unwrap();
        assert_eq!(t.ended().unwrap(), None);
    }

    #[test]
    fn a_broken_one_goes_on_where_it_broke() {
        let mut t = transfer(Some(10), 0);
        t.on_response(&head(200)).unwrap();
        t.received(4).unwrap();
        let pause = t.ended().unwrap().unwrap();
        assert!((250..750).contains(&pause), "{pause}");
        assert_eq!(
            t.request(),
            Request {
                from: 4,
                if_range: Some("\"v1\"".into())
            }
        );
        assert_eq!(
            t.on_response(&ranged("bytes 4-9/10")).unwrap(),
            ResponseAction::Continues
        );
        t.received(6).unwrap();
        assert_eq!(t.ended().unwrap(), None);
    }

    #[test]
    fn a_server_without_ranges_sends_it_again() {
        let mut t = transfer(Some(10), 4);
        assert_eq!(t.on_response(&head(200)).unwrap(), ResponseAction::Skip(4));
        t.received(6).unwrap();
        assert_eq!(t.ended().unwrap(), None);
        // Nobody can tell that it is the same where the server names no version.
        let mut t = Transfer::new("a.gguf", None, 4, None, 7);
        let nameless = ResponseHead {
            validator: None,
            ..head(200)
        };
        assert_eq!(t.on_response(&nameless).unwrap(), ResponseAction::Restart);
    }

    #[test]
    fn a_changed_file_begins_anew() {
        let other = |status| ResponseHead {
            validator: Some("\"v2\"".into()),
            ..head(status)
        };
        let mut t = transfer(None, 4);
        assert_eq!(t.on_response(&other(200)).unwrap(), ResponseAction::Restart);
        assert_eq!((t.done_bytes(), t.validator()), (0, Some("\"v2\"")));
        let mut t = transfer(None, 4);
        let part = ResponseHead {
            content_range: Some("bytes 4-9/10".into()),
            ..other(206)
        };
        assert!(matches!(
            t.on_response(&part).unwrap(),
            ResponseAction::Pause(_)
        ));
        assert_eq!(t.request().from, 0);
    }

    #[test]
    fn what_is_kept_may_be_all_or_too_much() {
        let mut t = transfer(None, 10);
        let satisfied = ResponseHead {
            content_range: Some("bytes */10".into()),
            ..head(416)
        };
        assert_eq!(t.on_response(&satisfied).unwrap(), ResponseAction::Complete);
        let mut t = transfer(None, 12);
        assert!(matches!(
            t.on_response(&satisfied).unwrap(),
            ResponseAction::Pause(_)
        ));
        assert_eq!(t.request().from, 0);
    }

    #[test]
    fn a_length_that_may_be_that_of_a_packed_body_is_no_error() {
        let packed = |bytes| ResponseHead {
            content_length: Some(bytes),
            may_be_packed: true,
            ..head(200)
        };
        // Known length, shorter on its way.
        let mut t = transfer(Some(10), 0);
        assert_eq!(
            t.on_response(&packed(4)).unwrap(),
            ResponseAction::Continues
        );
        t.received(10).unwrap();
        assert_eq!(t.ended().unwrap(), None);
        // Unknown length: what comes is longer, so it was packed.
        let mut t = transfer(None, 0);
        t.on_response(&packed(4)).unwrap();
        t.received(10).unwrap();
        assert_eq!(t.ended().unwrap(), None);
        // It is shorter, so it broke off.
        let mut t = transfer(None, 0);
        t.on_response(&packed(4)).unwrap();
        t.received(3).unwrap();
        assert!(t.ended().unwrap().is_some());
        // What comes may not be longer than the file.
        let mut t = transfer(Some(10), 0);
        t.on_response(&packed(4)).unwrap();
        assert_eq!(t.received(11).unwrap_err().code(), "bad-file");
    }

    #[test]
    fn a_file_that_ends_early_twice_is_another_one() {
        let mut t = transfer(Some(10), 0);
        t.on_response(&head(200)).unwrap();
        t.received(6).unwrap();
        assert!(t.ended().unwrap().is_some());
        // It has no byte behind these, and says so or hides it.
        let mut hidden = t.clone();
        let beyond = ResponseHead {
            content_range: Some("bytes */6".into()),
            ..head(416)
        };
        let error = t.on_response(&beyond).unwrap_err();
        assert_eq!(error.code(), "bad-file");
        assert!(
            error.to_string().contains("6 bytes, expected 10"),
            "{error}"
        );
        assert!(matches!(
            hidden.on_response(&head(416)).unwrap(),
            ResponseAction::Pause(_)
        ));
        hidden.on_response(&head(200)).unwrap();
        hidden.received(6).unwrap();
        assert_eq!(hidden.ended().unwrap_err().code(), "bad-file");
    }

    #[test]
    fn what_a_hash_guards_needs_no_version() {
        let mut t = transfer(Some(10), 4).pinned(true);
        assert_eq!(
            t.request(),
            Request {
                from: 4,
                if_range: None
            }
        );
        let part = ResponseHead {
            validator: Some("\"v2\"".into()),
            ..ranged("bytes 4-9/10")
        };
        assert_eq!(t.on_response(&part).unwrap(), ResponseAction::Continues);
        let whole = ResponseHead {
            validator: None,
            ..head(200)
        };
        assert_eq!(t.on_response(&whole).unwrap(), ResponseAction::Skip(4));
        // The range that the server sends may be hidden.
        assert_eq!(
            t.on_response(&head(206)).unwrap(),
            ResponseAction::Continues
        );
    }

    #[test]
    fn a_server_that_refuses_if_range_still_resumes() {
        let mut t = transfer(None, 4);
        assert!(t.request().if_range.is_some());
        t.unanswered("the server can't be reached").unwrap();
        assert_eq!(
            t.request(),
            Request {
                from: 4,
                if_range: None
            }
        );
        assert_eq!(
            t.on_response(&ranged("bytes 4-9/10")).unwrap(),
            ResponseAction::Continues
        );
        // Without a version in the answer, it may be any.
        let nameless = ResponseHead {
            validator: None,
            ..ranged("bytes 4-9/10")
        };
        assert!(matches!(
            t.on_response(&nameless).unwrap(),
            ResponseAction::Pause(_)
        ));
        assert_eq!(t.request().from, 0);
    }

    #[test]
    fn a_server_that_refuses_ranges_sends_the_whole_file() {
        let mut t = transfer(Some(10), 4).pinned(true);
        for _ in 0..MAX_UNANSWERED_RANGES {
            assert_eq!(t.request().from, 4);
            t.unanswered("the server can't be reached").unwrap();
        }
        assert_eq!(t.request().from, 0);
        assert_eq!(t.on_response(&head(200)).unwrap(), ResponseAction::Skip(4));
        t.received(6).unwrap();
        assert_eq!(t.ended().unwrap(), None);
    }

    #[test]
    fn patience_has_an_end() {
        let mut t = transfer(Some(10), 0);
        let mut pauses = Vec::new();
        let error = loop {
            match t.on_response(&head(503)) {
                Ok(ResponseAction::Pause(ms)) => pauses.push(ms),
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(pauses.len(), 4);
        assert!(pauses.is_sorted() && pauses[3] >= 2000, "{pauses:?}");
        assert_eq!(error.code(), "io");
        assert!(error.to_string().contains("a.gguf") && error.to_string().contains("503"));
        // A byte is a sign of life.
        let mut t = transfer(Some(100), 0);
        for _ in 0..20 {
            t.broke("stalled", None).unwrap();
            t.received(1).unwrap();
        }
    }

    #[test]
    fn a_server_may_ask_for_patience() {
        let asks = |ms| ResponseHead {
            retry_after_ms: Some(ms),
            ..head(429)
        };
        let mut t = transfer(None, 0);
        assert_eq!(
            t.on_response(&asks(1500)).unwrap(),
            ResponseAction::Pause(1500)
        );
        assert_eq!(t.on_response(&asks(3_600_000)).unwrap_err().code(), "io");
    }

    #[test]
    fn what_is_not_the_file_is_refused() {
        let page = ResponseHead {
            content_type: Some("text/html; charset=utf-8".into()),
            ..head(200)
        };
        assert_eq!(
            transfer(None, 0).on_response(&page).unwrap_err().code(),
            "bad-file"
        );
        for status in [301, 401, 403, 404, 410, 418] {
            let error = transfer(None, 0).on_response(&head(status)).unwrap_err();
            assert_eq!(error.code(), "io");
            assert!(error.to_string().contains(&status.to_string()));
        }
        let longer = ResponseHead {
            content_length: Some(11),
            ..head(200)
        };
        assert_eq!(
            transfer(Some(10), 0)
                .on_response(&longer)
                .unwrap_err()
                .code(),
            "bad-file"
        );
        let elsewhere = ranged("bytes 0-9/10");
        assert_eq!(
            transfer(Some(10), 4)
                .on_response(&elsewhere)
                .unwrap_err()
                .code(),
            "io"
        );
        let mut t = transfer(Some(10), 0);
        t.on_response(&head(200)).unwrap();
        assert_eq!(t.received(11).unwrap_err().code(), "bad-file");
    }
}
