//! The push parser: bytes in chunks of any size go in, a header and runs of tensor data come out.

use std::collections::HashSet;

use super::ggml_type::{foreign_type_name, supported_types};
use super::{
    Array, DEFAULT_ALIGNMENT, GgmlType, Header, MAGIC, MAX_DIMS, MAX_NAME_BYTES, Metadata,
    TensorInfo, VERSION, Value, align, bad,
};
use crate::{
    Error, Result,
    signature::{Signature, impostor},
};

/// Metadata and tensor table together may not be longer: no vocabulary comes near.
pub const MAX_HEADER_BYTES: u64 = 256 << 20;

/// What [`Parser::push`] hands on.
#[derive(Debug)]
pub enum Event<'a> {
    /// Everything before the data is known. Comes once, before any data.
    Header(&'a Header),
    /// Data of a tensor, in file order without gaps. `offset` is a multiple of 4 and so is the
    /// length, except for the last run of a tensor, so that a GPU queue can take it as it is.
    Data {
        /// Index into [`Header::tensors`].
        tensor: usize,
        /// Where these bytes stand in the tensor.
        offset: u64,
        /// The bytes; never empty.
        bytes: &'a [u8],
    },
}

/// Reads a GGUF file that arrives in chunks.
///
/// Only the item of the header that is being read is buffered, and what was read takes memory in
/// proportion to the bytes that came, whatever lengths the file claims. Tensor data passes through.
#[derive(Debug)]
pub struct Parser {
    step: Step,
    /// Bytes of the header that are not used up, and where they start in the file.
    buffer: Vec<u8>,
    position: u64,
    /// Bytes that `buffer` has to hold before it is worth looking again.
    needed: usize,
    file_bytes: Option<u64>,
    header: Header,
    tensors_left: u64,
    entries_left: u64,
    tensor_names: HashSet<String>,
    /// Tensor that the next data byte belongs to, bytes of it handed on, and up to three bytes
    /// held back.
    tensor: usize,
    given: u64,
    held: [u8; 4],
    held_len: usize,
}

#[derive(Debug, Clone)]
enum Step {
    Start,
    Entry,
    Elements {
        key: String,
        left: u64,
        array: Array,
    },
    Tensor,
    Data,
    Failed(Error),
}

/// Why an item of the header could not be read.
enum Stop {
    /// The item needs this many bytes of the buffer.
    Short(usize),
    Bad(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Bad(error)
    }
}

type Item<T> = Result<T, Stop>;

impl Default for Parser {
    fn default() -> Parser {
        Parser::new()
    }
}

impl Parser {
    /// Makes a parser for a file of unknown length.
    pub fn new() -> Parser {
        Parser {
            step: Step::Start,
            buffer: Vec::new(),
            position: 0,
            needed: 0,
            file_bytes: None,
            header: Header {
                metadata: Metadata::new(),
                tensors: Vec::new(),
                data_offset: 0,
                alignment: DEFAULT_ALIGNMENT,
                file_bytes: 0,
            },
            tensors_left: 0,
            entries_left: 0,
            tensor_names: HashSet::new(),
            tensor: 0,
            given: 0,
            held: [0; 4],
            held_len: 0,
        }
    }

    /// Makes a parser for a file of known length: what can't fit is refused at once, not at the
    /// end.
    pub fn for_file_of(bytes: u64) -> Parser {
        Parser {
            file_bytes: Some(bytes),
            ..Parser::new()
        }
    }

    /// Returns the header, once it is known.
    pub fn header(&self) -> Option<&Header> {
        matches!(self.step, Step::Data).then_some(&self.header)
    }

    /// Takes the next bytes of the file and hands on what they complete. Bytes behind the last
    /// tensor are ignored.
    ///
    /// # Errors
    /// Whatever is wrong with the file, or the sink's own error. The same error comes for all later
    /// pushes.
    pub fn push(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let done = self.push_bytes(bytes, sink);
        if let Err(error) = &done {
            self.step = Step::Failed(error.clone());
            self.buffer = Vec::new();
        }
        done
    }

    /// Reads the header of a complete file.
    ///
    /// # Errors
    /// As [`Parser::check_end`].
    pub fn finish(self) -> Result<Header> {
        self.check_end()?;
        Ok(self.header)
    }

