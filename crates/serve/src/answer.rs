//! Requests and their answers: which bytes of which file, under which headers (RFC 9110).

use std::{
    io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom},
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{
        ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW,
        CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
        HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE, RETRY_AFTER,
    },
};

use super::{
    body::{Body, Damage, Pace},
    fault::{Faults, Rules},
    folders::{Folders, Found},
    report::{Pending, Reporter, RequestRecord},
};

/// What every answer has. Any page may read what is served, and a page that is served is isolated
/// from others, as WebAssembly's threads and exact clocks want it. Browsers keep what they got, and
/// ask each time whether it is still so.
const ALWAYS: [(HeaderName, &str); 6] = [
    (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (
        ACCESS_CONTROL_EXPOSE_HEADERS,
        "Accept-Ranges, Content-Length, Content-Range, ETag, Retry-After",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "cross-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-embedder-policy"),
        "require-corp",
    ),
    (CACHE_CONTROL, "no-cache"),
];

const METHODS: &str = "GET, HEAD, OPTIONS";

/// Seconds for which a browser need not ask again whether it may send `If-Range` from another
/// origin.
const PREFLIGHT_AGE_S: &str = "600";

/// What [`FaultKind::Html`](super::FaultKind) answers, as a host does that shows its front page
/// for every address.
const PAGE: &str = "<!doctype html>\n<title>Welcome</title>\n<p>This is not the file.</p>\n";

/// All that an answer depends on.
pub struct Site {
    pub folders: Folders,
    pub rules: Rules,
    /// The content security policy of scripts.
    pub script_policy: HeaderValue,
    pub pace: Option<Arc<Pace>>,
    pub report: Reporter,
}

/// An answer, before it is bent.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    source: Box<dyn Read + Send>,
    size_bytes: u64,
}

impl Site {
    /// Answers a request. Reads nothing of a file yet.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let begun = Instant::now();
        let (answer, faults) = self
            .find(request)
            .unwrap_or_else(|e| (Reply::plain(status_of(&e)), Faults::default()));

        let mut response = Response::new(());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        for (name, value) in ALWAYS {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        if has_length(answer.status) && !faults.hides_length {
            let length = answer.size_bytes.into();
            response.headers_mut().insert(CONTENT_LENGTH, length);
        }
        let record = RequestRecord {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            range: text(request.headers(), &RANGE).map(str::to_owned),
            status: answer.status.as_u16(),
            bytes: 0,
            duration: Duration::ZERO,
            faults: faults.rules,
        };
        let record = Pending::new(record, begun, Arc::clone(&self.report));
        let body = if request.method() == Method::HEAD {
            Body::empty(record)
        } else {
            let damage = Damage {
                cut: faults.cut,
                flipped_byte: faults
                    .corrupt_at
                    .and_then(|at| at.checked_rem(answer.size_bytes)),
                hides_length: faults.hides_length,
            };
            let pace = self.pace.clone();
            Body::new(answer.source, answer.size_bytes, damage, pace, record)
        };
        response.map(|()| body)
    }

    fn find<B>(&self, request: &Request<B>) -> io::Result<(Reply, Faults)> {
        let without_fault = |answer| Ok((answer, Faults::default()));
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return without_fault(Reply::preflight()),
            _ => return without_fault(Reply::not_allowed()),
        }
        let path = request.uri().path();
        let Some(found) = self.folders.find(path)? else {
            return without_fault(Reply::plain(StatusCode::NOT_FOUND));
        };
        let faults = self.rules.next(path);
        let is_script = found.content_type.contains("javascript");
        let mut answer = if let Some(status) = faults.status {
            Reply::refusal(status, faults.retry_after_s)
        } else if faults.html {
            Reply::text(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned())
        } else {
            Reply::file(request, found, &faults)?
        };
        if is_script {
            let policy = self.script_policy.clone();
            answer = answer.with(CONTENT_SECURITY_POLICY, policy);
        }
        Ok((answer, faults))
    }
}

