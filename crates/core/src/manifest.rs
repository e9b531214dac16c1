//! `manifest.json`: which files make a model, how large they are, and how to know that they are the
//! right ones.
//!
//! ```json
//! {
//!   "format": "univi",
//!   "version": 1,
//!   "name": "Chat-UniVi 7B",
//!   "quantization": "q4_k_m",
//!   "parameters": 7061000000,
//!   "context_length": 4096,
//!   "kv_numbers": 262144,
//!   "image_px": 224,
//!   "files": [
//!     { "role": "llm", "path": "llm-00001-of-00002.gguf", "bytes": 67108864, "sha256": "9f.." },
//!     { "role": "llm", "path": "llm-00002-of-00002.gguf", "bytes": 1048576, "sha256": "60.." },
//!     { "role": "vision", "path": "vision.gguf", "bytes": 607000000, "sha256": "fd.." },
//!     { "role": "tokenizer", "path": "tokenizer.json", "bytes": 1842767, "sha256": "a4.." }
//!   ]
//! }
//! ```
//!
//! Paths are relative to the manifest. Keys that are not known are ignored, so that later versions
//! may add some.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    loader::{Content, LoadOptions, ModelFile, Needs},
    signature::{Signature, impostor},
};

/// The name of a manifest in its folder.
pub const MANIFEST_NAME: &str = "manifest.json";

/// Longer than any manifest.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;

const FORMAT: &str = "univi";
const VERSION: u64 = 1;

/// The list of a model's files, and what a page wants to know before it fetches them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u64,
    /// What to call the model.
    pub name: String,
    /// How the language model's matrices are stored, such as `q4_k_m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// Numbers in all tensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// Tokens that a conversation may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// Numbers that each of those tokens takes in the KV cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_numbers: Option<u64>,
    /// Width and height of what the vision encoder sees; absent for a model that sees nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_px: Option<u64>,
    /// The weights' licence, where the checkpoint names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The files: the language model's in the order of their set, the vision side's, the
    /// tokenizer.
    pub files: Vec<FileEntry>,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// What the file is for.
    pub role: Role,
    /// Where it is, from the manifest's folder, with `/` between the parts.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes: 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// GGUF of architecture `llama`, alone or one of a set.
    Llm,
    /// GGUF of architecture `clip`: encoder, merging and projector.
    Vision,
    /// `tokenizer.json` or `tokenizer.model`. A model without one has its vocabulary in the GGUF.
    Tokenizer,
}

fn bad(reason: impl Into<String>) -> Error {
    Error::BadFile {
        format: "manifest",
        reason: reason.into(),
    }
}

impl Manifest {
    /// Makes a manifest of these files.
    pub fn new(name: impl Into<String>, files: Vec<FileEntry>) -> Manifest {
        Manifest {
            format: FORMAT.into(),
            version: VERSION,
            name: name.into(),
            quantization: None,
            parameters: None,
            context_length: None,
            kv_numbers: None,
            image_px: None,
            license: None,
            files,
        }
    }

    /// Reads and checks `manifest.json`.
    ///
    /// # Errors
    /// `BadFile` that says which entry is wrong, and why.
    pub fn parse(json: &[u8]) -> Result<Manifest> {
        if json.len() > MAX_MANIFEST_BYTES {
            return Err(bad(format!(
                "has {} bytes, expected at most {MAX_MANIFEST_BYTES}",
                json.len()
            )));
        }
        /// What comes first: another format or version need not have our fields.
        #[derive(Deserialize)]
        struct Kind {
            format: Option<String>,
            version: Option<u64>,
        }
        let kind: Kind = serde_json::from_slice(json).map_err(|e| {
            match impostor(json, Some(Signature::Json)) {
                Some(advice) => bad(advice),
                None => bad(format!("is not a manifest: {e}")),
            }
        })?;
        match (kind.format.as_deref(), kind.version) {
            (Some(FORMAT), Some(VERSION)) => {}
            (Some(FORMAT), Some(version)) => {
                return Err(bad(format!(
                    "is of version {version}, expected {VERSION}: update UniVi, or convert anew"
                )));
            }
            _ => {
                return Err(bad(format!(
                    "lacks \"format\": \"{FORMAT}\", \"version\": {VERSION}"
                )));
            }
        }
        let manifest: Manifest = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Returns the manifest as JSON, one entry per line.
    ///
    /// # Errors
    /// `BadFile` where it would not be read back.
    pub fn to_json(&self) -> Result<String> {
        self.check()?;
        let json = serde_json::to_string_pretty(self).map_err(|e| bad(e.to_string()))?;
        Ok(json + "\n")
    }

    /// Returns the files of a role, in order.
    pub fn files_of(&self, role: Role) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().filter(move |file| file.role == role)
    }