    /// Checks that the file may end here.
    ///
    /// # Errors
    /// [`Error::BadFile`] that says what the file breaks off in.
    pub fn check_end(&self) -> Result<()> {
        let end = self.position + self.buffer.len() as u64;
        match &self.step {
            Step::Data => match self.header.tensors.get(self.tensor) {
                None => Ok(()),
                Some(t) => Err(bad(format!(
                    "the file breaks off after {end} bytes; tensor {} takes bytes {} to {}, the whole file {}: fetch it again",
                    t.name,
                    t.offset,
                    t.offset + t.bytes,
                    self.header.file_bytes
                ))),
            },
            Step::Failed(error) => Err(error.clone()),
            Step::Start if end == 0 => Err(bad("the file is empty")),
            Step::Start if !MAGIC.starts_with(&self.buffer[..self.buffer.len().min(4)]) => {
                Err(no_magic(&self.buffer))
            }
            _ => Err(bad(format!(
                "the file breaks off after {end} bytes, inside the header: fetch it again"
            ))),
        }
    }

    fn push_bytes(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            match &self.step {
                Step::Failed(error) => return Err(error.clone()),
                Step::Data => return self.data(bytes, sink),
                _ => {}
            }
            // A chunk may be a whole file: the header's part of it is copied piece by piece.
            let more = self
                .needed
                .saturating_sub(self.buffer.len())
                .max(64 << 10)
                .min(bytes.len());
            self.buffer.extend_from_slice(&bytes[..more]);
            bytes = &bytes[more..];
            if self.buffer.len() < self.needed {
                continue;
            }
            self.header_items()?;
            if matches!(self.step, Step::Data) {
                sink(Event::Header(&self.header))?;
                let rest = std::mem::take(&mut self.buffer);
                self.data(&rest, sink)?;
            }
        }
        Ok(())
    }

    /// Reads all whole items that the buffer holds.
    fn header_items(&mut self) -> Result<()> {
        let mut used = 0;
        while !matches!(self.step, Step::Data) {
            let mut cursor = Cursor {
                bytes: &self.buffer[used..],
                at: 0,
                start: self.position + used as u64,
                // Nothing of the header can lie behind the end of the file.
                end: self
                    .file_bytes
                    .unwrap_or(MAX_HEADER_BYTES)
                    .min(MAX_HEADER_BYTES),
                limit_is_file: self.file_bytes.is_some_and(|n| n <= MAX_HEADER_BYTES),
            };
            let read = match std::mem::replace(&mut self.step, Step::Start) {
                Step::Start => start(&mut cursor).map(|counts| {
                    (self.tensors_left, self.entries_left) = counts;
                    Step::Entry
                }),
                Step::Entry if self.entries_left == 0 => {
                    self.header.alignment = alignment(&self.header.metadata)?;
                    Ok(Step::Tensor)
                }
                Step::Entry => match entry(&mut cursor, &self.header.metadata) {
                    Ok((key, Entry::Value(value))) => {
                        self.entries_left -= 1;
                        self.header.metadata.insert(key, value);
                        Ok(Step::Entry)
                    }
                    Ok((key, Entry::Array { left, array })) => {
                        Ok(Step::Elements { key, left, array })
                    }
                    Err(stop) => {
                        self.step = Step::Entry;
                        Err(stop)
                    }
                },
                Step::Elements {
                    key,
                    left: 0,
                    array,
                } => {
                    self.entries_left -= 1;
                    self.header.metadata.insert(key, Value::Array(array));
                    Ok(Step::Entry)
                }
                Step::Elements {
                    key,
                    left,
                    mut array,
                } => match elements(&mut cursor, &key, left, &mut array) {
                    Ok(read) => Ok(Step::Elements {
                        key,
                        left: left - read,
                        array,
                    }),
                    Err(stop) => {
                        self.step = Step::Elements { key, left, array };
                        Err(stop)
                    }
                },
                Step::Tensor if self.tensors_left == 0 => {
                    layout(
                        &mut self.header,
                        self.position + used as u64,
                        self.file_bytes,
                    )?;
                    Ok(Step::Data)
                }
                Step::Tensor => match tensor(&mut cursor, &self.tensor_names) {
                    Ok(info) => {
                        self.tensors_left -= 1;
                        self.tensor_names.insert(info.name.clone());
                        self.header.tensors.push(info);
                        Ok(Step::Tensor)
                    }
                    Err(stop) => {
                        self.step = Step::Tensor;
                        Err(stop)
                    }
                },
                step @ (Step::Data | Step::Failed(_)) => Ok(step),
            };
            let at = cursor.at;
            match read {
                Ok(step) => {
                    self.step = step;
                    used += at;
                }
                Err(Stop::Bad(error)) => return Err(error),
                Err(Stop::Short(needed)) => {
                    self.needed = needed;
                    self.buffer.drain(..used);
                    self.position += used as u64;
                    return Ok(());
                }
            }
        }
        self.buffer.drain(..used);
        self.position += used as u64;
        self.tensor_names = HashSet::new();
        Ok(())
    }

    fn data(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            let Some(t) = self.header.tensors.get(self.tensor) else {
                break;
            };
            let held = self.held_len;
            if self.position < t.offset {
                let skip = (t.offset - self.position).min(bytes.len() as u64) as usize;
                self.position += skip as u64;
                bytes = &bytes[skip..];
                continue;
            }
            let left = (t.bytes - self.given - held as u64).min(bytes.len() as u64) as usize;
            let (mut part, rest) = bytes.split_at(left);
            let (tensor, total) = (self.tensor, t.bytes);
            self.position += left as u64;
            bytes = rest;
            if held > 0 {
                let fill = (4 - held).min(part.len());
                self.held[held..held + fill].copy_from_slice(&part[..fill]);
                self.held_len += fill;
                part = &part[fill..];
                if self.held_len == 4 || self.given + self.held_len as u64 == total {
                    let (offset, len) = (self.given, self.held_len);
                    self.given += len as u64;
                    self.held_len = 0;
                    sink(Event::Data {
                        tensor,
                        offset,
                        bytes: &self.held[..len],
                    })?;
                }
            }
            let ends = self.given + part.len() as u64 == total;
            let whole = if ends { part.len() } else { part.len() & !3 };
            if whole > 0 {
                let offset = self.given;
                self.given += whole as u64;
                sink(Event::Data {
                    tensor,
                    offset,
                    bytes: &part[..whole],
                })?;
            }
            let loose = &part[whole..];
            if !loose.is_empty() {
                self.held[..loose.len()].copy_from_slice(loose);
                self.held_len = loose.len();
            }
            if self.given == total {
                self.tensor += 1;
                self.given = 0;
            }
        }
        self.position += bytes.len() as u64;
        Ok(())
    }
}

