//! Faults on demand: what goes wrong on a network and on servers, where and as often as a test
//! wants it, and at each run alike.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use hyper::StatusCode;
use sha2::{Digest, Sha256};

use super::body::{Cut, Then};

/// One rule: what goes wrong, for which files, how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    kind: FaultKind,
    path: String,
    times: u64,
    rate: f64,
    retry_after_s: Option<u64>,
    name: String,
}

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// This status instead of the file.
    Status(StatusCode),
    /// A web page instead of the file, with status 200.
    Html,
    /// One byte of the body is inverted.
    Corrupt,
    /// The file seems to end after so many bytes.
    Shorten(u64),
    /// The connection breaks after so many bytes of the body.
    Drop(u64),
    /// The connection falls silent after so many bytes of the body, and stays open.
    Stall(u64),
    /// No `Content-Length`: the body comes in chunks.
    NoLength,
    /// The whole file with status 200, for every range.
    IgnoreRange,
    /// Another ETag at each answer, as if the file had changed.
    Etag,
}

impl Fault {
    /// Makes a rule that meets every request.
    pub fn new(kind: FaultKind) -> Fault {
        Fault {
            kind,
            path: String::new(),
            times: u64::MAX,
            rate: 1.0,
            retry_after_s: None,
            name: format!("{kind:?}"),
        }
    }

    /// Limits the rule to files whose addresses contain `path`.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Fault {
        self.path = path.into();
        self
    }

    /// Limits the rule to the first `times` requests for each file.
    #[must_use]
    pub fn times(mut self, times: u64) -> Fault {
        self.times = times;
        self
    }

    /// Limits the rule to a share of the requests, from 0 to 1: the same ones for the same
    /// [`seed`](crate::ServeOptions::seed).
    #[must_use]
    pub fn rate(mut self, rate: f64) -> Fault {
        self.rate = rate;
        self
    }

    /// Adds `Retry-After`, in seconds, to the status of a [`FaultKind::Status`].
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u64) -> Fault {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Sets what the rule is called in [`RequestRecord::faults`](crate::RequestRecord::faults).
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Fault {
        self.name = name.into();
        self
    }
}

/// What goes wrong with one answer; by default, nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The names of the rules that apply.
    pub rules: Vec<String>,
    /// This, instead of the file.
    pub status: Option<StatusCode>,
    pub retry_after_s: Option<u64>,
    /// A web page instead of the file.
    pub html: bool,
    /// The file seems to end here, if not earlier.
    pub shorten_bytes: Option<u64>,
    pub ignore_range: bool,
    /// What makes the ETag another one than at all other answers.
    pub etag_suffix: Option<u64>,
    pub cut: Option<Cut>,
    /// Where the body has a wrong byte: modulo its length.
    pub corrupt_at: Option<u64>,
    pub hides_length: bool,
}

/// All rules, and how often each file was asked for.
#[derive(Debug)]
pub struct Rules {
    seed: u64,
    faults: Vec<Fault>,
    /// Has the addresses of existing files only, and so is as long as there are files.
    requests: Mutex<HashMap<String, u64>>,
}

impl Rules {
    /// Rules of which none has met a request.
    pub fn new(seed: u64, faults: Vec<Fault>) -> Rules {
        Rules {
            seed,
            faults,
            requests: Mutex::default(),
        }
    }

    /// Returns what goes wrong with the next answer for the file at the address `path`.
    pub fn next(&self, path: &str) -> Faults {
        if self.faults.is_empty() {
            return Faults::default();
        }
        let nth = {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            let count = requests.entry(path.to_owned()).or_default();
            *count += 1;
            *count - 1
        };
        self.nth(path, nth)
    }

    /// Depends on nothing but its arguments, so that files which are loaded side by side fare alike
    /// at each run.
    fn nth(&self, path: &str, nth: u64) -> Faults {
        let mut all = Faults::default();
        for (rule, fault) in self.faults.iter().enumerate() {
            let (chance, place) = self.draw(rule, path, nth);
            if !path.contains(&fault.path) || nth >= fault.times || chance >= fault.rate {
                continue;
            }
            all.rules.push(fault.name.clone());
            match fault.kind {
                FaultKind::Status(status) => {
                    all.status = Some(status);
                    all.retry_after_s = fault.retry_after_s;
                }
                FaultKind::Html => all.html = true,
                FaultKind::Corrupt => all.corrupt_at = Some(place),
                FaultKind::Shorten(bytes) => all.shorten_bytes = Some(bytes),
                FaultKind::Drop(after_bytes) => all.cut = Some(Cut::new(after_bytes, Then::Drop)),
                FaultKind::Stall(after_bytes) => all.cut = Some(Cut::new(after_bytes, Then::Stall)),
                FaultKind::NoLength => all.hides_length = true,
                FaultKind::IgnoreRange => all.ignore_range = true,
                FaultKind::Etag => all.etag_suffix = Some(nth),
            }
        }
        all
    }

    /// A number from 0 up to 1, and one that may be any: the same for the same rule and request.
    fn draw(&self, rule: usize, path: &str, nth: u64) -> (f64, u64) {
        let mut hash = Sha256::new();
        for number in [self.seed, rule as u64, nth] {
            hash.update(number.to_le_bytes());
        }
        hash.update(path);
        let hash = hash.finalize();
        let number = |at: usize| {
            hash[at..at + 8]
                .iter()
                .fold(0, |n, &b| n << 8 | u64::from(b))
        };
        // 53 bits are what an f64 holds.
        ((number(0) >> 11) as f64 / (1u64 << 53) as f64, number(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_add_up() {
        let refusal = Fault::new(FaultKind::Status(StatusCode::TOO_MANY_REQUESTS));
        let refusal = refusal.retry_after_s(2).path("b").times(1);
        let stall = Fault::new(FaultKind::Stall(64 << 10)).name("silence");
        let rules = Rules::new(0, vec![refusal, stall]);
        let all = rules.next("/a/b");
        assert_eq!(all.status, Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(all.retry_after_s, Some(2));
        assert_eq!(all.rules, ["Status(429)", "silence"]);
        assert_eq!(all.cut, Some(Cut::new(64 << 10, Then::Stall)));
        assert_eq!(rules.next("/a/c").status, None);
        assert_eq!(rules.next("/a/b").status, None);
    }

    #[test]
    fn a_rate_is_a_share_that_repeats() {
        let failing = |seed| -> Vec<bool> {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let rules = Rules::new(seed, vec![Fault::new(FaultKind::Status(status)).rate(0.25)]);
            (0..1000)
                .map(|_| rules.next("/m").status.is_some())
                .collect()
        };
        let first = failing(1);
        let count = first.iter().filter(|&&fails| fails).count();
        assert!((200..300).contains(&count), "{count}");
        assert_eq!(failing(1), first);
        assert_ne!(failing(2), first);
    }
}
