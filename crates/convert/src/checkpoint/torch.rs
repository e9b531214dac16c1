//! The files of `torch.save`: a zip archive with a pickle that describes the tensors, and one
//! stored entry for each storage.

use std::collections::HashMap;
use std::io::{BufReader, Error as IoError, ErrorKind, Read, Result as IoResult, Seek, SeekFrom};
use std::sync::Arc;

use univi::{Error, Result};
use zip::{CompressionMethod, ZipArchive};

use super::{
    files::Files,
    pickle,
    stored::{Checksum, Stored},
};

/// Descriptions of thousands of tensors take a fraction of this.
const MAX_PICKLE_BYTES: u64 = 64 << 20;

fn bad(reason: impl Into<String>) -> Error {
    Error::BadFile {
        format: "PyTorch checkpoint",
        reason: reason.into(),
    }
}

/// Where an entry's bytes are in the file.
struct Entry {
    /// Offset, length and checksum.
    bytes: Arc<Checksum>,
    /// Neither compressed nor encrypted: its bytes are the entry.
    plain: bool,
}

/// The table of tensors of a file of `len` bytes.
pub(super) fn tensors(files: &dyn Files, file: &str, len: u64) -> Result<Vec<(String, Stored)>> {
    let mut magic = [0; 2];
    if len >= 2 {
        files.read(file, 0, &mut magic)?;
    }
    if magic != *b"PK" {
        return Err(bad(
            "is not a zip archive: PyTorch older than 1.6 wrote it, or the download is another file; save it again, or use safetensors",
        ));
    }
    let entries = entries(files, file, len)?;
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
        && read(files, file, "byteorder", order, 64)? != b"little"
    {
        return Err(bad(
            "was saved on a big-endian machine: save it again on another",
        ));
    }
    let described = pickle::state_dict(&read(
        files,
        file,
        "data.pkl",
        &entries[name],
        MAX_PICKLE_BYTES,
    )?)?;
    let mut tensors = Vec::with_capacity(described.len());
    for tensor in described {
        let refuse = |reason: String| Err(bad(format!("tensor {}: {reason}", tensor.name)));
        let entry = match entries.get(&format!("{folder}data/{}", tensor.storage)) {
            Some(entry) if entry.plain => entry,
            Some(_) => {
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
        if start
            .checked_add(bytes)
            .is_none_or(|end| end > entry.bytes.len)
        {
            return refuse(format!(
                "shape {:?} needs more than the {} bytes of its storage",
                tensor.shape, entry.bytes.len
            ));
        }
        if !is_row_major(&tensor.shape, &tensor.stride) {
            return refuse(
                "is stored transposed or with gaps: save it again after .contiguous()".into(),
            );
        }
        let stored = Stored {
            file: file.to_string(),
            offset: entry.bytes.offset + start,
            dtype: tensor.dtype,
            shape: tensor.shape,
            checksum: Some(entry.bytes.clone()),
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
fn read(files: &dyn Files, file: &str, name: &str, entry: &Entry, most: u64) -> Result<Vec<u8>> {
    let place = &entry.bytes;
    if !entry.plain || place.len > most {
        return Err(bad(format!(
            "{name} is compressed or has {} bytes, expected at most {most}",
            place.len
        )));
    }
    place.check(files, file)?;
    let mut bytes = vec![0; place.len as usize];
    files.read(file, place.offset, &mut bytes)?;
    Ok(bytes)
}

fn entries(files: &dyn Files, file: &str, len: u64) -> Result<HashMap<String, Entry>> {
    let damaged =
        |e: zip::result::ZipError| bad(format!("the archive is damaged ({e}): download it again"));
    let mut archive = ZipArchive::new(BufReader::new(Reader {
        files,
        file,
        len,
        at: 0,
    }))
    .map_err(damaged)?;
    let mut entries = HashMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.to_string();
        let (bytes, crc32) = (entry.compressed_size(), entry.crc32());
        let plain = entry.compression() == CompressionMethod::Stored
            && !entry.encrypted()
            && entry.size() == bytes;
        let offset = entry.data_start().unwrap_or(len);
        if offset.checked_add(bytes).is_none_or(|end| end > len) {
            return Err(bad(format!(
                "entry {name} ends behind the file's {len} bytes: download it again"
            )));
        }
        if entries
            .insert(
                name.clone(),
                Entry {
                    bytes: Arc::new(Checksum::new(offset, bytes, crc32)),
                    plain,
                },
            )
            .is_some()
        {
            return Err(bad(format!("entry {name} stands in the archive twice")));
        }
    }
    Ok(entries)
}

/// A file as the zip reader wants it.
struct Reader<'a> {
    files: &'a dyn Files,
    file: &'a str,
    len: u64,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> IoResult<usize> {
        let n = self.len.saturating_sub(self.at).min(out.len() as u64) as usize;
        self.files
            .read(self.file, self.at, &mut out[..n])
            .map_err(IoError::other)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
