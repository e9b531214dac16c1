//! How the Hub is reached: what the environment says, under the names of the Hub's own tools.

use std::{env, path::PathBuf, time::Duration};

use univi::{Error, Result};

/// The Hub itself.
const HUB: &str = "https://huggingface.co";

/// How long a server may say nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the Hub is reached, and where its files are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// The Hub or a mirror, without a slash at the end.
    pub endpoint: String,
    /// Goes to the endpoint alone, never to where it redirects to.
    pub token: Option<String>,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Whether only the cache is used.
    pub is_offline: bool,
    /// How long a server may say nothing before the transfer counts as broken.
    pub patience: Duration,
    /// How long to wait before the second try; each further wait is twice as long.
    pub first_wait: Duration,
}

impl HubSettings {
    /// Reads the environment: `HF_ENDPOINT`, `HF_TOKEN` or the file of `HF_TOKEN_PATH`,
    /// `HF_HUB_CACHE` or `HF_HOME`, `HF_HUB_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT` in seconds.
    ///
    /// # Errors
    /// `BadRequest` for a value that makes no sense. A token is never part of a message.
    pub fn from_env() -> Result<HubSettings> {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let refuse = |reason: String| Error::BadRequest { reason };

        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| HUB.into());
        let endpoint = endpoint.trim().trim_end_matches('/').to_string();
        if !["http://", "https://"]
            .iter()
            .any(|s| endpoint.starts_with(s))
        {
            return Err(refuse(
                "HF_ENDPOINT is no web address: it begins with https:// or http://".into(),
            ));
        }
        let home = match (path("HF_HOME"), path("XDG_CACHE_HOME")) {
            (Some(home), _) => PathBuf::from(home),
            (None, Some(caches)) => PathBuf::from(caches).join("huggingface"),
            (None, None) => {
                let home = env::home_dir().ok_or_else(|| {
                    refuse("there is no home folder: say with HF_HOME where the cache is".into())
                })?;
                home.join(".cache").join("huggingface")
            }
        };
        let token = match text("HF_TOKEN") {
            Some(token) => Some(token),
            None => {
                let file = path("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
                std::fs::read_to_string(file).ok()
            }
        };
        let token = token.map(|token| token.trim().to_string());
        let token = token.filter(|token| !token.is_empty());
        if token
            .iter()
            .any(|token| !token.chars().all(|c| c.is_ascii_graphic()))
        {
            return Err(refuse(
                "the token of the Hub has characters that none has: look at HF_TOKEN and at the \
                 file of HF_TOKEN_PATH"
                    .into(),
            ));
        }
        let patience = match text("HF_HUB_DOWNLOAD_TIMEOUT") {
            None => PATIENCE,
            Some(seconds) => match seconds.trim().parse() {
                Ok(seconds @ 1..=86_400) => Duration::from_secs(seconds),
                _ => {
                    return Err(refuse(format!(
                        "HF_HUB_DOWNLOAD_TIMEOUT is {seconds:?}, expected seconds, at least 1"
                    )));
                }
            },
        };
        let is_on = |value: String| {
            let value = value.trim().to_ascii_lowercase();
            ["1", "on", "yes", "true"].contains(&&*value)
        };
        Ok(HubSettings {
            endpoint,
            token,
            cache: path("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            is_offline: text("HF_HUB_OFFLINE").is_some_and(is_on),
            patience,
            first_wait: Duration::from_millis(500),
        })
    }
}

impl std::fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("has_token", &self.token.is_some())
            .field("cache", &self.cache)
            .field("is_offline", &self.is_offline)
            .finish_non_exhaustive()
    }
}
