//! Requests to the Hub, and what is made of its answers: tried again, redirected, or refused.

use std::{
    collections::HashMap,
    io::Read,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use univi::{Error, Result};
use ureq::{
    Agent, Body,
    http::{HeaderMap, Response, StatusCode, Uri},
    tls::{RootCerts, TlsConfig},
};

use crate::settings::HubSettings;

/// How often a request is sent that brings nothing.
const MAX_TRIES: u32 = 6;

/// Longer than a person waits for a server that asks for patience.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Redirects that one request may take.
const MAX_REDIRECTS: usize = 5;

/// Longer than any page of a listing.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// All that has a meaning of its own in an address; a part of a path keeps the rest.
const PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Why a request brought nothing.
enum Failure {
    /// Another try may do better, after a while that the server may have named.
    Passing(String, Option<Duration>),
    /// The address that the Hub redirected to is not good any more.
    Expired(String),
    Final(Error),
}

/// A connection to the Hub, or to a mirror of it. Threads share one.
pub struct Hub {
    settings: HubSettings,
    agent: Agent,
    /// Where files of the Hub are, by their addresses at the Hub: signed, and good for a while.
    places: Mutex<HashMap<String, String>>,
    on_wait: Box<dyn Fn(&str) + Send + Sync>,
}

impl Hub {
    /// Makes a client. No request is sent yet.
    ///
    /// # Errors
    /// `BadRequest` for an endpoint that is no address.
    pub fn new(settings: HubSettings) -> Result<Hub> {
        if origin(&settings.endpoint).is_none() {
            let reason = "HF_ENDPOINT is no web address".into();
            return Err(Error::BadRequest { reason });
        }
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .user_agent(concat!("univi/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .http_status_as_error(false)
            // Followed here: a token must not go along.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(settings.patience))
            .timeout_per_read(Some(settings.patience))
            .timeout_per_write(Some(settings.patience));
        Ok(Hub {
            settings,
            agent: config.build().new_agent(),
            places: Mutex::default(),
            on_wait: Box::new(|_| ()),
        })
    }

    /// Has `on_wait` called with a line for people before each wait of more than a second.
    pub fn on_wait(mut self, on_wait: impl Fn(&str) + Send + Sync + 'static) -> Hub {
        self.on_wait = Box::new(on_wait);
        self
    }

    /// Returns how the Hub is reached.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// Returns the address of a path of the endpoint, whose parts are escaped.
    pub(crate) fn address(&self, parts: &[&str]) -> String {
        let mut address = self.settings.endpoint.clone();
        for part in parts {
            address.push('/');
            address.extend(utf8_percent_encode(part, PART));
        }
        address
    }

    /// Fetches JSON, and the address of the next page where there is one. `what` is named in
    /// errors.
    pub(crate) fn json<T: DeserializeOwned>(
        &self,
        address: &str,
        what: &str,
    ) -> Result<(T, Option<String>)> {
        let mut tries = 0;
        loop {
            let fetched = self.try_json(address);
            match fetched {
                Ok((bytes, next)) => {
                    let value = serde_json::from_slice(&bytes).map_err(|e| {
                        let format = "answer of the Hub";
                        let reason = format!("{e}: is HF_ENDPOINT a mirror of the Hub?");
                        Error::BadFile { format, reason }.in_file(what)
                    })?;
                    return Ok((value, next));
                }
                Err(failure) => self.wait(failure, &mut tries, what)?,
            }
        }
    }

    fn try_json(&self, address: &str) -> Result<(Vec<u8>, Option<String>), Failure> {
        let mut address = address.to_string();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send(&address, None)?;
            if answer.status().is_redirection() {
                address = self.redirected(&address, answer.headers())?;
                continue;
            }
            self.check_status(&address, &answer)?;
            let next = next_page(answer.headers());
            let next = next.map(|next| absolute(&address, &next)).transpose()?;
            // A listing goes on where it began: the token goes with it.
            let next = next.filter(|next| origin(next) == origin(&address));
            let mut bytes = Vec::new();
            let mut body = answer.into_body().into_reader().take(MAX_JSON_BYTES + 1);
            body.read_to_end(&mut bytes).map_err(broken)?;
            if bytes.len() as u64 > MAX_JSON_BYTES {
                let reason = format!("answered with more than {MAX_JSON_BYTES} bytes");
                return Err(Failure::Final(Error::Io { reason }));
            }
            return Ok((bytes, next));
        }
        Err(too_many_redirects())
    }

    /// Reads `len` bytes from `offset` on of the file at an address of the Hub, which has `total`.
    /// A transfer that breaks or stalls goes on where it stopped.
    ///
    /// # Errors
    /// `Io` where the Hub refuses or can't be reached, named with `what`; those of `on_bytes`.
    pub(crate) fn read(
        &self,
        address: &str,
        [offset, len, total]: [u64; 3],
        what: &str,
        on_bytes: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut done, mut tries) = (0, 0);
        while done < len {
            let before = done;
            let range = [offset + done, len - done, total];
            let tried = self.try_read(address, range, &mut |bytes| {
                done += bytes.len() as u64;
                on_bytes(bytes)
            });
            if done > before {
                tries = 0;
            }
            match tried {
                Ok(()) => {}
                Err(failure) => self.wait(failure, &mut tries, what)?,
            }
        }
        Ok(())
    }

    fn try_read(
        &self,
        address: &str,
        [offset, len, total]: [u64; 3],
        on_bytes: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<(), Failure> {
        let known = self.places().get(address).cloned();
        let mut place = known.unwrap_or_else(|| address.to_string());
        let end = offset + len;
        for _ in 0..=MAX_REDIRECTS {
            let whole = (offset, len) == (0, total);
            let range = (!whole).then(|| format!("bytes={offset}-{}", end - 1));
            let answer = self.send(&place, range.as_deref())?;
            if answer.status().is_redirection() {
                place = self.redirected(&place, answer.headers())?;
                continue;
            }
            if let Err(failure) = self.check_status(&place, &answer) {
                self.places().remove(address);
                return Err(failure);
            }
            if !whole {
                check_range(&answer, offset, end, total)?;
            }
            if origin(&place) != origin(address) {
                self.places().insert(address.to_string(), place);
            }
            return read_body(answer.into_body(), len, on_bytes);
        }
        Err(too_many_redirects())
    }

    fn places(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one request. The token goes to the endpoint alone.
    fn send(&self, address: &str, range: Option<&str>) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(address);
        let is_endpoint = origin(address) == origin(&self.settings.endpoint);
        if let Some(token) = self.settings.token.as_ref().filter(|_| is_endpoint) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.call().map_err(|e| {
            let host = host(address);
            let reason = match e {
                ureq::Error::HostNotFound => {
                    format!("the host {host} is not found: is there a network?")
                }
                ureq::Error::Timeout(_) => format!("{host} does not answer"),
                ureq::Error::Io(e) => format!("{host}: {e}"),
                e => format!("{host}: {e}"),
            };
            Failure::Passing(reason, None)
        })
    }

    fn redirected(&self, from: &str, headers: &HeaderMap) -> Result<String, Failure> {
        let to = headers.get("location").and_then(|to| to.to_str().ok());
        let refuse = |reason: String| Failure::Final(Error::Io { reason });
        let host = host(from);
        let to = to.ok_or_else(|| refuse(format!("{host} redirects to nowhere")))?;
        let to = absolute(from, to)?;
        if from.starts_with("https:") && !to.starts_with("https:") {
            return Err(refuse(format!(
                "{host} redirects to an unencrypted address"
            )));
        }
        Ok(to)
    }

    /// Lets successes pass.
    fn check_status(&self, address: &str, answer: &Response<Body>) -> Result<(), Failure> {
        let (status, host) = (answer.status(), host(address));
        if status.is_success() {
            return Ok(());
        }
        let header = |name: &str| answer.headers().get(name)?.to_str().ok();
        let is_busy = matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504);
        if is_busy {
            let reason = match status {
                StatusCode::TOO_MANY_REQUESTS => format!("{host} has had too many requests"),
                _ => format!("{host} answers {status}"),
            };
            let wait = header("retry-after").and_then(|wait| wait.trim().parse().ok());
            return Err(Failure::Passing(reason, wait.map(Duration::from_secs)));
        }
        if origin(address) != origin(&self.settings.endpoint) {
            return Err(Failure::Expired(format!("{host} answers {status}")));
        }
        let has_token = self.settings.token.is_some();
        let reason = match (status.as_u16(), header("x-error-code")) {
            (_, Some("GatedRepo")) if has_token => {
                "is gated, and the account of this token has not agreed to its terms: agree to \
                 them on its page, and try again"
                    .to_string()
            }
            (_, Some("GatedRepo")) => {
                "is gated: agree to its terms on its page, then set HF_TOKEN to a token of yours"
                    .to_string()
            }
            (_, Some("RevisionNotFound")) => "has no such revision".to_string(),
            (_, Some("EntryNotFound")) => "has no such file".to_string(),
            (401 | 404, _) if !has_token => {
                "is not there, or is private: look at the name, or set HF_TOKEN to a token that \
                 may read it"
                    .to_string()
            }
            (401, _) => "the Hub does not know this token: look at HF_TOKEN".to_string(),
            (403, _) => "this token may not read it: look at its permissions".to_string(),
            (404, _) => "is not there, or this token may not see it".to_string(),
            _ => format!("{host} answers {status}"),
        };
        Err(Failure::Final(Error::Io { reason }))
    }

    /// Waits before the next try, or gives up.
    fn wait(&self, failure: Failure, tries: &mut u32, what: &str) -> Result<()> {
        let (reason, asked) = match failure {
            Failure::Final(error @ Error::Aborted) => return Err(error),
            Failure::Final(error @ Error::In { .. }) => return Err(error),
            Failure::Final(error) => return Err(error.in_file(what)),
            Failure::Passing(reason, asked) => (reason, asked),
            Failure::Expired(reason) => (reason, Some(Duration::ZERO)),
        };
        *tries += 1;
        let give_up = |reason: String| Err(Error::Io { reason }.in_file(what));
        if *tries >= MAX_TRIES {
            return give_up(format!("{reason}; tried {MAX_TRIES} times"));
        }
        let wait = match asked {
            Some(asked) if asked > MAX_RETRY_AFTER => {
                let seconds = asked.as_secs();
                return give_up(format!("{reason}, and asks to wait {seconds} seconds"));
            }
            Some(asked) => asked,
            None => self.settings.first_wait * 2u32.pow(*tries - 1),
        };
        if wait > Duration::from_secs(1) {
            (self.on_wait)(&format!("{reason}; trying again in {} s", wait.as_secs()));
        }
        thread::sleep(wait);
        Ok(())
    }
}

/// Hands on `len` bytes of a body.
fn read_body(
    body: Body,
    len: u64,
    on_bytes: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<(), Failure> {
    let mut body = body.into_reader();
    let mut chunk = vec![0; CHUNK_BYTES.min(usize::try_from(len).unwrap_or(CHUNK_BYTES))];
    let mut left = len;
    while left > 0 {
        let room = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match body.read(&mut chunk[..room]).map_err(broken)? {
            0 => return Err(Failure::Passing("the transfer broke off".into(), None)),
            n => {
                left -= n as u64;
                on_bytes(&chunk[..n]).map_err(Failure::Final)?;
            }
        }
    }
    // To its end, so that the connection can be used again.
    let _ = body.read(&mut [0; 1]);
    Ok(())
}

fn broken(error: std::io::Error) -> Failure {
    Failure::Passing(format!("the transfer broke off: {error}"), None)
}

fn too_many_redirects() -> Failure {
    let reason = format!("is redirected more than {MAX_REDIRECTS} times");
    Failure::Final(Error::Io { reason })
}

/// Checks that an answer is the range that was asked for.
fn check_range(answer: &Response<Body>, start: u64, end: u64, total: u64) -> Result<(), Failure> {
    let refuse = |reason: String| Err(Failure::Final(Error::Io { reason }));
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return refuse("the server does not send parts of files".into());
    }
    let range = answer.headers().get("content-range");
    let range = range
        .and_then(|range| range.to_str().ok())
        .unwrap_or_default();
    let last = end - 1;
    if range == format!("bytes {start}-{last}/{total}")
        || range == format!("bytes {start}-{last}/*")
    {
        return Ok(());
    }
    refuse(format!(
        "asked for bytes {start} to {last} of {total}, the server sends {range:?}: the file has \
         changed, or a proxy is in the way"
    ))
}

/// The address of `<..>; rel="next"` in a `Link` header.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get("link")?.to_str().ok()?;
    let next = link.split(',').find(|link| link.contains("rel=\"next\""))?;
    let (_, next) = next.split_once('<')?;
    let (next, _) = next.split_once('>')?;
    Some(next.to_string())
}

