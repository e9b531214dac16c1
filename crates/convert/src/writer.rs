//! Writing GGUF files, one tensor after the other.

use std::collections::HashSet;
use std::io::Write;

use univi::{
    Error, Result,
    gguf::{
        Array, DEFAULT_ALIGNMENT, GgmlType, Header, MAGIC, MAX_DIMS, MAX_NAME_BYTES, Metadata,
        TensorInfo, VERSION, Value, align,
    },
};

use crate::bad;

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// The name in the file, at most 63 bytes.
    pub name: String,
    /// How its numbers are stored.
    pub ty: GgmlType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Returns the bytes of the data.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where rows are not whole blocks or the size overflows.
    pub fn bytes(&self) -> Result<u64> {
        let cols = self.shape.last().copied().unwrap_or(0);
        let row = self.ty.row_bytes(cols).map_err(|e| Error::BadRequest {
            reason: format!("tensor {}: {e}", self.name),
        })?;
        let mut rows = self.shape[..self.shape.len().saturating_sub(1)].iter();
        let bytes = rows
            .try_fold(row as u64, |n, &d| n.checked_mul(d as u64))
            .filter(|&n| n > 0 && n <= i64::MAX as u64);
        bytes.ok_or_else(|| Error::BadRequest {
            reason: format!("tensor {} can't have the shape {:?}", self.name, self.shape),
        })
    }
}

/// Checks what the reader will check.
///
/// # Errors
/// [`Error::BadRequest`] that names the tensor.
pub fn check_specs(tensors: &[TensorSpec]) -> Result<()> {
    let mut names = HashSet::new();
    for t in tensors {
        let refuse = |reason: &str| {
            Err(Error::BadRequest {
                reason: format!("tensor {}: {reason}", t.name),
            })
        };
        if t.name.is_empty() || t.name.len() > MAX_NAME_BYTES {
            return refuse("the name must have 1 to 63 bytes");
        }
        if !(1..=MAX_DIMS).contains(&t.shape.len()) {
            return refuse("there must be 1 to 4 dimensions");
        }
        if !names.insert(&t.name) {
            return refuse("the name stands twice");
        }
        t.bytes()?;
    }
    Ok(())
}

/// Writes one GGUF file: the header at once, then the data of each tensor in order.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    header: Header,
    tensor: usize,
    written: u64,
}

/// Returns the first bytes of a file, up to the data of its first tensor, and the header as the
/// parser will give it back.
///
/// # Errors
/// [`Error::BadRequest`] for tensors that the reader would refuse.
pub fn header(metadata: &Metadata, tensors: &[TensorSpec]) -> Result<(Vec<u8>, Header)> {
    check_specs(tensors)?;
    let alignment = match metadata.opt_u32("general.alignment")? {
        None => DEFAULT_ALIGNMENT,
        Some(n) if n.is_power_of_two() => n.into(),
        Some(n) => {
            return Err(bad(format!(
                "general.alignment is {n}, expected a power of two"
            )));
        }
    };
    let mut head = Vec::new();
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    head.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        string(&mut head, key);
        self::value(&mut head, value);
    }
    let overflow = || bad("the tensors' sizes overflow 64 bits");
    let mut next = 0u64;
    let mut infos = Vec::with_capacity(tensors.len());
    for t in tensors {
        string(&mut head, &t.name);
        head.extend_from_slice(&(t.shape.len() as u32).to_le_bytes());
        for d in t.shape.iter().rev() {
            head.extend_from_slice(&(*d as u64).to_le_bytes());
        }
        head.extend_from_slice(&t.ty.id().to_le_bytes());
        head.extend_from_slice(&next.to_le_bytes());
        let bytes = t.bytes()?;
        infos.push(TensorInfo {
            name: t.name.clone(),
            ty: t.ty,
            shape: t.shape.clone(),
            offset: next,
            bytes,
        });
        next = next
            .checked_add(bytes)
            .and_then(|end| align(end, alignment))
            .ok_or_else(overflow)?;
    }
    let mut file_bytes = head.len() as u64;
    let data_offset = align(file_bytes, alignment).ok_or_else(overflow)?;
    for t in &mut infos {
        t.offset = t.offset.checked_add(data_offset).ok_or_else(overflow)?;
        file_bytes = t.offset.checked_add(t.bytes).ok_or_else(overflow)?;
    }
    head.resize(data_offset as usize, 0);
    let header = Header {
        metadata: metadata.clone(),
        tensors: infos,
        data_offset,
        alignment,
        file_bytes,
    };
    Ok((head, header))
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for tensors that the reader would refuse, [`Error::Io`] of `out`.
    pub fn new(mut out: W, metadata: &Metadata, tensors: &[TensorSpec]) -> Result<Writer<W>> {
        let (head, header) = header(metadata, tensors)?;
        out.write_all(&head).map_err(io)?;
        Ok(Writer {
            out,
            header,
            tensor: 0,
            written: 0,
        })
    }

    /// Returns the header as the parser will give it back.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Writes the next bytes of data: a tensor may come in pieces, a piece may not reach into the
    /// next tensor.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for more bytes than the tensor has, [`Error::Io`] of `out`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let t = self.header.tensors.get(self.tensor);
        let Some(t) = t.filter(|t| bytes.len() as u64 <= t.bytes - self.written) else {
            let name = t.map_or("the last tensor", |t| &t.name);
            return Err(Error::BadRequest {
                reason: format!("{} bytes are more than {name} has left", bytes.len()),
            });
        };
        self.out.write_all(bytes).map_err(io)?;
        self.written += bytes.len() as u64;
        if self.written == t.bytes {
            let end = t.bytes;
            let padded = align(end, self.header.alignment)
                .ok_or_else(|| bad("the tensors' sizes overflow 64 bits"))?;
            std::io::copy(
                &mut std::io::Read::take(std::io::repeat(0), padded - end),
                &mut self.out,
            )
            .map_err(io)?;
            self.tensor += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Checks that all data was written and gives `out` back, flushed.
    ///
    /// # Errors
    /// [`Error::BadRequest`] that names the tensor without data, [`Error::Io`] of `out`.
    pub fn finish(mut self) -> Result<W> {
        if let Some(t) = self.header.tensors.get(self.tensor) {
            let reason = format!(
                "tensor {} has {} bytes, only {} were written",
                t.name, t.bytes, self.written
            );
            return Err(Error::BadRequest { reason });
        }
        self.out.flush().map_err(io)?;
        Ok(self.out)
    }
}