/// Turns the table's offsets into places in the file: tensors follow one another, each at the next
/// multiple of the alignment.
fn layout(header: &mut Header, header_end: u64, file_bytes: Option<u64>) -> Result<()> {
    let too_large = || bad("the tensors' sizes overflow 64 bits");
    header.data_offset = align(header_end, header.alignment).ok_or_else(too_large)?;
    header.file_bytes = header_end;
    let mut next = 0;
    for t in &mut header.tensors {
        if t.offset != next {
            return Err(bad(format!(
                "tensor {} starts at byte {} of the data, expected {next}: tensors must follow one another, aligned to {} bytes",
                t.name, t.offset, header.alignment
            )));
        }
        next = next
            .checked_add(t.bytes)
            .and_then(|end| align(end, header.alignment))
            .ok_or_else(too_large)?;
        t.offset = header
            .data_offset
            .checked_add(t.offset)
            .ok_or_else(too_large)?;
        header.file_bytes = t.offset.checked_add(t.bytes).ok_or_else(too_large)?;
        if let Some(found) = file_bytes.filter(|&found| found < header.file_bytes) {
            return Err(bad(format!(
                "tensor {} takes bytes {} to {}, but the file has {found}: it is cut off or damaged, fetch it again",
                t.name, t.offset, header.file_bytes
            )));
        }
    }
    Ok(())
}

