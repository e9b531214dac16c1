//! Pictures and clips by web address, from where the person who runs the server allows it.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use percent_encoding::percent_decode_str;
use ureq::{
    Agent, Body, Error,
    config::Config,
    http::{Response, Uri},
    tls::{RootCerts, TlsConfig},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

/// Redirects that one address may take.
const MAX_REDIRECTS: usize = 5;

/// The beginning of the addresses that may be fetched, such as `https://example.org/pictures/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPrefix {
    scheme: String,
    host: String,
    port: u16,
    path: String,
}

impl UrlPrefix {
    /// Parses a prefix.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<UrlPrefix, String> {
        let uri = parse(text)?;
        let (path, query) = (uri.path(), uri.query());
        if query.is_some() {
            return Err("a prefix has no query".into());
        }
        Ok(UrlPrefix {
            scheme: uri.scheme_str().unwrap_or_default().to_owned(),
            host: host_of(&uri),
            port: port_of(&uri),
            path: path.to_owned(),
        })
    }

    fn allows(&self, uri: &Uri) -> bool {
        uri.scheme_str() == Some(&self.scheme)
            && host_of(uri) == self.host
            && port_of(uri) == self.port
            && uri.path().starts_with(&self.path)
    }

    /// Whether it names an address or this machine, rather than a name that may lead anywhere.
    fn is_explicit(&self) -> bool {
        self.host == "localhost" || ip_of(&self.host).is_some()
    }
}

/// Parses an address of the web. One that could mean another path, or carries a password, is none.
fn parse(text: &str) -> Result<Uri, String> {
    let uri: Uri = text
        .parse()
        .map_err(|e| format!("{text:?} is no web address: {e}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || host_of(&uri).is_empty() {
        return Err("expected an address such as https://example.org/pictures/".into());
    }
    if uri
        .authority()
        .is_some_and(|name| name.as_str().contains('@'))
    {
        return Err("an address with a user name or password is not fetched".into());
    }
    let path = percent_decode_str(uri.path()).decode_utf8_lossy();
    let leads_up = |part: &str| part == "." || part == "..";
    if path.split(['/', '\\']).any(leads_up) {
        return Err("an address with . or .. in its path is not fetched".into());
    }
    Ok(uri)
}

fn host_of(uri: &Uri) -> String {
    uri.host().unwrap_or_default().to_lowercase()
}

fn port_of(uri: &Uri) -> u16 {
    let default = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    uri.port_u16().unwrap_or(default)
}

fn ip_of(host: &str) -> Option<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok()
}

/// Fetches what is allowed, and nothing else.
#[derive(Clone)]
pub struct Fetcher {
    prefixes: Arc<[UrlPrefix]>,
    /// For names: addresses of private networks are refused.
    public: Agent,
    /// For addresses that are listed themselves.
    explicit: Agent,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fetcher").field(&self.prefixes).finish()
    }
}