fn io(error: std::io::Error) -> Error {
    Error::Io {
        reason: error.to_string(),
    }
}

fn string(out: &mut Vec<u8>, s: &str) {
    out.extend_from_slice(&(s.len() as u64).to_le_bytes());
    out.extend_from_slice(s.as_bytes());
}

fn value(out: &mut Vec<u8>, value: &Value) {
    macro_rules! number {
        ($id:expr, $x:expr) => {{
            out.extend_from_slice(&u32::to_le_bytes($id));
            out.extend_from_slice(&$x.to_le_bytes());
        }};
    }
    match value {
        Value::U8(x) => number!(0, x),
        Value::I8(x) => number!(1, x),
        Value::U16(x) => number!(2, x),
        Value::I16(x) => number!(3, x),
        Value::U32(x) => number!(4, x),
        Value::I32(x) => number!(5, x),
        Value::F32(x) => number!(6, x),
        Value::Bool(x) => number!(7, u8::from(*x)),
        Value::U64(x) => number!(10, x),
        Value::I64(x) => number!(11, x),
        Value::F64(x) => number!(12, x),
        Value::String(x) => {
            out.extend_from_slice(&8u32.to_le_bytes());
            string(out, x);
        }
        Value::Array(array) => {
            out.extend_from_slice(&9u32.to_le_bytes());
            self::array(out, array);
        }
    }
}

fn array(out: &mut Vec<u8>, array: &Array) {
    let len = array.len() as u64;
    macro_rules! numbers {
        ($id:expr, $v:expr) => {{
            out.extend_from_slice(&u32::to_le_bytes($id));
            out.extend_from_slice(&len.to_le_bytes());
            out.extend($v.iter().flat_map(|x| x.to_le_bytes()));
        }};
    }
    match array {
        Array::U8(v) => numbers!(0, v),
        Array::I8(v) => numbers!(1, v),
        Array::U16(v) => numbers!(2, v),
        Array::I16(v) => numbers!(3, v),
        Array::U32(v) => numbers!(4, v),
        Array::I32(v) => numbers!(5, v),
        Array::F32(v) => numbers!(6, v),
        Array::Bool(v) => numbers!(7, v.iter().map(|&x| u8::from(x)).collect::<Vec<u8>>()),
        Array::U64(v) => numbers!(10, v),
        Array::I64(v) => numbers!(11, v),
        Array::F64(v) => numbers!(12, v),
        Array::String(v) => {
            out.extend_from_slice(&8u32.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
            v.iter().for_each(|s| string(out, s));
        }
    }
}