/// Reads the header of a file that is all there, and checks that its data is too.
///
/// # Errors
/// As [`Parser::push`] and [`Parser::finish`].
pub fn parse(file: &[u8]) -> Result<Header> {
    let mut parser = Parser::for_file_of(file.len() as u64);
    parser.push(file, &mut |_| Ok(()))?;
    parser.finish()
}

/// Looks for NaN and infinities among the scales of tensors that pass by as [`Event::Data`].
///
/// llama.cpp does this where it is asked to check tensors: such a weight makes every answer
/// senseless.
#[derive(Debug, Default)]
pub struct FiniteCheck {
    tensor: usize,
    part: Vec<u8>,
}

impl FiniteCheck {
    /// Makes a check that has seen nothing.
    pub fn new() -> FiniteCheck {
        FiniteCheck::default()
    }

    /// Looks at a run of data. Runs must come in order; `index` tells tensors apart.
    ///
    /// # Errors
    /// [`Error::BadFile`] that names the tensor and the block.
    pub fn push(
        &mut self,
        index: usize,
        info: &TensorInfo,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let size = info.ty.block_bytes();
        if index != self.tensor || offset == 0 {
            self.tensor = index;
            self.part.clear();
        }
        let first = (offset - self.part.len() as u64) / size as u64;
        let mut rest = bytes;
        let mut bad_block = None;
        if !self.part.is_empty() {
            let fill = (size - self.part.len()).min(bytes.len());
            self.part.extend_from_slice(&bytes[..fill]);
            rest = &bytes[fill..];
            if self.part.len() < size {
                return Ok(());
            }
            bad_block = info.ty.first_not_finite(&self.part).map(|_| first);
        }
        let first = (offset + (bytes.len() - rest.len()) as u64) / size as u64;
        let block = bad_block.or_else(|| info.ty.first_not_finite(rest).map(|b| first + b as u64));
        if let Some(block) = block {
            let what = if info.ty.is_quantized() {
                "a scale of block"
            } else {
                "number"
            };
            return Err(bad(format!(
                "tensor {}: {what} {block} is not finite: the file is damaged",
                info.name
            )));
        }
        self.part.clear();
        self.part
            .extend_from_slice(&rest[rest.len() / size * size..]);
        Ok(())
    }
}

/// Reads little-endian numbers off the front of the buffer.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` starts in the file, and where the header must have ended at the latest.
    start: u64,
    end: u64,
    limit_is_file: bool,
}

impl<'a> Cursor<'a> {
    /// Refuses a claim of `n` more bytes that neither the file nor any sensible header holds.
    fn claim(&self, n: u64, what: &str) -> Item<()> {
        let position = self.start + self.at as u64;
        if position.checked_add(n).is_some_and(|end| end <= self.end) {
            return Ok(());
        }
        let limit = if self.limit_is_file {
            format!("the file has {} bytes", self.end)
        } else {
            format!("a header may have {} bytes", self.end)
        };
        Err(Stop::Bad(bad(format!(
            "{what} at byte {position} needs {n} bytes, but {limit}"
        ))))
    }

    fn take(&mut self, n: usize, what: &str) -> Item<&'a [u8]> {
        self.claim(n as u64, what)?;
        let end = self.at + n;
        let bytes = self.bytes.get(self.at..end).ok_or(Stop::Short(end))?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Item<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    fn u32(&mut self, what: &str) -> Item<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Item<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn string(&mut self, what: &str) -> Item<String> {
        let len = self.u64(what)?;
        self.claim(len, what)?;
        let len = usize::try_from(len).map_err(|_| bad(format!("{what} has {len} bytes")))?;
        let position = self.start + self.at as u64;
        let bytes = self.take(len, what)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| bad(format!("{what} at byte {position} is not UTF-8")))?;
        Ok(text.to_string())
    }
}

fn no_magic(bytes: &[u8]) -> Error {
    if let Some(advice) = impostor(bytes, Some(Signature::Gguf)) {
        return bad(format!("this {advice}"));
    }
    let shown = bytes[..bytes.len().min(4)].escape_ascii();
    bad(format!(
        "starts with \"{shown}\", expected \"GGUF\": this is another kind of file"
    ))
}

