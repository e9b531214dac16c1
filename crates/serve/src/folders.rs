//! Which file an address names, and that it lies in a folder that is served.

use std::{
    fs::File,
    io::{self, ErrorKind},
    path::{Component, Path, PathBuf},
    time::UNIX_EPOCH,
};

use percent_encoding::percent_decode_str;

use super::error::{Error, Result};

/// What an address that ends with a slash shows.
const INDEX: &str = "index.html";

/// A folder, and the address below which it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The names between the slashes of the address; none for `/`.
    prefix: Vec<String>,
    dir: PathBuf,
}

impl Mount {
    /// Serves `dir` at `/`.
    pub fn root(dir: impl Into<PathBuf>) -> Mount {
        Mount {
            prefix: Vec::new(),
            dir: dir.into(),
        }
    }

    /// Serves `dir` below `address`, such as `/models`.
    ///
    /// # Errors
    /// [`Error::BadMount`] for an address that no folder can have.
    pub fn new(address: &str, dir: impl Into<PathBuf>) -> Result<Mount> {
        let prefix = names(address.strip_suffix('/').unwrap_or(address))
            .filter(|names| names.last().is_some_and(|last| !last.is_empty()));
        Ok(Mount {
            prefix: prefix.ok_or_else(|| Error::BadMount {
                address: address.to_owned(),
            })?,
            dir: dir.into(),
        })
    }
}

/// The folders that are served.
#[derive(Debug)]
pub struct Folders {
    /// Those with the longest addresses first.
    mounts: Vec<Mount>,
    /// Whether files and folders whose names begin with a dot are served.
    dotfiles: bool,
}

/// A file that an address names.
#[derive(Debug)]
pub struct Found {
    pub file: File,
    pub size_bytes: u64,
    /// A strong validator, with its quotes: size and time of change, as fine as the file system
    /// keeps it. Hashing gigabytes for each answer would be the alternative.
    pub etag: String,
    pub content_type: String,
}

impl Folders {
    /// Checks that all of them are there.
    ///
    /// # Errors
    /// `Folder` where one can't be read, `NotAFolder` where it is none, `SameMount` where two have
    /// the same address.
    pub fn open(mounts: &[Mount], dotfiles: bool) -> Result<Folders> {
        let mut folders: Vec<Mount> = Vec::new();
        for Mount { prefix, dir } in mounts {
            let unreadable = |source| Error::Folder {
                path: dir.clone(),
                source,
            };
            let dir_in_full = dir.canonicalize().map_err(unreadable)?;
            if !dir_in_full.is_dir() {
                return Err(Error::NotAFolder { path: dir.clone() });
            }
            if folders.iter().any(|other| other.prefix == *prefix) {
                let address = format!("/{}", prefix.join("/"));
                return Err(Error::SameMount { address });
            }
            folders.push(Mount {
                prefix: prefix.clone(),
                dir: dir_in_full,
            });
        }
        // The longest address that fits wins.
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.prefix.len()));
        Ok(Folders {
            mounts: folders,
            dotfiles,
        })
    }

    /// Returns the file at the address `path` of a request; none where it names nothing that is
    /// served.
    ///
    /// # Errors
    /// What the operating system reports about a file that is there.
    pub fn find(&self, path: &str) -> io::Result<Option<Found>> {
        let Some(mut names) = names(path) else {
            return Ok(None);
        };
        if names.last().is_some_and(String::is_empty) {
            names.pop();
            names.push(INDEX.to_owned());
        }
        let fits = |folder: &&Mount| names.starts_with(&folder.prefix);
        let Some(folder) = self.mounts.iter().find(fits) else {
            return Ok(None);
        };
        let path: PathBuf = names.into_iter().skip(folder.prefix.len()).collect();
        if !self.dotfiles && has_dotfile(&path) {
            return Ok(None);
        }
        let path = match folder.dir.join(path).canonicalize() {
            // A link may lead out, or to what is hidden.
            Ok(path) => match path.strip_prefix(&folder.dir) {
                Ok(inside) if self.dotfiles || !has_dotfile(inside) => path,
                _ => return Ok(None),
            },
            Err(e) if e.kind() == ErrorKind::PermissionDenied => return Err(e),
            Err(_) => return Ok(None),
        };
        // Opening a pipe would wait for a writer.
        if !path.metadata()?.is_file() {
            return Ok(None);
        }
        let file = File::open(&path)?;
        let metadata = file.metadata()?;
        let changed_ns = match metadata.modified()?.duration_since(UNIX_EPOCH) {
            Ok(after) => format!("{:x}", after.as_nanos()),
            Err(before) => format!("-{:x}", before.duration().as_nanos()),
        };
        Ok(Some(Found {
            etag: format!("\"{:x}-{changed_ns}\"", metadata.len()),
            content_type: content_type(&path),
            size_bytes: metadata.len(),
            file,
        }))
    }
}

