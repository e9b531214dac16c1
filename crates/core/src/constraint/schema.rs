//! JSON schemas, checked and compiled.

use std::{collections::HashMap, fmt, rc::Rc};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::{
    machine::{Instruction as I, MAX_INTEGER},
    refused,
};
use crate::Result;

/// The longest schema, in bytes of JSON text.
const MAX_BYTES: usize = 64 * 1024;

/// The most schemas that lie in each other: compiling them takes stack.
const MAX_DEPTH: usize = 32;

/// The largest number that counts something.
const MAX_COUNT: u64 = 65_536;

/// Keywords that are heeded, besides those of [`NOTES`].
const KEYWORDS: &str = "type, enum, const, anyOf, $ref, $defs, properties, required, additionalProperties, items, minItems, maxItems, \
     minLength, maxLength, minimum, maximum, exclusiveMinimum, exclusiveMaximum";

/// Keywords that say nothing about what is valid.
const NOTES: [&str; 10] = [
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
];

/// Where `$ref` may point into.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// Keywords that say all about a value by themselves: what stands beside them would have to be
/// multiplied out.
const ALONE: [&str; 4] = ["enum", "const", "anyOf", "$ref"];

/// Keywords that only say something about values of one type.
const OF_TYPE: [(&str, &[&str]); 4] = [
    (
        "object",
        &["properties", "required", "additionalProperties"],
    ),
    ("array", &["items", "minItems", "maxItems"]),
    ("string", &["minLength", "maxLength"]),
    (
        "integer",
        &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
    ),
];

const TYPES: [&str; 7] = [
    "object", "array", "string", "integer", "number", "boolean", "null",
];

/// A JSON schema that an answer can be held to.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema(Rc<Vec<I>>);

impl Schema {
    /// Reads a schema. Properties are answered in the order in which it names them, and where it
    /// names any, without others.
    ///
    /// # Errors
    /// `BadRequest` for text that is no JSON, for what is not supported, with the place where it
    /// stands, and for a schema that is too long or too deep.
    pub fn parse(json: &str) -> Result<Schema> {
        if json.len() > MAX_BYTES {
            return Err(refused(format!(
                "it has {} bytes, at most {MAX_BYTES} are supported",
                json.len()
            )));
        }
        let root: Json = serde_json::from_str(json)
            .map_err(|e| refused(format!("it can't be read as JSON: {e}")))?;
        if !matches!(root, Json::Object(_)) {
            return Err(refused("it must be an object"));
        }
        let mut compiler = Compiler {
            root: &root,
            program: Vec::new(),
            routines: HashMap::new(),
            calls: Vec::new(),
            open: Vec::new(),
        };
        compiler.call("#", Some(&root));
        compiler.push(I::End);
        for group in DEFINITIONS {
            let definitions = root.get(group).map(|d| d.object(&format!("#/{group}")));
            for (name, definition) in definitions.transpose()?.into_iter().flatten() {
                compiler.name(format!("#/{group}/{name}"), Some(definition));
            }
        }
        Ok(Schema(Rc::new(compiler.finish()?)))
    }

    pub(super) fn program(&self) -> Rc<Vec<I>> {
        self.0.clone()
    }
}

/// Writes a program: each value becomes instructions that read it and go on behind themselves. What
/// `$ref` names becomes a routine, written after what names it, so that a long chain of names takes
/// no stack.
struct Compiler<'a> {
    root: &'a Json,
    program: Vec<I>,
    /// Where each routine begins, by `$ref`; `usize::MAX` before it is written.
    routines: HashMap<String, usize>,
    /// Calls, and what they call.
    calls: Vec<(usize, String)>,
    /// Routines that are not written yet; `None` is any value.
    open: Vec<(String, Option<&'a Json>)>,
}

/// The name of the routine for any value: no `$ref`.
const ANY: &str = "";

/// What a list or an object may have inside.
enum Items<'a> {
    Any,
    Of(&'a Json, String),
}