/// Magic, version, counts -> (tensors, entries).
fn start(cursor: &mut Cursor) -> Item<(u64, u64)> {
    if cursor.take(4, "the magic number")? != MAGIC {
        return Err(no_magic(cursor.bytes).into());
    }
    let version = cursor.u32("the version")?;
    if version & 0xffff == 0 {
        return Err(bad(
            "is big-endian, expected little-endian: convert it anew on this kind of machine",
        )
        .into());
    }
    if !(2..=VERSION).contains(&version) {
        return Err(bad(format!(
            "is of version {version}; versions 2 and {VERSION} are read: convert it anew"
        ))
        .into());
    }
    let (tensors, entries) = (
        cursor.u64("the number of tensors")?,
        cursor.u64("the number of entries")?,
    );
    // The least that a tensor and an entry can take.
    cursor.claim(
        tensors.saturating_mul(33),
        &format!("a table of {tensors} tensors"),
    )?;
    cursor.claim(
        entries.saturating_mul(14),
        &format!("metadata of {entries} entries"),
    )?;
    Ok((tensors, entries))
}

enum Entry {
    Value(Value),
    Array { left: u64, array: Array },
}

fn entry(cursor: &mut Cursor, metadata: &Metadata) -> Item<(String, Entry)> {
    let key = cursor.string("a metadata key")?;
    let wrong = |reason: String| {
        Stop::Bad(Error::BadMetadata {
            key: key.clone(),
            reason,
        })
    };
    if key.is_empty() {
        return Err(Stop::Bad(bad(format!(
            "metadata entry {} has an empty key",
            metadata.len()
        ))));
    }
    if metadata.contains(&key) {
        return Err(wrong("stands in the file twice".into()));
    }
    let ty = cursor.u32(&key)?;
    let value = match ty {
        0 => Value::U8(u8::from_le_bytes(cursor.array(&key)?)),
        1 => Value::I8(i8::from_le_bytes(cursor.array(&key)?)),
        2 => Value::U16(u16::from_le_bytes(cursor.array(&key)?)),
        3 => Value::I16(i16::from_le_bytes(cursor.array(&key)?)),
        4 => Value::U32(cursor.u32(&key)?),
        5 => Value::I32(i32::from_le_bytes(cursor.array(&key)?)),
        6 => Value::F32(f32::from_le_bytes(cursor.array(&key)?)),
        7 => Value::Bool(cursor.array::<1>(&key)? != [0]),
        8 => Value::String(cursor.string(&key)?),
        10 => Value::U64(cursor.u64(&key)?),
        11 => Value::I64(i64::from_le_bytes(cursor.array(&key)?)),
        12 => Value::F64(f64::from_le_bytes(cursor.array(&key)?)),
        9 => {
            let (ty, left) = (cursor.u32(&key)?, cursor.u64(&key)?);
            let array = match ty {
                0 => Array::U8(Vec::new()),
                1 => Array::I8(Vec::new()),
                2 => Array::U16(Vec::new()),
                3 => Array::I16(Vec::new()),
                4 => Array::U32(Vec::new()),
                5 => Array::I32(Vec::new()),
                6 => Array::F32(Vec::new()),
                7 => Array::Bool(Vec::new()),
                8 => Array::String(Vec::new()),
                10 => Array::U64(Vec::new()),
                11 => Array::I64(Vec::new()),
                12 => Array::F64(Vec::new()),
                9 => return Err(wrong("is an array of arrays, which is not read".into())),
                _ => return Err(wrong(format!("is an array of the unknown type {ty}"))),
            };
            let least = left.saturating_mul(element_bytes(&array) as u64);
            cursor.claim(least, &format!("{key}: an array of {left} elements"))?;
            return Ok((key, Entry::Array { left, array }));
        }
        _ => return Err(wrong(format!("is of the unknown type {ty}"))),
    };
    Ok((key, Entry::Value(value)))
}

/// The least bytes that an element takes in the file.
fn element_bytes(array: &Array) -> usize {
    match array {
        Array::U8(_) | Array::I8(_) | Array::Bool(_) => 1,
        Array::U16(_) | Array::I16(_) => 2,
        Array::U32(_) | Array::I32(_) | Array::F32(_) => 4,
        Array::U64(_) | Array::I64(_) | Array::F64(_) | Array::String(_) => 8,
    }
}