    /// Returns the tokenizer's file.
    pub fn tokenizer(&self) -> Option<&FileEntry> {
        self.files_of(Role::Tokenizer).next()
    }

    /// Returns the files as the loader wants them: the vision side first, so that it can look while
    /// words still come.
    pub fn model_files(&self) -> Vec<ModelFile> {
        let of = |role, content| {
            self.files_of(role).map(move |file| ModelFile {
                content,
                name: file.path.clone(),
                bytes: Some(file.bytes),
                sha256: Some(file.sha256.clone()),
            })
        };
        of(Role::Vision, Content::Gguf)
            .chain(of(Role::Llm, Content::Gguf))
            .chain(of(Role::Tokenizer, Content::Tokenizer))
            .collect()
    }

    /// Returns the bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        // Checked not to overflow when the manifest was read.
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Returns what the model needs of a device's memory, as far as can be told before any of its
    /// files has come.
    ///
    /// # Errors
    /// `BadRequest` for a context that the model does not take.
    pub fn needs(&self, options: &LoadOptions) -> Result<Needs> {
        let context = match self.context_length {
            Some(most) => options.context_within(usize::try_from(most).unwrap_or(usize::MAX))?,
            None => 0, // Its own header will tell.
        };
        let kv_numbers = self.kv_numbers.unwrap_or(0);
        Ok(Needs {
            weights_bytes: self.total_bytes(),
            context: context as u64,
            kv_bytes_per_token: options.kv_cache.bytes(kv_numbers),
        })
    }

    fn check(&self) -> Result<()> {
        let (mut paths, mut total) = (HashSet::new(), 0u64);
        for (i, file) in self.files.iter().enumerate() {
            let refuse = |reason: String| Err(bad(format!("file {i}, {:?}: {reason}", file.path)));
            if !is_relative(&file.path) {
                return refuse("the path must be relative, with / between its parts, and may not leave the folder".into());
            }
            if !paths.insert(&file.path) {
                return refuse("stands there twice".into());
            }
            if file.sha256.len() != 64
                || !file
                    .sha256
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            {
                return refuse(format!(
                    "sha256 is {:?}, expected 64 lower-case hexadecimal digits",
                    file.sha256
                ));
            }
            // JSON numbers are exact up to 2^53 everywhere.
            match total
                .checked_add(file.bytes)
                .filter(|&sum| file.bytes > 0 && sum < 1 << 53)
            {
                Some(sum) => total = sum,
                None => return refuse(format!("a length of {} bytes makes no sense", file.bytes)),
            }
        }
        if self.files_of(Role::Llm).next().is_none() {
            return Err(bad("names no file of role \"llm\""));
        }
        if self.files_of(Role::Tokenizer).count() > 1 {
            return Err(bad("names more than one file of role \"tokenizer\""));
        }
        Ok(())
    }
}