impl<'a> Compiler<'a> {
    fn finish(mut self) -> Result<Vec<I>> {
        while let Some((name, schema)) = self.open.pop() {
            self.routines.insert(name.clone(), self.program.len());
            match schema {
                Some(schema) => self.schema(schema, &name, 1)?,
                None => self.any()?,
            }
            self.push(I::Return);
        }
        for (call, name) in &self.calls {
            self.program[*call] = I::Call(self.routines[name]);
        }
        Ok(self.program)
    }

    fn push(&mut self, instruction: I) -> usize {
        self.program.push(instruction);
        self.program.len() - 1
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.program.extend(bytes.iter().map(|byte| I::Byte(*byte)));
    }

    fn name(&mut self, name: String, schema: Option<&'a Json>) {
        if self.routines.insert(name.clone(), usize::MAX).is_none() {
            self.open.push((name, schema));
        }
    }

    fn call(&mut self, name: &str, schema: Option<&'a Json>) {
        if !self.routines.contains_key(name) {
            self.name(name.into(), schema);
        }
        let call = self.push(I::Call(0));
        self.calls.push((call, name.into()));
    }

    /// Each choice, and behind all of them what follows.
    fn either<T>(
        &mut self,
        choices: &[T],
        mut write: impl FnMut(&mut Self, &T) -> Result<()>,
    ) -> Result<()> {
        if let [only] = choices {
            return write(self, only);
        }
        let fork = self.push(I::Either(Vec::new()));
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for choice in choices {
            starts.push(self.program.len());
            write(self, choice)?;
            ends.push(self.push(I::Jump(0)));
        }
        self.program[fork] = I::Either(starts);
        let behind = self.program.len();
        for end in ends {
            self.program[end] = I::Jump(behind);
        }
        Ok(())
    }

    fn any(&mut self) -> Result<()> {
        // An integer is a number, too.
        let types: Vec<&str> = TYPES
            .into_iter()
            .filter(|name| *name != "integer")
            .collect();
        self.either(&types, |c, name| match *name {
            "object" => c.map(&Items::Any, 1),
            "array" => c.list(&Items::Any, 0, u32::MAX, 1),
            _ => c.scalar(name),
        })
    }

