//! An entry of a zip archive, as the archive's directory at its end describes it.
//!
//! Where an entry's data begins stands in its own header alone: names and extra fields have other
//! lengths there than in the directory. That header is read with the data, in one range.

use std::{ops::Range, sync::OnceLock};

use univi::{Error, Result};

/// The fixed part of a local header, before the name and the extra fields.
const HEADER_BYTES: u64 = 30;

/// The longest name and the longest extra fields.
const MAX_NAME_AND_EXTRA_BYTES: u64 = 2 * 0xffff;

/// An entry that is neither compressed nor encrypted: its bytes are the data.
#[derive(Debug)]
pub(super) struct ArchiveEntry {
    /// Where the local header begins in the file.
    header: u64,
    /// Where the next entry or the directory begins: the data ends before.
    end: u64,
    /// Length of the data.
    pub len: u64,
    crc32: u32,
    /// Where the data begins in the file, once all of it was read and is right.
    verified: OnceLock<u64>,
}

fn damaged(reason: String) -> Error {
    Error::BadFile {
        format: "PyTorch checkpoint",
        reason: format!("{reason}: the file is damaged, download it again"),
    }
}

impl ArchiveEntry {
    /// Makes an entry of what the directory says.
    ///
    /// # Errors
    /// `BadFile` where there is not enough room for the data.
    pub fn new(header: u64, end: u64, len: u64, crc32: u32) -> Result<ArchiveEntry> {
        let least = header
            .checked_add(HEADER_BYTES)
            .and_then(|data| data.checked_add(len));
        if least.is_none_or(|least| least > end) {
            return Err(damaged(format!(
                "there are no {len} bytes between {header} and {end}"
            )));
        }
        Ok(ArchiveEntry {
            header,
            end,
            len,
            crc32,
            verified: OnceLock::new(),
        })
    }

    /// Returns the bytes of the file that hold the entry's header and data, and little more.
    pub fn span(&self) -> Range<u64> {
        let most = self.header + HEADER_BYTES + self.len;
        self.header..self.end.min(most.saturating_add(MAX_NAME_AND_EXTRA_BYTES))
    }

    /// Returns where the data begins in the file, once all of it was read and is right.
    pub fn verified_data(&self) -> Option<u64> {
        self.verified.get().copied()
    }

    /// Returns how many bytes the local header has that `start` begins with, `None` where `start`
    /// is too short to say.
    ///
    /// # Errors
    /// `BadFile` where it is no header, or the data would reach into the next entry.
    pub fn header_bytes(&self, start: &[u8]) -> Result<Option<u64>> {
        let Some(fixed) = start.first_chunk::<{ HEADER_BYTES as usize }>() else {
            return Ok(None);
        };
        if !fixed.starts_with(b"PK\x03\x04") {
            return Err(damaged(format!(
                "no entry of the archive begins at byte {}",
                self.header
            )));
        }
        let u16_at = |at: usize| u64::from(u16::from_le_bytes([fixed[at], fixed[at + 1]]));
        let bytes = HEADER_BYTES + u16_at(26) + u16_at(28);
        // Neither can overflow: both ends were checked against the file's.
        if self.header + bytes + self.len > self.end {
            return Err(damaged(format!(
                "the entry at byte {} reaches into the next one",
                self.header
            )));
        }
        Ok(Some(bytes))
    }

    /// Compares the checksum of all data, which stands `header_bytes` behind the entry's start.
    ///
    /// # Errors
    /// `BadFile` where they differ.
    pub fn verify(&self, header_bytes: u64, found: u32) -> Result<()> {
        // PyTorch can be told to leave checksums out, and writes 0.
        if found != self.crc32 && self.crc32 != 0 {
            return Err(damaged(format!(
                "bytes {} to {} have the checksum {found:08x}, the archive says {:08x}",
                self.header + header_bytes,
                self.header + header_bytes + self.len,
                self.crc32
            )));
        }
        self.verified.get_or_init(|| self.header + header_bytes);
        Ok(())
    }
}
