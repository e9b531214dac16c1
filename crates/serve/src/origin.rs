//! Other servers that scripts may reach, and the policy that says so.

use hyper::{Uri, header::HeaderValue};

use super::error::{Error, Result};

/// Scheme, host and port of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Reads `https://models.example` or `http://localhost:8001`; `*` stands for any port, and `*.`
    /// before a host for all hosts below it.
    ///
    /// # Errors
    /// [`Error::BadOrigin`] for any other text.
    pub fn parse(text: &str) -> Result<Origin> {
        let origin = text.trim_end_matches('/');
        let any_port = origin.strip_suffix(":*");
        let one_host = any_port.unwrap_or(origin).replacen("://*.", "://", 1);
        let uri = one_host.parse::<Uri>().ok();
        let is_origin = uri.is_some_and(|uri| {
            let scheme = uri.scheme_str().unwrap_or_default();
            let host = uri.authority().map_or("", |authority| authority.as_str());
            let is_host = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
            ["http", "https"].contains(&scheme)
                && !host.is_empty()
                && host.chars().all(is_host)
                && uri.path() == "/"
                && uri.query().is_none()
        });
        match is_origin {
            true => Ok(Origin(origin.to_owned())),
            false => Err(Error::BadOrigin),
        }
    }
}

/// Returns the content security policy of scripts, for which a worker is held to its own
/// response, not to the page's: it reaches this server and `origins`, and no other.
///
/// Pages take no notice of it: theirs comes with the page.
pub fn script_policy(origins: &[Origin]) -> HeaderValue {
    let mut connect = "'self' blob: data:".to_owned();
    for Origin(origin) in origins {
        connect = format!("{connect} {origin}");
    }
    let policy = format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src {connect}"
    );
    HeaderValue::from_str(&policy).expect("origins are visible ASCII")
}
