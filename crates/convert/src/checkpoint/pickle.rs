//! The pickle inside a file of `torch.save`: a dictionary from names to tensors.
//!
//! A pickle is a program for a small stack machine that may call anything. This reader knows the
//! few instructions and the few functions that describe a dictionary of tensors, builds those
//! descriptions itself, and refuses everything else. It allocates in proportion to the bytes that
//! it has read.

use std::collections::HashMap;
use std::rc::Rc;

use univi::{Error, Result};

use super::stored::Dtype;

/// A tensor as the pickle describes it; nothing is checked against the archive yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub name: String,
    /// The entry of the archive that holds the numbers.
    pub storage: String,
    pub dtype: Dtype,
    /// In numbers, from the start of the storage.
    pub offset: u64,
    pub shape: Vec<usize>,
    pub stride: Vec<usize>,
}

/// What stands on the stack. Everything is cheap to clone: the memo hands out copies.
#[derive(Debug, Clone)]
enum Object {
    Mark,
    /// None, truth values, floats, lists: may stand somewhere, mean nothing here.
    Other,
    Int(i64),
    Text(Rc<str>),
    /// The depth keeps a tower of tuples from being deeper than the stack that drops it.
    Tuple {
        items: Rc<[Object]>,
        depth: usize,
    },
    Global(Rc<str>),
    /// What comes out of the memo for a dictionary has no entries: those of torch.save are never
    /// shared.
    Dict(Entries),
    Storage(Rc<Storage>),
    Tensor(Rc<Tensor>),
}

#[derive(Debug, Clone, Default)]
struct Entries(Vec<(Rc<str>, Rc<Tensor>)>);

#[derive(Debug)]
struct Storage {
    dtype: Dtype,
    key: String,
}

#[derive(Debug)]
struct Tensor {
    storage: Rc<Storage>,
    offset: u64,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

const MAX_TUPLE_DEPTH: usize = 16;

fn bad(reason: impl std::fmt::Display) -> Error {
    Error::BadFile {
        format: "PyTorch checkpoint",
        reason: format!("data.pkl: {reason}"),
    }
}

fn not_a_state_dict(what: impl std::fmt::Display) -> Error {
    bad(format!(
        "{what}: this is no plain dictionary of tensors, and nothing else in a pickle is trusted; use safetensors"
    ))
}

/// Reads the dictionary. Entries that are no tensors are left out.
pub(super) fn state_dict(bytes: &[u8]) -> Result<Vec<Described>> {
    let entries = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        memo: HashMap::new(),
    }
    .run()?;
    let described = |(name, tensor): (Rc<str>, Rc<Tensor>)| Described {
        name: name.to_string(),
        storage: tensor.storage.key.clone(),
        dtype: tensor.storage.dtype.clone(),
        offset: tensor.offset,
        shape: tensor.shape.clone(),
        stride: tensor.stride.clone(),
    };
    Ok(entries.into_iter().map(described).collect())
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Object>,
    memo: HashMap<u32, Object>,
}