    fn schema(&mut self, schema: &'a Json, place: &str, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(refused(format!(
                "{place} lies in more than {MAX_DEPTH} others, which is not supported"
            )));
        }
        let keywords = match schema {
            Json::Bool(true) => {
                self.call(ANY, None);
                return Ok(());
            }
            Json::Bool(false) => {
                return Err(refused(format!("{place} is false: nothing is valid there")));
            }
            Json::Object(keywords) => keywords,
            _ => {
                return Err(refused(format!(
                    "{place} is neither an object nor a boolean"
                )));
            }
        };
        check_keywords(keywords, place)?;
        for (keyword, value) in keywords {
            let at = format!("{place}/{keyword}");
            match keyword.as_str() {
                "enum" => return self.values(value.list(&at)?, schema, &at),
                "const" => return self.values(std::slice::from_ref(value), schema, &at),
                "anyOf" => {
                    let choices: Vec<(usize, &Json)> =
                        value.list(&at)?.iter().enumerate().collect();
                    return self.either(&choices, |c, (i, choice)| {
                        c.schema(choice, &format!("{at}/{i}"), depth + 1)
                    });
                }
                "$ref" => return self.reference(value.text(&at)?, &at),
                _ => {}
            }
        }
        let types = types(schema, place)?;
        if types.is_empty() {
            self.call(ANY, None);
            return Ok(());
        }
        self.either(&types, |c, name| c.of_type(name, schema, place, depth))
    }

    fn of_type(&mut self, name: &str, schema: &'a Json, place: &str, depth: usize) -> Result<()> {
        let at = |keyword: &str| format!("{place}/{keyword}");
        let count = |keyword: &str, otherwise: u32| match schema.get(keyword) {
            None => Ok(otherwise),
            Some(count) => count.count(&at(keyword)),
        };
        let in_order = |min: u32, max: u32| match min <= max {
            true => Ok((min, max)),
            false => Err(refused(format!(
                "{place} asks for at least {min} and at most {max}"
            ))),
        };
        match name {
            "object" => self.object(schema, place, depth),
            "array" => {
                let (min, max) = in_order(count("minItems", 0)?, count("maxItems", u32::MAX)?)?;
                let items = match schema.get("items") {
                    None => Items::Any,
                    Some(items) => Items::Of(items, at("items")),
                };
                self.list(&items, min, max, depth)
            }
            "string" => {
                let (min, max) = in_order(count("minLength", 0)?, count("maxLength", u32::MAX)?)?;
                self.push(I::Text { min, max });
                Ok(())
            }
            "integer" => {
                let (mut min, mut max) = (-MAX_INTEGER as f64, MAX_INTEGER as f64);
                for (keyword, bound) in schema.object(place)? {
                    let bound = || bound.number(&at(keyword));
                    match keyword.as_str() {
                        "minimum" => min = min.max(bound()?.ceil()),
                        "maximum" => max = max.min(bound()?.floor()),
                        "exclusiveMinimum" => min = min.max(bound()?.floor() + 1.0),
                        "exclusiveMaximum" => max = max.min(bound()?.ceil() - 1.0),
                        _ => {}
                    }
                }
                if min > max {
                    return Err(refused(format!(
                        "{place} has no integer between its bounds"
                    )));
                }
                self.push(I::Integer {
                    min: min as i64,
                    max: max as i64,
                });
                Ok(())
            }
            _ => self.scalar(name),
        }
    }

    fn scalar(&mut self, name: &str) -> Result<()> {
        match name {
            "string" => drop(self.push(I::Text {
                min: 0,
                max: u32::MAX,
            })),
            "number" => drop(self.push(I::Number)),
            "null" => self.bytes(b"null"),
            _ => self.literals(&[b"false", b"true"], 0)?,
        }
        Ok(())
    }

    fn item(&mut self, items: &Items<'a>, depth: usize) -> Result<()> {
        match items {
            Items::Any => {
                self.call(ANY, None);
                Ok(())
            }
            Items::Of(schema, place) => self.schema(schema, place, depth + 1),
        }
    }

    fn list(&mut self, items: &Items<'a>, min: u32, max: u32, depth: usize) -> Result<()> {
        self.repeated([b'[', b']'], (min, max), |c| c.item(items, depth))
    }

    /// An object of any names.
    fn map(&mut self, items: &Items<'a>, depth: usize) -> Result<()> {
        self.repeated([b'{', b'}'], (0, u32::MAX), |c| {
            c.push(I::Text {
                min: 0,
                max: u32::MAX,
            });
            c.bytes(b":");
            c.push(I::Space);
            c.item(items, depth)
        })
    }

    fn repeated(
        &mut self,
        [open, close]: [u8; 2],
        (min, max): (u32, u32),
        item: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.bytes(&[open]);
        self.push(I::Space);
        self.push(I::Count);
        let items = self.push(I::Jump(0));
        let over = self.push(I::Jump(0));
        let next = self.push(I::Byte(b','));
        self.push(I::Space);
        let first = self.program.len();
        item(self)?;
        self.push(I::Jump(items));
        self.program[items] = I::Items {
            min,
            max,
            first,
            next,
        };
        self.program[over] = I::Jump(self.program.len());
        self.push(I::Space);
        self.bytes(&[close]);
        Ok(())
    }

    fn object(&mut self, schema: &'a Json, place: &str, depth: usize) -> Result<()> {
        let others = match schema.get("additionalProperties") {
            None | Some(Json::Bool(true)) => Some(Items::Any),
            Some(Json::Bool(false)) => None,
            Some(others) => Some(Items::Of(others, format!("{place}/additionalProperties"))),
        };
        let at = format!("{place}/required");
        let required = match schema.get("required") {
            None => Vec::new(),
            Some(names) => names
                .list(&at)?
                .iter()
                .map(|name| name.text(&at))
                .collect::<Result<Vec<&str>>>()?,
        };
        let at = format!("{place}/properties");
        let described = match schema.get("properties") {
            None => &[][..],
            Some(described) => described.object(&at)?,
        };
        let described = described.iter().map(|(name, schema)| {
            (
                name.as_str(),
                Some(Items::Of(schema, format!("{at}/{name}"))),
            )
        });
        let mut properties: Vec<(&str, Option<Items>)> = described.collect();
        for name in &required {
            if !properties.iter().any(|(known, _)| known == name) {
                properties.push((name, None));
            }
        }
        if properties.is_empty()
            && let Some(others) = &others
        {
            return self.map(others, depth);
        }
        self.bytes(b"{");
        self.push(I::Space);
        for (name, items) in &properties {
            let Some(items) = items.as_ref().or(others.as_ref()) else {
                return Err(refused(format!(
                    "{place} requires {name:?}, and allows no such property"
                )));
            };
            // Two ways lead to each property: none has come before, and one has. The next ones
            // follow behind it.
            let [none_before, one_before] = [self.push(I::Jump(0)), self.push(I::Jump(0))];
            let next = self.push(I::Byte(b','));
            self.push(I::Space);
            let first = self.program.len();
            self.bytes(quoted(name).as_bytes());
            self.bytes(b":");
            self.push(I::Space);
            self.item(items, depth)?;
            let end = self.push(I::Jump(0));
            let behind = self.program.len();
            self.program[end] = I::Jump(behind + 1);
            let is_required = required.contains(name);
            let ways = |here: usize, there: usize| match is_required {
                true => I::Jump(here),
                false => I::Either(vec![here, there]),
            };
            self.program[none_before] = ways(first, behind);
            self.program[one_before] = ways(next, behind + 1);
        }
        let none_before = self.push(I::Jump(0));
        self.push(I::Space);
        let close = self.push(I::Byte(b'}'));
        self.program[none_before] = I::Jump(close);
        Ok(())
    }

    fn values(&mut self, values: &[Json], schema: &Json, place: &str) -> Result<()> {
        let types = match schema.get("type") {
            None => Vec::new(),
            Some(_) => types(schema, place)?,
        };
        let is_valid =
            |value: &&Json| types.is_empty() || types.iter().any(|name| value.is_of(name));
        let mut texts: Vec<String> = values
            .iter()
            .filter(is_valid)
            .map(Json::to_string)
            .collect();
        texts.sort_unstable();
        texts.dedup();
        let texts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        match texts.is_empty() {
            true => Err(refused(format!("{place} has no value of the type"))),
            false => self.literals(&texts, 0),
        }
    }

    /// One of these texts, which are sorted and have `read` bytes in common; what more they have in
    /// common is read once.
    fn literals(&mut self, texts: &[&[u8]], read: usize) -> Result<()> {
        let (first, last) = (texts[0], texts[texts.len() - 1]);
        let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        self.bytes(&first[read..common]);
        if texts.len() == 1 {
            return Ok(());
        }
        let groups: Vec<&[&[u8]]> = texts
            .chunk_by(|a, b| a.get(common) == b.get(common))
            .collect();
        self.either(&groups, |c, group| match group[0].len() == common {
            true => Ok(()),
            false => c.literals(group, common),
        })
    }

    fn reference(&mut self, to: &str, at: &str) -> Result<()> {
        let root: &'a Json = self.root;
        let definition = DEFINITIONS.into_iter().find_map(|group| {
            let name = to
                .strip_prefix("#/")?
                .strip_prefix(group)?
                .strip_prefix('/')?;
            root.get(group)?.get(name)
        });
        match definition.or((to == "#").then_some(root)) {
            Some(schema) => {
                self.call(to, Some(schema));
                Ok(())
            }
            None => Err(refused(format!(
                "{at} points to {to:?}, which is not supported; point to # or to #/$defs/NAME, which has to be there"
            ))),
        }
    }
}

