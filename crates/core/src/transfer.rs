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
    /// The header `Content-Range`.
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
    /// The file's length, once somebody has told it.
    bytes: Option<u64>,
    /// Bytes that have come.
    done: u64,
    validator: Option<String>,
    failures: u32,
    seed: u64,
}

impl Transfer {
    /// The transfer of a file of which `kept` bytes are there from earlier, of the version
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
            done: kept,
            validator,
            failures: 0,
            seed,
        }
    }

    /// What to ask for next.
    pub fn request(&self) -> Request {
        Request {
            from: self.done,
            if_range: self.validator.clone().filter(|_| self.done > 0),
        }
    }

    /// Bytes that have come.
    pub fn done_bytes(&self) -> u64 {
        self.done
    }

    /// The version that the bytes belong to.
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
                Some(total) if total == self.done => Ok(ResponseAction::Complete),
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
        self.check_length(head.content_length)?;
        if self.done == 0 {
            self.validator = head.validator.clone();
            return Ok(ResponseAction::Continues);
        }
        if self.validator.is_some() && self.validator == head.validator {
            // The server knows no ranges.
            return Ok(ResponseAction::Skip(self.done));
        }
        self.restart(head.validator.clone());
        Ok(ResponseAction::Restart)
    }

    fn part(&mut self, head: &ResponseHead) -> Result<ResponseAction> {
        let expected = format!("bytes {}-", self.done);
        let range = head.content_range.as_deref().unwrap_or_default();
        if !range.starts_with(&expected) {
            return Err(self.io(format!(
                "the server answered with the range {range:?}, asked for was {expected}"
            )));
        }
        if head.validator.is_some() && self.validator.is_some() && head.validator != self.validator
        {
            // A server that ignores `If-Range`: this part is of another version than what has come.
            self.restart(None);
            let why = "the file has changed on the server";
            return self.broke(why, None).map(ResponseAction::Pause);
        }
        self.check_length(total(head))?;
        Ok(ResponseAction::Continues)
    }

    fn check_length(&mut self, found: Option<u64>) -> Result<()> {
        match (self.bytes, found) {
            (Some(bytes), Some(found)) if bytes != found => Err(self.bad(format!(
                "the server's file has {found} bytes, expected {bytes}: it is of another version"
            ))),
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
        match self.bytes {
            Some(all) if self.done > all => Err(self.bad(format!(
                "more than its {all} bytes come from the server: it is of another version"
            ))),
            _ => Ok(()),
        }
    }

    /// That the body ended -> the pause before the next request, in milliseconds; none where the
    /// file is whole.
    ///
    /// # Errors
    /// As [`Transfer::broke`].
    pub fn ended(&mut self) -> Result<Option<u32>> {
        match self.bytes {
            Some(all) if self.done < all => {
                let why = format!("the transfer ended after {} of {all} bytes", self.done);
                self.broke(&why, None).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// That no answer came, or its body broke off or stalled -> the pause before the next request,
    /// in milliseconds.
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

    /// All that has come is of no use: the next request is for the whole file.
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
