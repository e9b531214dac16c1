//! The rows of a tensor, out of bytes that come in order from wherever the file is.

use std::{ops::Range, sync::Arc};

use univi::{Error, Result};

use super::{archive_entry::ArchiveEntry, files::Files, stored::Stored};

/// A range of bytes of a file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The file's name in the checkpoint's folder.
    pub file: String,
    /// Of the first byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// Whole rows of a tensor as the checkpoint stores them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRows {
    /// Which rows.
    pub rows: Range<usize>,
    /// Their bytes.
    pub bytes: Vec<u8>,
}

/// Where the rows that are handed out go.
type OnRows<'a> = &'a mut dyn FnMut(StoredRows) -> Result<()>;

/// Takes the bytes of [`TensorReader::span`] in order and hands out rows, in batches.
///
/// The data of an archive's entry is checked as it passes: an entry that was not read before is
/// read whole, behind its own header, and its checksum is compared at the end. So rows count only
/// when [`TensorReader::finish`] has returned without an error.
#[derive(Debug)]
pub struct TensorReader {
    span: Span,
    row_bytes: u64,
    rows_per_batch: usize,
    next_row: usize,
    /// Where the rows that are still to come lie, in bytes of data.
    wanted: Range<u64>,
    /// How much of the data has come.
    at: u64,
    check: Option<Check>,
    batch: Vec<u8>,
}

/// An archive's entry on its way past.
#[derive(Debug)]
struct Check {
    entry: Arc<ArchiveEntry>,
    /// The first bytes, until the header is whole.
    header: Vec<u8>,
    header_bytes: Option<u64>,
    crc32: crc32fast::Hasher,
}

impl TensorReader {
    /// Begins to read `rows` of `row_bytes` each.
    pub(super) fn new(
        stored: &Stored,
        rows: Range<usize>,
        row_bytes: u64,
        rows_per_batch: usize,
    ) -> TensorReader {
        let first = stored.offset + rows.start as u64 * row_bytes;
        let wanted = first..first + rows.len() as u64 * row_bytes;
        let unverified = stored
            .entry
            .as_ref()
            .filter(|entry| entry.verified_data().is_none());
        let (span, at) = match unverified {
            Some(entry) => (entry.span(), 0),
            None => {
                let data = stored
                    .entry
                    .as_ref()
                    .and_then(|entry| entry.verified_data());
                let data = data.unwrap_or(0);
                (data + wanted.start..data + wanted.end, wanted.start)
            }
        };
        TensorReader {
            span: Span {
                file: stored.file.clone(),
                offset: span.start,
                len: span.end - span.start,
            },
            row_bytes,
            rows_per_batch: rows_per_batch.max(1),
            next_row: rows.start,
            wanted,
            at,
            check: unverified.map(|entry| Check {
                entry: entry.clone(),
                header: Vec::new(),
                header_bytes: None,
                crc32: crc32fast::Hasher::new(),
            }),
            batch: Vec::new(),
        }
    }

    /// Returns the bytes to read, in one go from the first to the last.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Takes the next bytes of the span. `on_rows` gets each batch of rows that they complete.
    ///
    /// # Errors
    /// `BadFile` for a damaged archive, named with the file; those of `on_rows`.
    pub fn push(&mut self, mut bytes: &[u8], on_rows: OnRows<'_>) -> Result<()> {
        if let Some(check) = &mut self.check {
            let in_file = |e: Error| e.in_file(&*self.span.file);
            bytes = check.push(bytes, self.at).map_err(in_file)?;
        }
        let start = self.at;
        self.at += bytes.len() as u64;
        // Both lie inside `bytes`.
        let from = self.wanted.start.clamp(start, self.at) - start;
        let to = self.wanted.end.clamp(start, self.at) - start;
        let mut rows = &bytes[from as usize..to as usize];
        let batch_bytes = self.rows_per_batch as u64 * self.row_bytes;
        while !rows.is_empty() {
            let left = self.wanted.end - self.wanted.start;
            let whole = batch_bytes.min(left + self.batch.len() as u64) as usize;
            self.batch.reserve_exact(whole - self.batch.len());
            let (taken, rest) = rows.split_at(rows.len().min(whole - self.batch.len()));
            self.batch.extend_from_slice(taken);
            self.wanted.start += taken.len() as u64;
            rows = rest;
            if self.batch.len() == whole {
                let first = self.next_row;
                self.next_row += (whole as u64 / self.row_bytes) as usize;
                on_rows(StoredRows {
                    rows: first..self.next_row,
                    bytes: std::mem::take(&mut self.batch),
                })?;
            }
        }
        Ok(())
    }

    /// Checks that all bytes came, and that they are right.
    ///
    /// # Errors
    /// `BadFile` for a wrong checksum, `Io` where bytes are missing, named with the file.
    pub fn finish(self) -> Result<()> {
        let in_file = |e: Error| e.in_file(&*self.span.file);
        let is_whole = match &self.check {
            Some(check) => check.header_bytes.is_some() && self.at >= check.entry.len,
            None => self.wanted.is_empty(),
        };
        if !is_whole {
            let reason = format!(
                "breaks off within the {} bytes from {} on",
                self.span.len, self.span.offset
            );
            return Err(in_file(Error::Io { reason }));
        }
        match self.check {
            Some(Check {
                entry,
                header_bytes: Some(header_bytes),
                crc32,
                ..
            }) => entry
                .verify(header_bytes, crc32.finalize())
                .map_err(|e| e.in_file(&*self.span.file)),
            _ => Ok(()),
        }
    }

    /// Reads the span from files that are at hand.
    ///
    /// # Errors
    /// As [`TensorReader::push`] and [`TensorReader::finish`], `Io`.
    pub(super) fn read(mut self, files: &dyn Files, on_rows: OnRows<'_>) -> Result<()> {
        const CHUNK_BYTES: u64 = 1 << 20;
        let span = self.span.clone();
        let mut chunk = vec![0; span.len.min(CHUNK_BYTES) as usize];
        for start in (0..span.len).step_by(CHUNK_BYTES as usize) {
            let chunk = &mut chunk[..CHUNK_BYTES.min(span.len - start) as usize];
            let read = files.read(&span.file, span.offset + start, chunk);
            read.map_err(|e| e.in_file(&*span.file))?;
            self.push(chunk, on_rows)?;
        }
        self.finish()
    }
}

impl Check {
    /// Takes bytes of the span, of which `at` bytes of data have come, and returns those of them
    /// that are data.
    fn push<'b>(&mut self, mut bytes: &'b [u8], at: u64) -> Result<&'b [u8]> {
        if self.header_bytes.is_none() {
            let before = self.header.len();
            // As much as the longest header has.
            let most = (self.entry.span().end - self.entry.span().start - self.entry.len) as usize;
            let taken = bytes.len().min(most - before);
            self.header.extend_from_slice(&bytes[..taken]);
            self.header_bytes = self.entry.header_bytes(&self.header)?;
            let Some(header_bytes) = self.header_bytes else {
                return Ok(&[]);
            };
            if (self.header.len() as u64) < header_bytes {
                self.header_bytes = None;
                return Ok(&[]);
            }
            bytes = &bytes[header_bytes as usize - before..];
            self.header = Vec::new();
        }
        // Behind the data there may be a descriptor, which repeats what the directory says.
        let left = self.entry.len - at;
        let data = &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        self.crc32.update(data);
        Ok(data)
    }
}
