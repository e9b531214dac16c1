//! Faults on demand: what goes wrong on a network and on servers, where and as often as a test
//! wants it, and at each run alike.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use hyper::StatusCode;
use sha2::{Digest, Sha256};

use super::body::{Cut, Then};
use crate::values;

/// One rule of `--fault`: what goes wrong, for which files, how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    kind: Kind,
    /// What the address of the file holds.
    path: String,
    /// Requests for each file that it meets at most.
    times: u64,
    /// The share of those that it does meet.
    rate: f64,
    /// Seconds, for `Retry-After`.
    retry_after_s: Option<u64>,
    /// As the user wrote it.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Status(StatusCode),
    Html,
    Corrupt,
    Shorten(u64),
    Cut(Cut),
    NoLength,
    IgnoreRange,
    Etag,
}

impl Fault {
    /// Reads `KIND[=BYTES][,path=TEXT][,times=N][,rate=R][,retry-after=S]`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Fault, String> {
        let mut parts = text.split(',');
        let kind = Kind::parse(parts.next().unwrap_or_default())?;
        let mut fault = Fault {
            kind,
            path: String::new(),
            times: u64::MAX,
            rate: 1.0,
            retry_after_s: None,
            text: text.to_owned(),
        };
        let whole = |value: &str| {
            let number = value.parse::<u64>();
            number.map_err(|_| format!("{value:?} is no whole number"))
        };
        for part in parts {
            match part.split_once('=') {
                Some(("path", value)) => fault.path = value.to_owned(),
                Some(("times", value)) => fault.times = whole(value)?,
                Some(("rate", value)) => fault.rate = values::share(value)?.into(),
                Some(("retry-after", value)) if matches!(kind, Kind::Status(_)) => {
                    fault.retry_after_s = Some(whole(value)?);
                }
                _ => {
                    return Err(format!(
                        "{part:?} is none of path=TEXT, times=N, rate=R, and for a status retry-after=S"
                    ));
                }
            }
        }
        Ok(fault)
    }
}

impl Kind {
    fn parse(text: &str) -> Result<Kind, String> {
        let cut = |size: &str, then| {
            let after_bytes = values::size_bytes(size)?;
            Ok(Kind::Cut(Cut { after_bytes, then }))
        };
        match text.split_once('=').unwrap_or((text, "")) {
            ("html", "") => Ok(Kind::Html),
            ("corrupt", "") => Ok(Kind::Corrupt),
            ("no-length", "") => Ok(Kind::NoLength),
            ("ignore-range", "") => Ok(Kind::IgnoreRange),
            ("etag", "") => Ok(Kind::Etag),
            ("shorten", size) => Ok(Kind::Shorten(values::size_bytes(size)?)),
            ("drop", size) => cut(size, Then::Drop),
            ("stall", size) => cut(size, Then::Stall),
            (status, "") => status
                .parse()
                .ok()
                .filter(|status: &StatusCode| status.is_client_error() || status.is_server_error())
                .map(Kind::Status)
                .ok_or_else(|| {
                    format!(
                        "{text:?} is no fault; there are a status from 400 to 599, html, corrupt, shorten=BYTES, \
                         drop=BYTES, stall=BYTES, no-length, ignore-range and etag"
                    )
                }),
            (kind, _) => Err(format!("{kind} takes no value")),
        }
    }
}

/// What goes wrong with one answer; by default, nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The rules that apply, as the user wrote them.
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

    /// What goes wrong with the next answer for the file at the address `path`.
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
            all.rules.push(fault.text.clone());
            match fault.kind {
                Kind::Status(status) => {
                    all.status = Some(status);
                    all.retry_after_s = fault.retry_after_s;
                }
                Kind::Html => all.html = true,
                Kind::Corrupt => all.corrupt_at = Some(place),
                Kind::Shorten(bytes) => all.shorten_bytes = Some(bytes),
                Kind::Cut(cut) => all.cut = Some(cut),
                Kind::NoLength => all.hides_length = true,
                Kind::IgnoreRange => all.ignore_range = true,
                Kind::Etag => all.etag_suffix = Some(nth),
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

    fn rules(seed: u64, texts: &[&str]) -> Rules {
        let faults = texts.iter().map(|text| Fault::parse(text).unwrap());
        Rules::new(seed, faults.collect())
    }

    #[test]
    fn rules_are_read() {
        for text in [
            "",
            "404.5",
            "200",
            "600",
            "503=1",
            "html=3",
            "drop",
            "stall=0",
            "shorten=x",
            "corrupt,rate=2",
            "corrupt,times=-1",
            "corrupt,retry-after=2",
            "corrupt,path",
            "corrupt,often=1",
        ] {
            assert!(Fault::parse(text).is_err(), "{text}");
        }
        let faults = rules(0, &["429,retry-after=2,path=b,times=1", "stall=64KiB"]);
        let all = faults.next("/a/b");
        assert_eq!(all.status, Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(all.retry_after_s, Some(2));
        assert_eq!(all.rules.len(), 2);
        let cut = Cut {
            after_bytes: 64 << 10,
            then: Then::Stall,
        };
        assert_eq!(all.cut, Some(cut));
        assert_eq!(faults.next("/a/c").status, None);
        assert_eq!(faults.next("/a/b").status, None);
    }

    #[test]
    fn a_rate_is_a_share_that_repeats() {
        let failing = |seed| -> Vec<bool> {
            let rules = rules(seed, &["503,rate=0.25"]);
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