/// Reads as many of the `left` elements as are there, at least one -> how many.
fn elements(cursor: &mut Cursor, key: &str, left: u64, array: &mut Array) -> Item<u64> {
    if let Array::String(strings) = array {
        strings.push(cursor.string(key)?);
        return Ok(1);
    }
    let size = element_bytes(array);
    let count = left
        .min(((cursor.bytes.len() - cursor.at) / size) as u64)
        .max(1);
    let bytes = cursor.take(count as usize * size, key)?;
    macro_rules! append {
        ($v:expr, $t:ty) => {
            $v.extend(bytes.chunks_exact(size).map(|b| {
                let mut raw = [0; size_of::<$t>()];
                raw.copy_from_slice(b);
                <$t>::from_le_bytes(raw)
            }))
        };
    }
    match array {
        Array::U8(v) => v.extend_from_slice(bytes),
        Array::I8(v) => append!(v, i8),
        Array::U16(v) => append!(v, u16),
        Array::I16(v) => append!(v, i16),
        Array::U32(v) => append!(v, u32),
        Array::I32(v) => append!(v, i32),
        Array::F32(v) => append!(v, f32),
        Array::Bool(v) => v.extend(bytes.iter().map(|&b| b != 0)),
        Array::U64(v) => append!(v, u64),
        Array::I64(v) => append!(v, i64),
        Array::F64(v) => append!(v, f64),
        Array::String(_) => {}
    }
    Ok(count)
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    const KEY: &str = "general.alignment";
    match metadata.get(KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(n)) if n.is_power_of_two() => Ok((*n).into()),
        Some(found) => Err(Error::BadMetadata {
            key: KEY.into(),
            reason: format!(
                "is {found} ({}), expected a power of two (u32)",
                found.type_name()
            ),
        }),
    }
}

/// A row of the tensor table; `offset` still counts from the start of the data.
fn tensor(cursor: &mut Cursor, names: &HashSet<String>) -> Item<TensorInfo> {
    let name = cursor.string("a tensor's name")?;
    let fail = |reason: String| Stop::Bad(bad(format!("tensor {name}: {reason}")));
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(fail(format!(
            "the name has {} bytes, expected 1 to {MAX_NAME_BYTES}",
            name.len()
        )));
    }
    if names.contains(&name) {
        return Err(fail("stands in the file twice".into()));
    }
    let dims = cursor.u32(&name)? as usize;
    if !(1..=MAX_DIMS).contains(&dims) {
        return Err(fail(format!(
            "has {dims} dimensions, expected 1 to {MAX_DIMS}"
        )));
    }
    let mut shape = Vec::with_capacity(dims);
    for _ in 0..dims {
        shape.push(cursor.u64(&name)?);
    }
    let (id, offset) = (cursor.u32(&name)?, cursor.u64(&name)?);
    let ty = GgmlType::from_id(id).ok_or_else(|| Error::UnsupportedType {
        name: name.clone(),
        found: foreign_type_name(id),
        supported: supported_types(),
    })?;
    let size = tensor_size(&shape, ty)
        .map_err(|reason| fail(format!("{reason} (dimensions {shape:?}, {ty})")))?;
    shape.reverse();
    Ok(TensorInfo {
        name,
        ty,
        shape: shape.into_iter().map(|n| n as usize).collect(),
        offset,
        bytes: size,
    })
}

/// Bytes of a tensor whose dimensions are given innermost first.
fn tensor_size(dims: &[u64], ty: GgmlType) -> Result<u64, &'static str> {
    if dims.contains(&0) {
        return Err("a dimension is 0");
    }
    if !dims[0].is_multiple_of(ty.block_len() as u64) {
        return Err("a row is not a whole number of blocks");
    }
    let elements = dims
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(d))
        .ok_or("the number of elements overflows")?;
    // Also on a 32-bit target, where a single tensor of more numbers could not be addressed.
    usize::try_from(elements).map_err(|_| "the number of elements overflows")?;
    let bytes = (elements / ty.block_len() as u64).checked_mul(ty.block_bytes() as u64);
    bytes
        .filter(|&n| n <= i64::MAX as u64)
        .ok_or("the number of bytes overflows")
}