/// That nothing would be left unheeded.
fn check_keywords(keywords: &[(String, Json)], place: &str) -> Result<()> {
    let is_note = |keyword: &str| NOTES.contains(&keyword);
    let alone = ALONE
        .into_iter()
        .find(|alone| keywords.iter().any(|(keyword, _)| keyword == alone));
    for (keyword, _) in keywords {
        let is_definitions = DEFINITIONS.contains(&keyword.as_str());
        let is_known = keyword == "type"
            || ALONE.contains(&keyword.as_str())
            || OF_TYPE
                .iter()
                .any(|(_, of_type)| of_type.contains(&keyword.as_str()));
        if is_definitions && place != "#" {
            return Err(refused(format!(
                "{place}/{keyword} is not at the root, which is not supported"
            )));
        }
        if !(is_known || is_definitions || is_note(keyword)) {
            return Err(refused(format!(
                "{place}/{keyword} is not supported; supported are {KEYWORDS}"
            )));
        }
        let Some(alone) = alone else { continue };
        let is_type_of_values = keyword == "type" && matches!(alone, "enum" | "const");
        if !(keyword == alone || is_note(keyword) || is_definitions || is_type_of_values) {
            return Err(refused(format!(
                "{place} has {keyword} beside {alone}, which is not supported; give each a schema of its own"
            )));
        }
    }
    Ok(())
}

