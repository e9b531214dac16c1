//! How a repository of the Hub, or a file in it, is named: `hf:OWNER/NAME[@REVISION][/FILE]`.

use std::fmt;

use univi::{Error, Result};

/// What every address begins with.
const SCHEME: &str = "hf:";

/// A repository, a revision of it, and perhaps a file or a folder in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubAddress {
    /// `OWNER/NAME`.
    pub repository: String,
    /// A branch, a tag or a commit; the main branch where there is none.
    pub revision: Option<String>,
    /// A file or a folder, with `/` between the parts.
    pub path: Option<String>,
}

impl HubAddress {
    /// Returns whether a text is meant as an address of the Hub rather than as a path.
    pub fn is_address(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Reads an address.
    ///
    /// A revision ends at the next `/`, but for `refs/pr/N` and its like, which have two.
    ///
    /// # Errors
    /// `BadRequest` that says what is expected.
    pub fn parse(text: &str) -> Result<HubAddress> {
        let refuse = |why: &str| {
            Err(Error::BadRequest {
                reason: format!(
                    "{text}: {why}; an address of the Hub is hf:OWNER/NAME, \
                     hf:OWNER/NAME@REVISION, or either with /FILE behind it"
                ),
            })
        };
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return refuse("does not begin with hf:");
        };
        let Some((owner, rest)) = rest.split_once('/') else {
            return refuse("names no repository");
        };
        let end = rest.find(['/', '@']).unwrap_or(rest.len());
        let (name, mut rest) = rest.split_at(end);
        for part in [owner, name] {
            if !is_name(part) {
                return refuse("has a name that no owner or repository can have");
            }
        }
        let mut revision = None;
        if let Some(after) = rest.strip_prefix('@') {
            let slashes = if after.starts_with("refs/") { 2 } else { 0 };
            let mut ends = after.match_indices('/').map(|(at, _)| at).skip(slashes);
            let (found, path) = after.split_at(ends.next().unwrap_or(after.len()));
            if !found.split('/').all(is_name) {
                return refuse("has a revision that none can be");
            }
            revision = Some(found.to_string());
            rest = path;
        }
        let path = rest.trim_start_matches('/').trim_end_matches('/');
        if !path.is_empty() && !is_safe_path(path) {
            return refuse("has a path that leaves the repository");
        }
        Ok(HubAddress {
            repository: format!("{owner}/{name}"),
            revision,
            path: (!path.is_empty()).then(|| path.to_string()),
        })
    }

    /// Returns the revision, `main` where none is named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Returns the repository's name without its owner.
    pub fn name(&self) -> &str {
        let name = self.repository.rsplit('/').next();
        name.unwrap_or(&self.repository)
    }
}

impl fmt::Display for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.repository)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        match &self.path {
            Some(path) => write!(f, "/{path}"),
            None => Ok(()),
        }
    }
}

/// Whether a text can be a part of a name on the Hub, and is harmless in a path and an address.
fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    !text.is_empty() && text.len() <= 200 && !text.starts_with('.') && text.chars().all(is_plain)
}

/// Whether a path stays in its folder, on every system.
pub(crate) fn is_safe_path(path: &str) -> bool {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let is_safe = |c: char| !c.is_control() && !matches!(c, '\\' | ':');
    path.len() <= 1024 && path.split('/').all(is_plain) && path.chars().all(is_safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, repository, revision, path) in [
            ("hf:a/b", "a/b", None, None),
            (
                "hf:Chat-UniVi/Chat-UniVi-7B-v1.5",
                "Chat-UniVi/Chat-UniVi-7B-v1.5",
                None,
                None,
            ),
            ("hf:a/b@main", "a/b", Some("main"), None),
            ("hf:a/b/c.gguf", "a/b", None, Some("c.gguf")),
            (
                "hf:a/b@v1.0/c/d.gguf",
                "a/b",
                Some("v1.0"),
                Some("c/d.gguf"),
            ),
            ("hf:a/b@refs/pr/12", "a/b", Some("refs/pr/12"), None),
            ("hf:a/b@refs/pr/12/c", "a/b", Some("refs/pr/12"), Some("c")),
        ] {
            let address = HubAddress::parse(text).unwrap();
            assert_eq!(address.repository, repository);
            assert_eq!(address.revision.as_deref(), revision);
            assert_eq!(address.path.as_deref(), path);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "a/b",
            "hf:",
            "hf:a",
            "hf:a/",
            "hf:/b",
            "hf:../b",
            "hf:a/..",
            "hf:a/b@",
            "hf:a/b@..",
            "hf:a/b@x y",
            "hf:a/b/../c",
            "hf:a/b/c\\d",
            "hf:a/b?c",
            "hf://a/b",
        ] {
            let error = HubAddress::parse(text).unwrap_err().to_string();
            assert!(error.contains("hf:OWNER/NAME"), "{text}: {error}");
        }
    }
}