/// Whether a path stays in the manifest's folder, on a disk and on a server.
fn is_relative(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    // A colon makes a drive letter or a scheme; the others would end a URL's path or be decoded to
    // something else.
    let safe = |c: char| !c.is_control() && !matches!(c, '\\' | ':' | '?' | '#' | '%');
    path.len() <= 1024 && path.split('/').all(plain) && path.chars().all(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(role: Role, path: &str) -> FileEntry {
        FileEntry {
            role,
            path: path.into(),
            bytes: 10,
            sha256: "0123456789abcdef".repeat(4),
        }
    }

    fn manifest() -> Manifest {
        let files = vec![
            entry(Role::Llm, "a-00001-of-00002.gguf"),
            entry(Role::Llm, "a-00002-of-00002.gguf"),
            entry(Role::Tokenizer, "tokenizer.json"),
            entry(Role::Vision, "eyes/v.gguf"),
        ];
        Manifest {
            context_length: Some(2048),
            ..Manifest::new("tiny", files)
        }
    }

    #[test]
    fn reads_back_what_it_writes() {
        let json = manifest().to_json().unwrap();
        let read = Manifest::parse(json.as_bytes()).unwrap();
        assert_eq!(read, manifest());
        assert_eq!(read.total_bytes(), 40);
        assert_eq!(read.tokenizer().unwrap().path, "tokenizer.json");
        let names: Vec<String> = read
            .model_files()
            .into_iter()
            .map(|file| file.name)
            .collect();
        assert_eq!(
            names,
            [
                "eyes/v.gguf",
                "a-00001-of-00002.gguf",
                "a-00002-of-00002.gguf",
                "tokenizer.json"
            ]
        );
        // Later additions do no harm.
        let later = json.replacen("\"name\"", "\"colour\": [1], \"name\"", 1);
        assert_eq!(Manifest::parse(later.as_bytes()).unwrap(), manifest());
    }

    #[test]
    fn refuses_bad_entries() {
        let refused = |change: &dyn Fn(&mut Manifest), says: &str| {
            let mut m = manifest();
            change(&mut m);
            let json = serde_json::to_vec(&m).unwrap();
            let error = Manifest::parse(&json).unwrap_err().to_string();
            assert!(error.contains(says), "{error:?} does not say {says:?}");
            assert!(m.to_json().is_err());
        };
        for path in [
            "",
            "/etc/x",
            "../x",
            "a/../x",
            "a//b",
            "./a",
            "a\\b",
            "C:x",
            "https://x/y",
            "a?b",
            "a%2e",
            "a\nb",
        ] {
            refused(&|m| m.files[0].path = path.into(), "path must be relative");
        }
        refused(&|m| m.files[1].path = m.files[0].path.clone(), "twice");
        for sha256 in ["", "xyz", &"A".repeat(64), &"0".repeat(63)] {
            refused(&|m| m.files[0].sha256 = sha256.into(), "sha256");
        }
        for bytes in [0, 1 << 53, u64::MAX] {
            refused(&|m| m.files[2].bytes = bytes, "makes no sense");
        }
        refused(&|m| m.files.retain(|f| f.role != Role::Llm), "\"llm\"");
        refused(
            &|m| m.files.push(entry(Role::Tokenizer, "t")),
            "more than one",
        );
    }

    #[test]
    fn refuses_other_files() {
        let json = manifest().to_json().unwrap();
        for (file, says) in [
            ("", "not a manifest"),
            ("{}", "lacks"),
            ("[1]", "not a manifest"),
            ("<html>", "web page"),
            (&json[..json.len() / 2], "not a manifest"),
            (
                &json.replace("\"version\": 1", "\"version\": 2"),
                "version 2",
            ),
            (&json.replace("\"llm\"", "\"lm\""), "lm"),
            (&json.replace("10", "-1"), "-1"),
            (&json.replace("10", "1e99"), "1e+99"),
        ] {
            let error = Manifest::parse(file.as_bytes()).unwrap_err();
            assert!(
                error.to_string().contains(says),
                "{error} does not say {says:?}"
            );
            assert_eq!(error.code(), "bad-file");
        }
        assert!(Manifest::parse(&vec![b' '; MAX_MANIFEST_BYTES + 1]).is_err());
    }
}