impl Reply {
    fn new(status: StatusCode) -> Reply {
        Reply {
            status,
            headers: HeaderMap::new(),
            source: Box::new(io::empty()),
            size_bytes: 0,
        }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Reply {
        self.headers.insert(name, value);
        self
    }

    fn text(status: StatusCode, content_type: &'static str, text: String) -> Reply {
        Reply {
            size_bytes: text.len() as u64,
            source: Box::new(Cursor::new(text)),
            ..Reply::new(status)
        }
        .with(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// The status as text.
    fn plain(status: StatusCode) -> Reply {
        Reply::text(status, "text/plain; charset=utf-8", format!("{status}\n"))
    }

    fn refusal(status: StatusCode, retry_after_s: Option<u64>) -> Reply {
        let answer = Reply::plain(status);
        match retry_after_s {
            Some(s) => answer.with(RETRY_AFTER, s.into()),
            None => answer,
        }
    }

    /// A browser's question whether a page of another origin may ask with such headers.
    fn preflight() -> Reply {
        Reply::new(StatusCode::NO_CONTENT)
            .with(
                ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static(METHODS),
            )
            .with(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"))
            .with(
                ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from_static(PREFLIGHT_AGE_S),
            )
    }

    fn not_allowed() -> Reply {
        Reply::plain(StatusCode::METHOD_NOT_ALLOWED).with(ALLOW, HeaderValue::from_static(METHODS))
    }

    /// A file, a part of it, or what the conditions of the request say instead. In the order of RFC
    /// 9110, section 13.2.2.
    fn file<B>(request: &Request<B>, found: Found, faults: &Faults) -> io::Result<Reply> {
        let asked = request.headers();
        let size_bytes = found
            .size_bytes
            .min(faults.shorten_bytes.unwrap_or(u64::MAX));
        let etag = match faults.etag_suffix {
            Some(suffix) => format!("{}-{suffix}\"", found.etag.trim_end_matches('"')),
            None => found.etag,
        };
        let header = |text: &str| HeaderValue::from_str(text).map_err(io::Error::other);
        let about_file = |answer: Reply| {
            Ok::<_, io::Error>(
                answer
                    .with(ETAG, header(&etag)?)
                    .with(ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            )
        };

        if text(asked, &IF_MATCH).is_some_and(|list| !lists(list, &etag)) {
            return about_file(Reply::plain(StatusCode::PRECONDITION_FAILED));
        }
        // A weak tag will do here: it was made of the strong one by a proxy that packed
        // the bytes.
        if text(asked, &IF_NONE_MATCH).is_some_and(|list| lists(&list.replace("W/", ""), &etag)) {
            return about_file(Reply::new(StatusCode::NOT_MODIFIED));
        }
        // A date never fits: the file could have changed twice within its second.
        let is_same = text(asked, &IF_RANGE).is_none_or(|tag| tag == etag);
        let range = text(asked, &RANGE)
            .filter(|_| request.method() == Method::GET && is_same && !faults.ignore_range);
        let (status, part, content_range) = match range.map(|range| part(range, size_bytes)) {
            None | Some(ByteRange::Whole) => (StatusCode::OK, 0..size_bytes, None),
            Some(ByteRange::Of(part)) => {
                let content = format!("bytes {}-{}/{size_bytes}", part.start, part.end - 1);
                (StatusCode::PARTIAL_CONTENT, part, Some(content))
            }
            Some(ByteRange::Outside) => {
                let answer = Reply::plain(StatusCode::RANGE_NOT_SATISFIABLE);
                let content = header(&format!("bytes */{size_bytes}"))?;
                return about_file(answer.with(CONTENT_RANGE, content));
            }
        };
        let mut file = found.file;
        file.seek(SeekFrom::Start(part.start))?;
        let mut answer = Reply {
            source: Box::new(file),
            size_bytes: part.end - part.start,
            ..Reply::new(status)
        }
        .with(CONTENT_TYPE, header(&found.content_type)?);
        if let Some(content) = content_range {
            answer = answer.with(CONTENT_RANGE, header(&content)?);
        }
        about_file(answer)
    }
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum ByteRange {
    /// All of the file: the header is none that is understood.
    Whole,
    Of(Range<u64>),
    /// Nothing that the file has.
    Outside,
}

/// Which part of `size_bytes` a `Range` header asks for. Several ranges at once are answered with
/// the whole file, as the standard allows: browsers don't ask so.
fn part(header: &str, size_bytes: u64) -> ByteRange {
    let ends = header
        .split_once('=')
        .filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"))
        .and_then(|(_, ends)| ends.trim().split_once('-'));
    let Some((first, last)) = ends else {
        return ByteRange::Whole;
    };
    let (start, end) = match (position(first), position(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1)),
        (Some(first), None) if last.is_empty() => (first, size_bytes),
        (None, Some(suffix)) if first.is_empty() => (size_bytes.saturating_sub(suffix), size_bytes),
        _ => return ByteRange::Whole,
    };
    let end = end.min(size_bytes);
    if start < end {
        ByteRange::Of(start..end)
    } else {
        ByteRange::Outside
    }
}

/// A number of digits; one that is too large is beyond any file.
fn position(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Whether a list of ETags has `etag`.
fn lists(list: &str, etag: &str) -> bool {
    list.split(',')
        .any(|one| matches!(one.trim(), one if one == etag || one == "*"))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether an answer has a body, be it an empty one.
fn has_length(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// For a file that is there and can't be had.
fn status_of(error: &io::Error) -> StatusCode {
    match error.kind() {
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (header, expected) in [
            ("bytes=0-0", ByteRange::Of(0..1)),
            ("bytes=2-4", ByteRange::Of(2..5)),
            ("bytes=7-", ByteRange::Of(7..10)),
            ("bytes=8-99", ByteRange::Of(8..10)),
            ("bytes=0-18446744073709551615", ByteRange::Of(0..10)),
            ("bytes=5-99999999999999999999999", ByteRange::Of(5..10)),
            ("bytes=-3", ByteRange::Of(7..10)),
            ("bytes=-10", ByteRange::Of(0..10)),
            ("bytes=-11", ByteRange::Of(0..10)),
            ("Bytes= 1-2 ", ByteRange::Of(1..3)),
            ("bytes=10-", ByteRange::Outside),
            ("bytes=10-20", ByteRange::Outside),
            ("bytes=99999999999999999999999-", ByteRange::Outside),
            ("bytes=-0", ByteRange::Outside),
            ("bytes=4-2", ByteRange::Whole),
            ("bytes=-", ByteRange::Whole),
            ("bytes=", ByteRange::Whole),
            ("bytes=1", ByteRange::Whole),
            ("bytes=a-b", ByteRange::Whole),
            ("bytes=+1-2", ByteRange::Whole),
            ("bytes=1-2,4-5", ByteRange::Whole),
            ("items=1-2", ByteRange::Whole),
            ("", ByteRange::Whole),
        ] {
            assert_eq!(part(header, 10), expected, "{header}");
        }
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(part(header, 0), ByteRange::Outside, "{header} of nothing");
        }
    }

    #[test]
    fn lists_of_etags() {
        for (list, expected) in [
            ("\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(lists(list, "\"a\""), expected, "{list}");
        }
    }
}