impl<'a> Machine<'a> {
    fn run(mut self) -> Result<Vec<(Rc<str>, Rc<Tensor>)>> {
        loop {
            let at = self.at;
            match self.byte()? {
                0x80 => match self.byte()? {
                    2..=5 => {}
                    version => {
                        return Err(bad(format!("is of protocol {version}, expected 2 to 5")));
                    }
                },
                // A frame: how many bytes follow matters to readers of streams alone.
                0x95 => {
                    self.take(8)?;
                }
                b'.' => {
                    return match self.pop()? {
                        Object::Dict(Entries(entries)) => Ok(entries),
                        _ => Err(not_a_state_dict("holds no dictionary")),
                    };
                }
                b'(' => self.push(Object::Mark),
                b'N' | 0x88 | 0x89 | b']' => self.push(Object::Other),
                b'G' => {
                    self.take(8)?;
                    self.push(Object::Other);
                }
                b'K' => {
                    let n = self.byte()?;
                    self.push(Object::Int(n.into()));
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.array()?);
                    self.push(Object::Int(n.into()));
                }
                b'J' => {
                    let n = i32::from_le_bytes(self.array()?);
                    self.push(Object::Int(n.into()));
                }
                0x8a => {
                    let n = self.long()?;
                    self.push(Object::Int(n));
                }
                b'X' => {
                    let len = u32::from_le_bytes(self.array()?);
                    self.text(len as usize)?;
                }
                0x8c => {
                    let len = self.byte()?;
                    self.text(len.into())?;
                }
                b'}' => self.push(Object::Dict(Entries::default())),
                b')' => self.tuple(Vec::new())?,
                0x85..=0x87 => {
                    let items = self.last((self.bytes[at] - 0x84).into())?;
                    self.tuple(items)?;
                }
                b't' => {
                    let items = self.since_mark()?;
                    self.tuple(items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Object::Global(format!("{module}.{name}").into()));
                }
                0x93 => {
                    let &[Object::Text(ref module), Object::Text(ref name)] = &self.last(2)?[..]
                    else {
                        return Err(not_a_state_dict(
                            "names a function by something that is no text",
                        ));
                    };
                    self.push(Object::Global(format!("{module}.{name}").into()));
                }
                b'q' => {
                    let slot = self.byte()?;
                    self.remember(slot.into())?;
                }
                b'r' => {
                    let slot = u32::from_le_bytes(self.array()?);
                    self.remember(slot)?;
                }
                0x94 => self.remember(self.memo.len() as u32)?,
                b'h' => {
                    let slot = self.byte()?;
                    self.recall(slot.into())?;
                }
                b'j' => {
                    let slot = u32::from_le_bytes(self.array()?);
                    self.recall(slot)?;
                }
                b'a' => {
                    self.pop()?;
                }
                b'e' => {
                    self.since_mark()?;
                }
                b's' => {
                    let pair = self.last(2)?;
                    self.set(pair)?;
                }
                b'u' => {
                    let pairs = self.since_mark()?;
                    self.set(pairs)?;
                }
                // Attributes of a dictionary: versions of modules.
                b'b' => {
                    self.pop()?;
                    if !matches!(self.stack.last(), Some(Object::Dict(_))) {
                        return Err(not_a_state_dict("sets attributes of an object"));
                    }
                }
                b'Q' => {
                    let storage = storage(self.pop()?)?;
                    self.push(Object::Storage(Rc::new(storage)));
                }
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    let (Object::Global(function), Object::Tuple { items, .. }) =
                        (function, arguments)
                    else {
                        return Err(not_a_state_dict("calls something that is no function"));
                    };
                    let made = call(&function, &items)?;
                    self.push(made);
                }
                other => {
                    return Err(not_a_state_dict(format!(
                        "instruction {other:#04x} at byte {at}"
                    )));
                }
            }
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n);
        let bytes = end.and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or_else(|| {
            bad(format!(
                "breaks off after {} bytes: download the file again",
                self.bytes.len()
            ))
        })?;
        self.at += n;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// An integer of up to eight bytes, least significant first, in two's complement.
    fn long(&mut self) -> Result<i64> {
        let len = self.byte()? as usize;
        let bytes = self.take(len)?;
        if len > 8 {
            return Err(bad(format!("holds an integer of {len} bytes")));
        }
        let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) {
            0xff
        } else {
            0
        };
        let mut all = [sign; 8];
        all[..len].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(all))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
        let line = std::str::from_utf8(self.take(end)?)
            .map_err(|_| bad("holds a name that is not UTF-8"))?;
        self.take(1)?;
        Ok(line)
    }

    fn text(&mut self, len: usize) -> Result<()> {
        let text = std::str::from_utf8(self.take(len)?)
            .map_err(|_| bad("holds text that is not UTF-8"))?;
        self.push(Object::Text(text.into()));
        Ok(())
    }

    fn push(&mut self, object: Object) {
        self.stack.push(object);
    }

    fn pop(&mut self) -> Result<Object> {
        match self.stack.pop() {
            None | Some(Object::Mark) => Err(bad("takes more off the stack than there is")),
            Some(object) => Ok(object),
        }
    }

    fn last(&mut self, n: usize) -> Result<Vec<Object>> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        items.reverse();
        Ok(items)
    }

    fn since_mark(&mut self) -> Result<Vec<Object>> {
        let mark = self
            .stack
            .iter()
            .rposition(|object| matches!(object, Object::Mark));
        let mark = mark.ok_or_else(|| bad("closes what was not opened"))?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn tuple(&mut self, items: Vec<Object>) -> Result<()> {
        let deepest = items
            .iter()
            .map(|item| {
                if let Object::Tuple { depth, .. } = item {
                    *depth
                } else {
                    0
                }
            })
            .max();
        let depth = deepest.unwrap_or(0) + 1;
        if depth > MAX_TUPLE_DEPTH {
            return Err(not_a_state_dict("nests tuples"));
        }
        self.push(Object::Tuple {
            items: items.into(),
            depth,
        });
        Ok(())
    }

    fn remember(&mut self, slot: u32) -> Result<()> {
        let copy = match self.stack.last() {
            None | Some(Object::Mark) => return Err(bad("remembers what is not there")),
            Some(Object::Dict(_)) => Object::Dict(Entries::default()),
            Some(object) => object.clone(),
        };
        self.memo.insert(slot, copy);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<()> {
        let object = self
            .memo
            .get(&slot)
            .cloned()
            .ok_or_else(|| bad("recalls what it never remembered"))?;
        self.push(object);
        Ok(())
    }

    /// Adds pairs of keys and values to the dictionary on the stack.
    fn set(&mut self, pairs: Vec<Object>) -> Result<()> {
        let Some(Object::Dict(Entries(entries))) = self.stack.last_mut() else {
            return Err(not_a_state_dict(
                "sets items of something that is no dictionary",
            ));
        };
        if !pairs.len().is_multiple_of(2) {
            return Err(bad("holds a key without a value"));
        }
        for pair in pairs.chunks_exact(2) {
            if let [Object::Text(name), Object::Tensor(tensor)] = pair {
                entries.push((name.clone(), tensor.clone()));
            }
        }
        Ok(())
    }
}

/// The functions that torch.save of a dictionary names, done here and now.
fn call(function: &str, arguments: &[Object]) -> Result<Object> {
    match (function, arguments) {
        ("collections.OrderedDict", []) => Ok(Object::Dict(Entries::default())),
        ("torch._utils._rebuild_parameter", [tensor @ Object::Tensor(_), ..]) => Ok(tensor.clone()),
        (
            "torch._utils._rebuild_tensor_v2",
            [
                Object::Storage(storage),
                Object::Int(offset),
                Object::Tuple { items: shape, .. },
                Object::Tuple { items: stride, .. },
                ..,
            ],
        ) => Ok(Object::Tensor(Rc::new(Tensor {
            storage: storage.clone(),
            offset: u64::try_from(*offset)
                .map_err(|_| bad(format!("a tensor starts at number {offset}")))?,
            shape: dims(shape)?,
            stride: dims(stride)?,
        }))),
        (
            "torch._utils._rebuild_tensor_v2"
            | "torch._utils._rebuild_parameter"
            | "collections.OrderedDict",
            _,
        ) => Err(not_a_state_dict(format!(
            "gives {function} arguments that are not known"
        ))),
        _ => Err(not_a_state_dict(format!("wants to call {function}"))),
    }
}

fn dims(items: &[Object]) -> Result<Vec<usize>> {
    let dim = |item: &Object| match item {
        Object::Int(n) => usize::try_from(*n).ok(),
        _ => None,
    };
    items
        .iter()
        .map(dim)
        .collect::<Option<_>>()
        .ok_or_else(|| bad("a tensor's dimensions are not whole numbers"))
}

/// The five things that torch.save says about a storage: its kind, type, key, device and length.
fn storage(id: Object) -> Result<Storage> {
    let unknown = || not_a_state_dict("refers to something that is no storage");
    let Object::Tuple { items, .. } = id else {
        return Err(unknown());
    };
    let [
        Object::Text(kind),
        Object::Global(ty),
        Object::Text(key),
        ..,
    ] = &items[..]
    else {
        return Err(unknown());
    };
    if &**kind != "storage" {
        return Err(unknown());
    }
    let name = ty
        .strip_prefix("torch.")
        .and_then(|ty| ty.strip_suffix("Storage"))
        .ok_or_else(unknown)?;
    let bits = match name {
        "ComplexDouble" => 128,
        "Long" | "ComplexFloat" => 64,
        "Int" | "QInt32" => 32,
        "Short" => 16,
        _ => 8,
    };
    let dtype = match name {
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        "Float" => Dtype::F32,
        "Double" => Dtype::F64,
        _ => Dtype::Other {
            name: name.to_string(),
            bits,
        },
    };
    Ok(Storage {
        dtype,
        key: key.to_string(),
    })
}
