//! GGUF metadata: an ordered map from keys to typed values.

use std::collections::HashMap;

use crate::{Error, Result};

/// A metadata value. Numbers keep the width they have in the file.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // The names are the types.
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of one element type. Arrays of arrays are not read, as llama.cpp doesn't.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // The names are the element types.
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Array {
    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::String(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F64(v) => v.len(),
        }
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn type_name(&self) -> &'static str {
        match self {
            Array::U8(_) => "array of u8",
            Array::I8(_) => "array of i8",
            Array::U16(_) => "array of u16",
            Array::I16(_) => "array of i16",
            Array::U32(_) => "array of u32",
            Array::I32(_) => "array of i32",
            Array::F32(_) => "array of f32",
            Array::Bool(_) => "array of bool",
            Array::String(_) => "array of strings",
            Array::U64(_) => "array of u64",
            Array::I64(_) => "array of i64",
            Array::F64(_) => "array of f64",
        }
    }

    pub(crate) fn integers(&self) -> Option<Vec<i64>> {
        match self {
            Array::U8(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::I8(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::U16(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::I16(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::U32(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::I32(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::U64(v) => v.iter().map(|&x| x.try_into().ok()).collect(),
            Array::I64(v) => Some(v.clone()),
            _ => None,
        }
    }
}

impl Value {
    /// Returns the type's name, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::U8(_) => "u8",
            Value::I8(_) => "i8",
            Value::U16(_) => "u16",
            Value::I16(_) => "i16",
            Value::U32(_) => "u32",
            Value::I32(_) => "i32",
            Value::F32(_) => "f32",
            Value::Bool(_) => "bool",
            Value::String(_) => "string",
            Value::Array(array) => array.type_name(),
            Value::U64(_) => "u64",
            Value::I64(_) => "i64",
            Value::F64(_) => "f64",
        }
    }

    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(x) => x.into(),
            Value::I8(x) => x.into(),
            Value::U16(x) => x.into(),
            Value::I16(x) => x.into(),
            Value::U32(x) => x.into(),
            Value::I32(x) => x.into(),
            Value::U64(x) => x.into(),
            Value::I64(x) => x.into(),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Value {
    /// One line for people: long strings and arrays are cut.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        fn string(s: &str) -> String {
            match s.char_indices().nth(60) {
                Some((end, _)) => format!("{:?}..", &s[..end]),
                None => format!("{s:?}"),
            }
        }
        fn list<T>(v: &[T], one: impl Fn(&T) -> String) -> String {
            let shown: Vec<String> = v.iter().take(6).map(one).collect();
            let rest = if v.len() > 6 {
                format!(", .. {} in all", v.len())
            } else {
                String::new()
            };
            format!("[{}{rest}]", shown.join(", "))
        }
        let text = match self {
            Value::U8(x) => x.to_string(),
            Value::I8(x) => x.to_string(),
            Value::U16(x) => x.to_string(),
            Value::I16(x) => x.to_string(),
            Value::U32(x) => x.to_string(),
            Value::I32(x) => x.to_string(),
            Value::F32(x) => x.to_string(),
            Value::Bool(x) => x.to_string(),
            Value::String(x) => string(x),
            Value::U64(x) => x.to_string(),
            Value::I64(x) => x.to_string(),
            Value::F64(x) => x.to_string(),
            Value::Array(Array::String(v)) => list(v, |x| string(x)),
            Value::Array(Array::Bool(v)) => list(v, bool::to_string),
            Value::Array(Array::F32(v)) => list(v, f32::to_string),
            Value::Array(Array::F64(v)) => list(v, f64::to_string),
            Value::Array(Array::U64(v)) => list(v, u64::to_string),
            Value::Array(array) => list(&array.integers().unwrap_or_default(), i64::to_string),
        };
        f.write_str(&text)
    }
}

macro_rules! from {
    ($($t:ty => $wrap:expr),* $(,)?) => { $(
        impl From<$t> for Value {
            fn from(x: $t) -> Value {
                $wrap(x)
            }
        }
    )* };
}
from! {
    u8 => Value::U8, i8 => Value::I8, u16 => Value::U16, i16 => Value::I16, u32 => Value::U32, i32 => Value::I32,
    u64 => Value::U64, i64 => Value::I64, f32 => Value::F32, f64 => Value::F64, bool => Value::Bool, String => Value::String,
    &str => |s: &str| Value::String(s.to_string()),
    Vec<u8> => |v| Value::Array(Array::U8(v)),
    Vec<u32> => |v| Value::Array(Array::U32(v)),
    Vec<i32> => |v| Value::Array(Array::I32(v)),
    Vec<f32> => |v| Value::Array(Array::F32(v)),
    Vec<bool> => |v| Value::Array(Array::Bool(v)),
    Vec<String> => |v| Value::Array(Array::String(v)),
}

/// The metadata of a GGUF file, in file order.
///
/// The getters take integers of any width that fit, and say what they found otherwise.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Metadata {
    /// Makes metadata without entries.
    pub fn new() -> Metadata {
        Metadata::default()
    }

    /// Sets a key; a key that is there already keeps its place.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.index.get(&key) {
            Some(&i) => self.entries[i].1 = value,
            None => {
                self.index.insert(key.clone(), self.entries.len());
                self.entries.push((key, value));
            }
        }
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].1)
    }

    /// Returns whether the key is there.
    pub fn contains(&self, key: &str) -> bool {
        self.index.contains_key(key)
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn opt<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| Error::BadMetadata {
                key: key.to_string(),
                reason: format!("is {value} ({}), expected {wanted}", value.type_name()),
            }),
        }
    }

    fn required<T>(&self, key: &str, found: Option<T>) -> Result<T> {
        found.ok_or_else(|| Error::BadMetadata {
            key: key.to_string(),
            reason: "is missing".into(),
        })
    }

    /// Reads an integer from 0 to 2^32 - 1.
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.required(key, self.opt_u32(key)?)
    }

    /// Like [`Metadata::u32`]; `None` where the key is absent.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        self.opt(key, "an integer from 0 to 4294967295", |v| {
            v.integer()?.try_into().ok()
        })
    }

    /// Reads an integer from 0 to 2^64 - 1.
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.required(key, self.opt_u64(key)?)
    }

    /// Like [`Metadata::u64`]; `None` where the key is absent.
    pub fn opt_u64(&self, key: &str) -> Result<Option<u64>> {
        self.opt(key, "an integer from 0 to 2^64 - 1", |v| {
            v.integer()?.try_into().ok()
        })
    }

    /// Reads an integer from -2^31 to 2^31 - 1.
    pub fn i32(&self, key: &str) -> Result<i32> {
        self.required(key, self.opt_i32(key)?)
    }

    /// Like [`Metadata::i32`]; `None` where the key is absent.
    pub fn opt_i32(&self, key: &str) -> Result<Option<i32>> {
        self.opt(key, "an integer from -2147483648 to 2147483647", |v| {
            v.integer()?.try_into().ok()
        })
    }

    /// Reads a finite number, stored as f32 or f64.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.required(key, self.opt_f32(key)?)
    }

    /// Like [`Metadata::f32`]; `None` where the key is absent.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.opt(key, "a finite floating-point number", |v| {
            let x = match *v {
                Value::F32(x) => x,
                Value::F64(x) => x as f32,
                _ => return None,
            };
            x.is_finite().then_some(x)
        })
    }

    /// Reads a truth value.
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.required(key, self.opt_bool(key)?)
    }

    /// Like [`Metadata::bool`]; `None` where the key is absent.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.opt(key, "a bool", |v| {
            if let Value::Bool(x) = *v {
                Some(x)
            } else {
                None
            }
        })
    }

    /// Reads a string.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.required(key, self.opt_str(key)?)
    }

    /// Like [`Metadata::str`]; `None` where the key is absent.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        self.opt(key, "a string", |v| {
            if let Value::String(x) = v {
                Some(x.as_str())
            } else {
                None
            }
        })
    }

    /// Reads an array of strings.
    pub fn strings(&self, key: &str) -> Result<&[String]> {
        self.required(key, self.opt_strings(key)?)
    }

    /// Like [`Metadata::strings`]; `None` where the key is absent.
    pub fn opt_strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.opt(key, "an array of strings", |v| match v {
            Value::Array(Array::String(x)) => Some(x.as_slice()),
            _ => None,
        })
    }

    /// Reads an array of f32. The numbers are as they stand in the file, NaN included.
    pub fn f32s(&self, key: &str) -> Result<&[f32]> {
        self.required(key, self.opt_f32s(key)?)
    }

    /// Like [`Metadata::f32s`]; `None` where the key is absent.
    pub fn opt_f32s(&self, key: &str) -> Result<Option<&[f32]>> {
        self.opt(key, "an array of f32", |v| match v {
            Value::Array(Array::F32(x)) => Some(x.as_slice()),
            _ => None,
        })
    }

    /// Reads an array of integers of any width.
    pub fn ints(&self, key: &str) -> Result<Vec<i64>> {
        self.required(key, self.opt_ints(key)?)
    }

    /// Like [`Metadata::ints`]; `None` where the key is absent.
    pub fn opt_ints(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.opt(key, "an array of integers", |v| match v {
            Value::Array(array) => array.integers(),
            _ => None,
        })
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Metadata {
        let mut metadata = Metadata::new();
        for (key, value) in entries {
            metadata.insert(key, value);
        }
        metadata
    }
}
