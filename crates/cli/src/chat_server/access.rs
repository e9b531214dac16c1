//! Who may ask: keys, and pages of other origins.

use hyper::{
    HeaderMap, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, HOST, HeaderValue,
        ORIGIN, VARY,
    },
    http::uri::Authority,
};
use sha2::{Digest, Sha256};

use super::refusal::Refusal;

/// Who may ask.
pub struct Access {
    /// SHA-256 of each key: comparing digests takes equally long for all that are wrong.
    keys: Vec<[u8; 32]>,
    /// Origins whose pages may ask; `*` stands for all.
    origins: Vec<String>,
}

impl Access {
    /// Lets those in who have one of `keys`, all where there are none, and pages of `origins`.
    pub fn new(keys: &[String], origins: &[String]) -> Access {
        let origins = origins
            .iter()
            .map(|origin| origin.trim_end_matches('/').to_lowercase());
        Access {
            keys: keys.iter().map(|key| Sha256::digest(key).into()).collect(),
            origins: origins.collect(),
        }
    }

    /// Checks the key. Returns which one it is, where one is needed.
    ///
    /// # Errors
    /// 401 for none, or a wrong one.
    pub fn check_key(&self, headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        let given = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let own = given.and_then(|given| {
            let digest = <[u8; 32]>::from(Sha256::digest(given));
            self.keys.iter().position(|key| *key == digest)
        });
        if own.is_some() {
            return Ok(own);
        }
        let (code, message) = match given {
            Some(_) => ("invalid_api_key", "the API key is wrong"),
            None => (
                "missing_api_key",
                "there is no API key; send the header Authorization: Bearer KEY",
            ),
        };
        Err(Refusal::new(StatusCode::UNAUTHORIZED, code, message))
    }

    /// Checks the origin of a page that asks; programs send none. Returns the headers that let the
    /// page read the answer.
    ///
    /// # Errors
    /// 403 for an origin that is neither allowed nor this server's own.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<HeaderMap, Refusal> {
        let mut answer = HeaderMap::new();
        let Some(origin) = headers.get(ORIGIN) else {
            return Ok(answer);
        };
        let text = origin.to_str().unwrap_or_default().to_lowercase();
        let is_listed = self.origins.iter().any(|one| one == "*" || *one == text);
        if !is_listed && !is_own(&text, headers.get(HOST)) {
            let message = format!(
                "pages of {text} may not ask this server; --allow-origin {text} allows them"
            );
            let refusal = Refusal::new(StatusCode::FORBIDDEN, "origin_not_allowed", message);
            return Err(refusal);
        }
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
            (ACCESS_CONTROL_ALLOW_HEADERS, "*, Authorization"),
            (ACCESS_CONTROL_EXPOSE_HEADERS, "Retry-After"),
            (ACCESS_CONTROL_MAX_AGE, "600"),
            (VARY, "Origin"),
        ] {
            answer.insert(name, HeaderValue::from_static(value));
        }
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        Ok(answer)
    }
}

/// Whether a page's origin is this server, by an address or as localhost: another name may be
/// anybody's that leads here.
fn is_own(origin: &str, host: Option<&HeaderValue>) -> bool {
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.to_lowercase();
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let is_address = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok();
    is_address && origin == format!("http://{host}")
}