/// The types that a value may have; those that keywords speak of, where `type` is missing; none
/// where nothing is said.
fn types<'a>(schema: &'a Json, place: &str) -> Result<Vec<&'a str>> {
    let speaks_of = |keywords: &[&'static str]| {
        let mut keywords = keywords.iter().copied();
        keywords.find(|keyword| schema.get(keyword).is_some())
    };
    let at = format!("{place}/type");
    let types = match schema.get("type") {
        None => {
            let spoken_of = OF_TYPE
                .iter()
                .filter(|(_, keywords)| speaks_of(keywords).is_some());
            return Ok(spoken_of.map(|(name, _)| *name).collect());
        }
        Some(Json::List(names)) => names
            .iter()
            .map(|name| name.text(&at))
            .collect::<Result<Vec<&str>>>()?,
        Some(name) => vec![name.text(&at)?],
    };
    if let Some(wrong) = types.iter().find(|name| !TYPES.contains(name)) {
        return Err(refused(format!(
            "{at} is {wrong:?}; there are {}",
            TYPES.join(", ")
        )));
    }
    if types.is_empty() {
        return Err(refused(format!("{at} names no type")));
    }
    let bounds = speaks_of(OF_TYPE[3].1);
    match bounds.filter(|_| types.contains(&"number")) {
        Some(bound) => Err(refused(format!(
            "{place}/{bound} is only supported for integers"
        ))),
        None => Ok(types),
    }
}

/// JSON with the names of objects in their order, which is that of the answer; `serde_json::Value`
/// sorts them.
enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(entries) => entries
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    fn object(&self, place: &str) -> Result<&[(String, Json)]> {
        match self {
            Json::Object(entries) => Ok(entries),
            _ => Err(refused(format!("{place} must be an object"))),
        }
    }

    /// With an item at least.
    fn list(&self, place: &str) -> Result<&[Json]> {
        match self {
            Json::List(items) if !items.is_empty() || place.ends_with("required") => Ok(items),
            _ => Err(refused(format!("{place} must be a list of at least one"))),
        }
    }

    fn text(&self, place: &str) -> Result<&str> {
        match self {
            Json::Text(text) => Ok(text),
            _ => Err(refused(format!("{place} must be a text"))),
        }
    }

    fn number(&self, place: &str) -> Result<f64> {
        match self {
            Json::Number(number) => Ok(number.as_f64().unwrap_or(0.0)),
            _ => Err(refused(format!("{place} must be a number"))),
        }
    }

    fn count(&self, place: &str) -> Result<u32> {
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

    fn is_of(&self, name: &str) -> bool {
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

fn quoted(text: &str) -> String {
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
