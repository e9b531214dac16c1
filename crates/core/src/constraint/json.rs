//! JSON as schemas are read: objects keep the order of their names.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::refusal::refused;
use crate::Result;

/// The largest number that counts something.
const MAX_COUNT: u64 = 65_536;

/// JSON with the names of objects in their order, which is that of the answer; `serde_json::Value`
/// sorts them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(entries) => entries
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    pub(super) fn object(&self, place: &str) -> Result<&[(String, Json)]> {
        match self {
            Json::Object(entries) => Ok(entries),
            _ => Err(refused(format!("{place} must be an object"))),
        }
    }

    /// With an item at least.
    pub(super) fn list(&self, place: &str) -> Result<&[Json]> {
        match self {
            Json::List(items) if !items.is_empty() || place.ends_with("required") => Ok(items),
            _ => Err(refused(format!("{place} must be a list of at least one"))),
        }
    }

    pub(super) fn text(&self, place: &str) -> Result<&str> {
        match self {
            Json::Text(text) => Ok(text),
            _ => Err(refused(format!("{place} must be a text"))),
        }
    }

    pub(super) fn number(&self, place: &str) -> Result<f64> {
        match self {
            Json::Number(number) => Ok(number.as_f64().unwrap_or(0.0)),
            _ => Err(refused(format!("{place} must be a number"))),
        }
    }

    pub(super) fn count(&self, place: &str) -> Result<u32> {
        let count = match self {
            Json::Number(number) => number.as_u64().filter(|count| *count <= MAX_COUNT),
            _ => None,
        };
        count.map(|count| count as u32).ok_or_else(|| {
            refused(format!(
                "{place} must be a whole number of at most {MAX_COUNT}"
            ))
        })
    }

    /// What a JSON pointer leads to, as `$ref` writes one: with `~0`, `~1` and percent signs.
    pub(super) fn pointed_to(&self, reference: &str) -> Option<&Json> {
        let mut at = self;
        for step in reference.strip_prefix('#')?.split('/').skip(1) {
            let step = percent_decoded(step)?.replace("~1", "/").replace("~0", "~");
            at = match at {
                Json::List(items) => items.get(step.parse::<usize>().ok()?)?,
                other => other.get(&step)?,
            };
        }
        Some(at)
    }

    pub(super) fn is_of(&self, name: &str) -> bool {
        match self {
            Json::Null => name == "null",
            Json::Bool(_) => name == "boolean",
            Json::Number(number) => {
                name == "number"
                    || (name == "integer" && number.as_f64().is_some_and(|n| n.fract() == 0.0))
            }
            Json::Text(_) => name == "string",
            Json::List(_) => name == "array",
            Json::Object(_) => name == "object",
        }
    }
}

/// As JSON, without white space.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Number(number) => write!(f, "{number}"),
            Json::Text(text) => f.write_str(&quoted(text)),
            Json::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Json::Object(entries) => {
                f.write_str("{")?;
                for (i, (name, value)) in entries.iter().enumerate() {
                    write!(
                        f,
                        "{}{}:{value}",
                        if i > 0 { "," } else { "" },
                        quoted(name)
                    )?;
                }
                f.write_str("}")
            }
        }
    }
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Json, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
            }
            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::Text(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Json::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
                let mut object = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    object.push(entry);
                }
                Ok(Json::Object(object))
            }
        }
        from.deserialize_any(Any)
    }
}

/// `a%20b` -> `a b`.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let hex = |byte: u8| char::from(byte).to_digit(16);
        match (byte, behind) {
            (b'%', [high, low, behind @ ..]) => {
                bytes.push((hex(*high)? * 16 + hex(*low)?) as u8);
                rest = behind;
            }
            (b'%', _) => return None,
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}