/// Scheme, host and port.
fn origin(address: &str) -> Option<(String, String, u16)> {
    let uri: Uri = address.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = match &*scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = uri.authority()?;
    let host = authority.host().to_ascii_lowercase();
    Some((scheme, host, authority.port_u16().unwrap_or(usual)))
}

/// The host for messages: the rest of an address may be a secret.
fn host(address: &str) -> String {
    origin(address).map_or_else(|| "the server".into(), |(_, host, _)| host)
}

/// The address that a link in the answer of another one means.
fn absolute(from: &str, to: &str) -> Result<String, Failure> {
    let refuse = || {
        let reason = format!("{} names an address that is none", host(from));
        Failure::Final(Error::Io { reason })
    };
    if origin(to).is_some() {
        return Ok(to.to_string());
    }
    let uri: Uri = from.parse().map_err(|_| refuse())?;
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) if to.starts_with('/') && !to.starts_with("//") => {
            Ok(format!("{scheme}://{authority}{to}"))
        }
        _ => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_as_browsers_do() {
        assert_eq!(origin("https://a.b/c"), origin("HTTPS://A.B:443/d?e"));
        for other in [
            "http://a.b/",
            "https://a.b:8443/",
            "https://c.a.b/",
            "ftp://a.b/",
            "/a",
        ] {
            assert_ne!(origin("https://a.b/"), origin(other), "{other}");
        }
        // What stands before the @ is no host.
        assert_ne!(origin("https://a.b/"), origin("https://a.b@c.d/"));
    }

    #[test]
    fn links_are_followed_within_http() {
        let absolute = |to: &str| absolute("https://a.b:1/c/d", to).ok();
        assert_eq!(absolute("/e?f").as_deref(), Some("https://a.b:1/e?f"));
        assert_eq!(absolute("https://x.y/z").as_deref(), Some("https://x.y/z"));
        for to in ["//x.y/z", "e", "ftp://x.y/", ""] {
            assert_eq!(absolute(to), None, "{to}");
        }
    }
}
