//! The files of `torch.save`: a zip archive with a pickle that describes the tensors, and one
//! stored entry for each storage.

use std::collections::HashMap;
use std::io::{BufReader, Error as IoError, ErrorKind, Read, Result as IoResult, Seek, SeekFrom};
use std::sync::Arc;

use univi::{Error, Result};
use zip::{CompressionMethod, ZipArchive};

use super::{archive_entry::ArchiveEntry, files::Ends, pickle, stored::Stored};

/// Descriptions of thousands of tensors take a fraction of this.
const MAX_PICKLE_BYTES: u64 = 64 << 20;

fn bad(reason: impl Into<String>) -> Error {
    Error::BadFile {
        format: "PyTorch checkpoint",
        reason: reason.into(),
    }
}

/// An entry, as far as the directory tells.
enum Entry {
    /// Neither compressed nor encrypted.
    Plain(Arc<ArchiveEntry>),
    Packed,
}

/// The table of tensors of a file.
pub(super) fn tensors(mut ends: Ends) -> Result<Vec<(String, Stored)>> {
    if !ends.signature().starts_with(b"PK") {
        return Err(bad(
            "is not a zip archive: PyTorch older than 1.6 wrote it, or the download is another file; save it again, or use safetensors",
        ));
    }
    let entries = entries(&mut ends)?;
    let pickles: Vec<&String> = entries
        .keys()
        .filter(|name| name.ends_with("/data.pkl"))
        .collect();
    let &[name] = &pickles[..] else {
        return Err(bad(format!(
            "has {} entries data.pkl, expected 1",
            pickles.len()
        )));
    };
    let folder = name.strip_suffix("data.pkl").unwrap_or_default();
    if let Some(order) = entries.get(&format!("{folder}byteorder"))
        && read(&mut ends, "byteorder", order, 64)? != b"little"
    {
        return Err(bad(
            "was saved on a big-endian machine: save it again on another",
        ));
    }
    let pickle = read(&mut ends, "data.pkl", &entries[name], MAX_PICKLE_BYTES)?;
    let described = pickle::state_dict(&pickle)?;
    let mut tensors = Vec::with_capacity(described.len());
    for tensor in described {
        let refuse = |reason: String| Err(bad(format!("tensor {}: {reason}", tensor.name)));
        let entry = match entries.get(&format!("{folder}data/{}", tensor.storage)) {
            Some(Entry::Plain(entry)) => entry,
            Some(Entry::Packed) => {
                return refuse(format!(
                    "its storage {} is compressed, which torch.save never does",
                    tensor.storage
                ));
            }
            None => {
                return refuse(format!(
                    "its storage {} is not in the archive",
                    tensor.storage
                ));
            }
        };
        let size = (tensor.dtype.bits() / 8) as u64;
        let elements = tensor
            .shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d));
        let bytes = elements.and_then(|n| (n as u64).checked_mul(size));
        let start = tensor.offset.checked_mul(size);
        let (Some(start), Some(bytes)) = (start, bytes) else {
            return refuse(format!("shape {:?} overflows", tensor.shape));
        };
        if start.checked_add(bytes).is_none_or(|end| end > entry.len) {
            return refuse(format!(
                "shape {:?} needs more than the {} bytes of its storage",
                tensor.shape, entry.len
            ));
        }
        if !is_row_major(&tensor.shape, &tensor.stride) {
            return refuse(
                "is stored transposed or with gaps: save it again after .contiguous()".into(),
            );
        }
        let stored = Stored {
            file: ends.file.to_string(),
            offset: start,
            entry: Some(entry.clone()),
            dtype: tensor.dtype,
            shape: tensor.shape,
        };
        tensors.push((tensor.name, stored));
    }
    Ok(tensors)
}

/// Whether numbers follow one another without gaps; the stride of a single row says nothing.
fn is_row_major(shape: &[usize], stride: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.len() == stride.len()
        && shape.iter().zip(stride).rev().all(|(&dim, &stride)| {
            let fits = dim == 1 || stride == expected;
            expected = expected.saturating_mul(dim);
            fits
        })
}

/// All of an entry that has a known bound.
fn read(ends: &mut Ends, name: &str, entry: &Entry, most: u64) -> Result<Vec<u8>> {
    let entry = match entry {
        Entry::Plain(entry) if entry.len <= most => entry,
        _ => {
            return Err(bad(format!(
                "{name} is compressed or has more than {most} bytes"
            )));
        }
    };
    let span = entry.span();
    let mut bytes = vec![0; (span.end - span.start) as usize];
    ends.read(span.start, &mut bytes)?;
    let header_bytes = entry.header_bytes(&bytes)?.unwrap_or_default();
    bytes.drain(..header_bytes as usize);
    bytes.truncate(entry.len as usize);
    entry.verify(header_bytes, crc32fast::hash(&bytes))?;
    Ok(bytes)
}

/// What the archive's directory lists. The entries' own headers are not read.
fn entries(ends: &mut Ends) -> Result<HashMap<String, Entry>> {
    let damaged =
        |e: zip::result::ZipError| bad(format!("the archive is damaged ({e}): download it again"));
    let archive = ZipArchive::new(BufReader::new(Reader { ends, at: 0 })).map_err(damaged)?;
    if archive.has_duplicate_names() {
        return Err(bad("an entry stands in the archive twice"));
    }
    let mut starts = vec![archive.central_directory_start()];
    for i in 0..archive.len() {
        starts.push(archive.by_index_data(i).map_err(damaged)?.header_start());
    }
    starts.sort_unstable();
    let mut entries = HashMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index_data(i).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.to_string();
        let (header, bytes) = (entry.header_start(), entry.compressed_size());
        let next = starts.partition_point(|&start| start <= header);
        let end = starts.get(next).copied().unwrap_or(header);
        let is_plain = entry.compression() == CompressionMethod::Stored
            && !entry.encrypted()
            && entry.size() == bytes;
        let place = ArchiveEntry::new(header, end, bytes, entry.crc32());
        let place = place.map_err(|e| match e {
            Error::BadFile { reason, .. } => bad(format!("entry {name}: {reason}")),
            e => e,
        })?;
        let entry = match is_plain {
            true => Entry::Plain(Arc::new(place)),
            false => Entry::Packed,
        };
        // Two names may be one once they are decoded.
        if entries.insert(name.clone(), entry).is_some() {
            return Err(bad(format!("entry {name} stands in the archive twice")));
        }
    }
    Ok(entries)
}

/// A file as the zip reader wants it.
struct Reader<'r, 'e> {
    ends: &'r mut Ends<'e>,
    at: u64,
}

impl Read for Reader<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> IoResult<usize> {
        let left = self.ends.len.saturating_sub(self.at);
        let n = left.min(out.len() as u64) as usize;
        let read = self.ends.read(self.at, &mut out[..n]);
        read.map_err(IoError::other)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Reader<'_, '_> {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.ends.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
