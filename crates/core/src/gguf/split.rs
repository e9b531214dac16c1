//! Sets of files that make one model, as llama.cpp's `gguf-split` writes them.

use std::collections::HashSet;

use super::{GgmlType, Header, Metadata, TensorInfo, bad};
use crate::{Error, Result};

/// Metadata key: the index of a file in its set, from 0.
pub const SPLIT_NO: &str = "split.no";
/// Metadata key: how many files the set has.
pub const SPLIT_COUNT: &str = "split.count";
/// Metadata key: how many tensors all files of the set hold together.
pub const SPLIT_TENSORS: &str = "split.tensors.count";

/// More files than this are not a set but a mistake.
pub const MAX_SPLIT_FILES: usize = 65535;

/// The name of one file of a set: `PREFIX-00001-of-00004.gguf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitName {
    /// What all names of the set begin with.
    pub prefix: String,
    /// 0 for the first file, whose name says 1.
    pub index: usize,
    /// Files of the set.
    pub count: usize,
}

impl SplitName {
    /// Reads a file name, or returns `None` where it is not one of a set.
    pub fn parse(name: &str) -> Option<SplitName> {
        let number = |s: &str| {
            (s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?
        };
        let rest = name.strip_suffix(".gguf")?;
        let (rest, count) = rest.rsplit_once("-of-")?;
        let (prefix, index) = rest.rsplit_once('-')?;
        let (index, count): (usize, usize) = (number(index)?, number(count)?);
        (index >= 1 && index <= count).then(|| SplitName {
            prefix: prefix.to_string(),
            index: index - 1,
            count,
        })
    }

    /// Returns the names of all files of the set, in order.
    pub fn all(&self) -> impl Iterator<Item = SplitName> + '_ {
        (0..self.count).map(|index| SplitName {
            index,
            ..self.clone()
        })
    }
}

impl std::fmt::Display for SplitName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}-{:05}-of-{:05}.gguf",
            self.prefix,
            self.index + 1,
            self.count
        )
    }
}

/// The headers of a set of files, checked against one another. A single file is a set of one.
#[derive(Debug, Clone, Default)]
pub struct Shards {
    headers: Vec<Header>,
    names: HashSet<String>,
    count: usize,
    tensors: Option<u32>,
}

impl Shards {
    /// Makes a set without files.
    pub fn new() -> Shards {
        Shards::default()
    }

    /// Makes a complete set.
    ///
    /// # Errors
    /// As [`Shards::push`] and [`Shards::check_complete`].
    pub fn of(headers: impl IntoIterator<Item = Header>) -> Result<Shards> {
        let mut shards = Shards::new();
        for header in headers {
            shards.push(header)?;
        }
        shards.check_complete()?;
        Ok(shards)
    }

    /// Takes the header of the next file.
    ///
    /// # Errors
    /// [`Error::BadMetadata`] or [`Error::BadFile`] where it is not the next file of the set.
    pub fn push(&mut self, header: Header) -> Result<()> {
        let meta = &header.metadata;
        let next = self.headers.len();
        let wrong = |key: &str, found: u32, expected: usize| Error::BadMetadata {
            key: key.to_string(),
            reason: format!("is {found}, expected {expected}: the files are not one set in order"),
        };
        let count = meta.opt_u32(SPLIT_COUNT)?;
        if next == 0 {
            self.count = count.unwrap_or(1) as usize;
            if !(1..=MAX_SPLIT_FILES).contains(&self.count) {
                return Err(Error::BadMetadata {
                    key: SPLIT_COUNT.into(),
                    reason: format!("is {}, expected 1 to {MAX_SPLIT_FILES}", self.count),
                });
            }
            self.tensors = meta.opt_u32(SPLIT_TENSORS)?;
        } else if next == self.count {
            return Err(bad(format!(
                "the set has {} files, this is one more",
                self.count
            )));
        } else if meta.u32(SPLIT_COUNT)? as usize != self.count {
            return Err(wrong(SPLIT_COUNT, meta.u32(SPLIT_COUNT)?, self.count));
        }
        if let Some(no) = meta.opt_u32(SPLIT_NO)?.filter(|&no| no as usize != next) {
            return Err(wrong(SPLIT_NO, no, next));
        } else if self.count > 1 && !meta.contains(SPLIT_NO) {
            return Err(Error::BadMetadata {
                key: SPLIT_NO.into(),
                reason: format!("is missing, expected {next}"),
            });
        }
        if meta
            .opt_u32(SPLIT_TENSORS)?
            .is_some_and(|n| Some(n) != self.tensors)
        {
            return Err(Error::BadMetadata {
                key: SPLIT_TENSORS.into(),
                reason: "differs from the first file's: the files are not of one set".into(),
            });
        }
        if let Some(twice) = header.tensors.iter().find(|t| self.names.contains(&t.name)) {
            return Err(bad(format!(
                "tensor {} stands in two files of the set",
                twice.name
            )));
        }
        self.names
            .extend(header.tensors.iter().map(|t| t.name.clone()));
        self.headers.push(header);
        Ok(())
    }

    /// Takes the last header back, if there is one.
    pub fn pop(&mut self) -> Option<Header> {
        let header = self.headers.pop()?;
        for tensor in &header.tensors {
            self.names.remove(&tensor.name);
        }
        Some(header)
    }

    /// Checks that every file of the set has come.
    ///
    /// # Errors
    /// [`Error::BadFile`] or [`Error::BadMetadata`] that says what is missing.
    pub fn check_complete(&self) -> Result<()> {
        if self.headers.is_empty() || self.headers.len() < self.count {
            return Err(bad(format!(
                "is a set of {} files, only {} given: name the first file and keep all beside it",
                self.count,
                self.headers.len()
            )));
        }
        match self.tensors {
            Some(promised) if promised as usize != self.names.len() => Err(Error::BadMetadata {
                key: SPLIT_TENSORS.into(),
                reason: format!(
                    "is {promised}, but the files hold {} tensors",
                    self.names.len()
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Returns how many files the set has; 0 before the first came.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the headers that came, in order.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// Returns the metadata of the model: the first file's.
    ///
    /// # Panics
    /// Before the first header came.
    pub fn metadata(&self) -> &Metadata {
        &self.headers[0].metadata
    }

    /// Returns all tensors with the index of their file, in order.
    pub fn tensors(&self) -> impl Iterator<Item = (usize, &TensorInfo)> {
        self.headers
            .iter()
            .enumerate()
            .flat_map(|(i, header)| header.tensors.iter().map(move |t| (i, t)))
    }

    /// Returns the tensor of this name, with the index of its file.
    pub fn tensor(&self, name: &str) -> Option<(usize, &TensorInfo)> {
        self.tensors().find(|(_, t)| t.name == name)
    }

    /// Returns the bytes of all tensors.
    pub fn data_bytes(&self) -> u64 {
        self.tensors().map(|(_, t)| t.bytes).sum()
    }

    /// Returns the type that most of the numbers are stored in, if there are any.
    pub fn main_type(&self) -> Option<GgmlType> {
        let elements = |ty| {
            self.tensors()
                .filter(|(_, t)| t.ty == ty)
                .map(|(_, t)| t.elements() as u64)
                .sum::<u64>()
        };
        GgmlType::ALL
            .into_iter()
            .max_by_key(|&ty| elements(ty))
            .filter(|&ty| elements(ty) > 0)
    }
}
