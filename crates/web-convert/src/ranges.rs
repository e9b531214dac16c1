//! The files of a repository, of which some ranges are here.

use std::{collections::BTreeMap, sync::Mutex};

use univi::{Error, Result};
use univi_convert::checkpoint::{Files, Span};

/// The files of a repository, of which some ranges are here.
#[derive(Debug, Default)]
pub struct Ranges {
    files: BTreeMap<String, File>,
    /// What was asked for last, and is not here.
    missing: Mutex<Option<Span>>,
}

#[derive(Debug, Default)]
struct File {
    bytes: u64,
    /// By where they begin.
    known: BTreeMap<u64, Vec<u8>>,
}

impl Ranges {
    /// Adds a file of which nothing is here yet.
    pub fn add_file(&mut self, name: String, bytes: u64) {
        let file = File {
            bytes,
            ..File::default()
        };
        self.files.insert(name, file);
    }

    /// Adds a range of a file; of a file that is not listed it is of no use.
    pub fn add_range(&mut self, name: &str, offset: u64, bytes: Vec<u8>) {
        if let Some(file) = self.files.get_mut(name) {
            file.known.insert(offset, bytes);
        }
    }

    /// Returns what was asked for since the last call, and is not here.
    pub fn take_missing(&self) -> Option<Span> {
        self.missing
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .take()
    }

    /// Forgets all bytes, which a plan does not need any more.
    pub fn forget_ranges(&mut self) {
        for file in self.files.values_mut() {
            file.known.clear();
        }
    }
}

impl Files for Ranges {
    fn len(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.files.get(name).map(|file| file.bytes))
    }

    fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        let io = |reason: String| Err(Error::Io { reason }.in_file(name));
        let len = out.len() as u64;
        let end = offset.checked_add(len);
        let Some((file, end)) = self.files.get(name).zip(end) else {
            return io("there is no such file in the repository".into());
        };
        if end > file.bytes {
            return io(format!(
                "has {} bytes, too few for {len} at {offset}",
                file.bytes
            ));
        }
        let before = file.known.range(..=offset).next_back();
        let found = before.and_then(|(start, known)| {
            let from = usize::try_from(offset - start).ok()?;
            known.get(from..from.checked_add(out.len())?)
        });
        if let Some(found) = found {
            out.copy_from_slice(found);
            return Ok(());
        }
        *self.missing.lock().unwrap_or_else(|e| e.into_inner()) = Some(Span {
            file: name.to_string(),
            offset,
            len,
        });
        io(format!("the {len} bytes at {offset} are not here yet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_once() {
        let mut ranges = Ranges::default();
        ranges.add_file("a".into(), 100);
        ranges.add_range("a", 10, vec![1, 2, 3, 4]);
        let mut out = [0; 2];
        ranges.read("a", 12, &mut out).unwrap();
        assert_eq!((out, ranges.take_missing()), ([3, 4], None));
        ranges.read("a", 13, &mut out).unwrap_err();
        let missing = Span {
            file: "a".into(),
            offset: 13,
            len: 2,
        };
        assert_eq!(ranges.take_missing(), Some(missing));
        assert_eq!(ranges.take_missing(), None);
        // What no file has is not worth a request.
        ranges.read("a", 99, &mut out).unwrap_err();
        ranges.read("a", u64::MAX, &mut out).unwrap_err();
        ranges.read("b", 0, &mut out).unwrap_err();
        assert_eq!(ranges.take_missing(), None);
        assert_eq!(ranges.len("b").unwrap(), None);
    }
}