impl Fetcher {
    /// Allows addresses that begin with one of `prefixes`, each of which has `timeout` in all.
    pub fn new(prefixes: Vec<UrlPrefix>, timeout: Duration) -> Fetcher {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .user_agent(concat!("univi/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Followed here: each address has to be allowed.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // One that is kept may be closed by its server just when it is used again.
            .max_idle_connections(0)
            // A proxy would look the name up itself.
            .proxy(None)
            .timeout_global(Some(timeout))
            .build();
        let agent = |is_public| {
            let resolver = Filtered {
                inner: DefaultResolver::default(),
                is_public,
            };
            Agent::with_parts(config.clone(), DefaultConnector::default(), resolver)
        };
        Fetcher {
            prefixes: prefixes.into(),
            public: agent(true),
            explicit: agent(false),
        }
    }

    /// Returns whether any address may be fetched.
    pub fn is_open(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// Fetches up to `max_bytes`.
    ///
    /// # Errors
    /// Why it is not fetched, to follow what names it.
    pub fn fetch(&self, url: &str, max_bytes: u64) -> Result<Vec<u8>, String> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send(&url)?;
            let status = answer.status();
            if !status.is_redirection() {
                return match status.is_success() {
                    true => read(answer, max_bytes),
                    false => Err(format!("can't be fetched: its server answered {status}")),
                };
            }
            let next = answer.headers().get("location");
            let next = next.and_then(|next| next.to_str().ok()).unwrap_or_default();
            url = absolute(&url, next);
        }
        Err(format!(
            "can't be fetched: more than {MAX_REDIRECTS} redirects"
        ))
    }

    fn send(&self, url: &str) -> Result<Response<Body>, String> {
        let uri = parse(url).map_err(|e| format!("can't be fetched: {e}"))?;
        let mut allowing = self.prefixes.iter().filter(|prefix| prefix.allows(&uri));
        let Some(prefix) = allowing.next() else {
            return Err("is none of the addresses that --allow-url allows".into());
        };
        let agent = match prefix.is_explicit() {
            true => &self.explicit,
            false => &self.public,
        };
        let answered = agent.get(url).call();
        answered.map_err(|e| format!("can't be fetched: {e}"))
    }
}

fn read(mut answer: Response<Body>, max_bytes: u64) -> Result<Vec<u8>, String> {
    let body = answer.body_mut().with_config().limit(max_bytes);
    body.read_to_vec().map_err(|e| match e {
        Error::BodyExceedsLimit(_) => format!(
            "has more bytes than the {max_bytes} that are left of --max-body for this request"
        ),
        e => format!("can't be fetched: {e}"),
    })
}

/// The address that a redirect leads to: with a scheme, from the root, or beside the last one.
fn absolute(from: &str, to: &str) -> String {
    if to.contains("://") {
        return to.to_owned();
    }
    let (scheme, rest) = from.split_once("://").unwrap_or_default();
    if to.starts_with("//") {
        return format!("{scheme}:{to}");
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if to.starts_with('/') {
        return format!("{scheme}://{authority}{to}");
    }
    let path = path.split('?').next().unwrap_or_default();
    let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
    format!("{scheme}://{authority}{folder}{to}")
}

/// Names of the internet, without those that lead into a private network. What is connected to is
/// what was checked.
#[derive(Debug)]
struct Filtered {
    inner: DefaultResolver,
    is_public: bool,
}

impl Resolver for Filtered {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if self.is_public && found.iter().any(|address| !is_public(address.ip())) {
            let why = "its name leads to a private address; list that address itself";
            return Err(Error::Other(why.into()));
        }
        Ok(found)
    }
}

/// Whether an address belongs to the internet, rather than to this machine or a network of its own.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_benchmark = a == 198 && (b == 18 || b == 19);
            let is_reserved = a == 0 || a >= 240;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_documentation()
                || is_shared
                || is_benchmark
                || is_reserved)
        }
        IpAddr::V6(ip) => match embedded(ip) {
            Some(ip) => is_public(ip),
            // Global addresses are given out of 2000::/3; 2001:db8:: is for documentation.
            None => {
                let [first, second, ..] = ip.segments();
                first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0xdb8)
            }
        },
    }
}

/// The address of the older kind that one carries: mapped, by NAT64 or by 6to4.
fn embedded(ip: Ipv6Addr) -> Option<IpAddr> {
    let segments = ip.segments();
    let of = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        Some(IpAddr::from([a, b, c, d]))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] => of(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_allows_what_is_below_it() {
        let allows = |prefix: &str, url: &str| {
            let prefix = UrlPrefix::parse(prefix).unwrap();
            parse(url).is_ok_and(|uri| prefix.allows(&uri))
        };
        let prefix = "https://example.org/pictures/";
        for url in [
            "https://example.org/pictures/a.png",
            "https://EXAMPLE.org:443/pictures/b/c.png?size=1",
        ] {
            assert!(allows(prefix, url), "{url}");
        }
        for url in [
            "http://example.org/pictures/a.png",
            "https://example.org:444/pictures/a.png",
            "https://example.org/other/a.png",
            "https://example.org/pictures/../secret.png",
            "https://example.org/pictures/%2e%2E/secret.png",
            "https://example.org/pictures/..%5csecret.png",
            "https://example.org.evil.example/pictures/a.png",
            "https://example.org@evil.example/pictures/a.png",
            "https://user:word@example.org/pictures/a.png",
        ] {
            assert!(!allows(prefix, url), "{url}");
        }
        assert!(!allows("https://example.org", "https://example.organic/a"));
        for text in [
            "example.org",
            "ftp://example.org/",
            "https://a@b/",
            "https:///a",
            "http://a/?b",
        ] {
            assert!(UrlPrefix::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn redirects_lead_where_browsers_go() {
        let from = "https://a.example/b/c?d=/e/";
        for (to, expected) in [
            ("http://f.example/", "http://f.example/"),
            ("//f.example/g", "https://f.example/g"),
            ("/g", "https://a.example/g"),
            ("g", "https://a.example/b/g"),
        ] {
            assert_eq!(absolute(from, to), expected);
        }
        assert_eq!(absolute("http://a.example", "g"), "http://a.example/g");
    }

    #[test]
    fn private_addresses_are_known() {
        for ip in ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