/// Whether a path goes through a name that begins with a dot: settings, keys, a repository's
/// history.
fn has_dotfile(path: &Path) -> bool {
    let mut names = path.components();
    names.any(|name| name.as_os_str().as_encoded_bytes().starts_with(b"."))
}

/// The names between the slashes of an address; the last is empty where it ends with a slash. None
/// for an address with a name that no file has, or that would lead elsewhere.
fn names(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/')?;
    let mut names = Vec::new();
    let mut encoded = path.split('/').peekable();
    while let Some(name) = encoded.next() {
        let name = percent_decode_str(name).decode_utf8().ok()?.into_owned();
        let is_last = encoded.peek().is_none();
        if !(is_file_name(&name) || is_last && name.is_empty()) {
            return None;
        }
        names.push(name);
    }
    Some(names)
}

/// Whether `name` names something in a folder: not `..`, `a/b`, `C:` or the like.
fn is_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let is_one =
        matches!(components.next(), Some(Component::Normal(whole)) if whole.to_str() == Some(name));
    is_one && components.next().is_none() && !name.contains('\0')
}

/// What a browser takes a file for, judged by its name. Without the right one it runs no script and
/// compiles no module of WebAssembly as it arrives.
fn content_type(path: &Path) -> String {
    let guess = mime_guess::from_path(path).first_or_octet_stream();
    if guess.type_() == "text" {
        format!("{guess}; charset=utf-8")
    } else {
        guess.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_names() {
        let cases: [(&str, Option<&[&str]>); 12] = [
            ("/", Some(&[""])),
            ("/a/b.gguf", Some(&["a", "b.gguf"])),
            ("/a/", Some(&["a", ""])),
            ("/a%20b/%C3%BC", Some(&["a b", "ü"])),
            ("/..a/b..", Some(&["..a", "b.."])),
            ("", None),
            ("*", None),
            ("//a", None),
            ("/a/../b", None),
            ("/%2e%2e/b", None),
            ("/a%2fb", None),
            ("/a%00", None),
        ];
        for (path, expected) in cases {
            assert_eq!(
                names(path),
                expected.map(|names| names.iter().map(|name| name.to_string()).collect()),
                "{path}"
            );
        }
    }

    #[test]
    fn content_types() {
        for (name, expected) in [
            ("m-00001-of-00002.gguf", "application/octet-stream"),
            ("vision.safetensors", "application/octet-stream"),
            ("manifest.json", "application/json"),
            ("univi_web_bg.wasm", "application/wasm"),
            ("index.html", "text/html; charset=utf-8"),
            ("worker.js", "text/javascript; charset=utf-8"),
            ("worker.mjs", "application/javascript"),
            ("page.css", "text/css; charset=utf-8"),
            ("clip.mp4", "video/mp4"),
            ("sheep.jpg", "image/jpeg"),
            ("sheep.webp", "image/webp"),
            ("LICENSE", "application/octet-stream"),
        ] {
            assert_eq!(content_type(Path::new(name)), expected, "{name}");
        }
    }
}
