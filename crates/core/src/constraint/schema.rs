//! JSON schemas, checked and compiled.

use std::{collections::HashMap, rc::Rc};

use super::{
    decimal::Decimals,
    json::{Json, quoted},
    keywords::{Bound, DEFINITIONS, TYPES, bounds, check_keywords, is_note, types},
    machine::{Instruction as I, MAX_INTEGER},
    one_of::exclude_each_other,
    refusal::refused,
};
use crate::Result;

/// The longest schema, in bytes of JSON text.
const MAX_BYTES: usize = 64 * 1024;

/// The most schemas that lie in each other: compiling them takes stack.
const MAX_DEPTH: usize = 32;

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
                let name = name.replace('~', "~0").replace('/', "~1");
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
            "object" => c.map(&Items::Any, (0, u32::MAX), 1),
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
        if schema.get("nullable") == Some(&Json::Bool(true)) {
            return self.either(&[false, true], |c, is_null| match is_null {
                true => c.scalar("null"),
                false => c.keywords(schema, keywords, place, depth),
            });
        }
        self.keywords(schema, keywords, place, depth)
    }

    fn keywords(
        &mut self,
        schema: &'a Json,
        keywords: &'a [(String, Json)],
        place: &str,
        depth: usize,
    ) -> Result<()> {
        for (keyword, value) in keywords {
            let at = format!("{place}/{keyword}");
            match keyword.as_str() {
                "enum" => return self.values(value.list(&at)?, schema, &at),
                "const" => return self.values(std::slice::from_ref(value), schema, &at),
                "allOf" => {
                    let [only] = value.list(&at)? else {
                        return Err(refused(format!(
                            "{at} has more than one schema, which is not supported; write them as one"
                        )));
                    };
                    return self.schema(only, &format!("{at}/0"), depth + 1);
                }
                "anyOf" | "oneOf" => {
                    let choices: Vec<(usize, &Json)> =
                        value.list(&at)?.iter().enumerate().collect();
                    if keyword == "oneOf" {
                        exclude_each_other(self.root, value.list(&at)?, &at)?;
                    }
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
                self.array(schema, place, (min, max), depth)
            }
            "string" => {
                let (min, max) = in_order(count("minLength", 0)?, count("maxLength", u32::MAX)?)?;
                self.push(I::Text { min, max });
                Ok(())
            }
            "integer" => {
                let (mut min, mut max) = (-MAX_INTEGER as f64, MAX_INTEGER as f64);
                for bound in bounds(schema, place)? {
                    match bound {
                        Bound::Min(least, false) => min = min.max(least.ceil()),
                        Bound::Min(least, true) => min = min.max(least.floor() + 1.0),
                        Bound::Max(most, false) => max = max.min(most.floor()),
                        Bound::Max(most, true) => max = max.min(most.ceil() - 1.0),
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
            "number" => {
                let bounds = bounds(schema, place)?;
                if bounds.is_empty() {
                    return self.scalar(name);
                }
                let mut decimals = Decimals::all();
                for bound in bounds {
                    match bound {
                        Bound::Min(least, is_exclusive) => decimals.at_least(least, is_exclusive),
                        Bound::Max(most, is_exclusive) => decimals.at_most(most, is_exclusive),
                    }
                }
                if decimals.is_empty() {
                    return Err(refused(format!(
                        "{place} has no number of 15 digits between its bounds"
                    )));
                }
                self.push(I::Decimal(decimals));
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

    /// Items of their own schemas first. Where `items` is missing there are no others, as an object
    /// that names properties has no others.
    fn array(
        &mut self,
        schema: &'a Json,
        place: &str,
        (min, max): (u32, u32),
        depth: usize,
    ) -> Result<()> {
        let get = |keyword: &str| Some((schema.get(keyword)?, format!("{place}/{keyword}")));
        // Until 2020, `items` was a list, and `additionalItems` what comes behind.
        let (first, others) = match (get("prefixItems"), get("items")) {
            (None, Some((list @ Json::List(_), at))) => (Some((list, at)), get("additionalItems")),
            (first, others) => (first, others),
        };
        let others = others.or_else(|| get("unevaluatedItems"));
        let Some((first, at)) = first else {
            let items = match others {
                None => Items::Any,
                Some((Json::Bool(false), _)) if min == 0 => {
                    self.bytes(b"[");
                    self.push(I::Space);
                    self.bytes(b"]");
                    return Ok(());
                }
                Some((items, at)) => Items::Of(items, at),
            };
            return self.list(&items, min, max, depth);
        };
        let first = first.list(&at)?;
        let count = first.len().min(max as usize);
        let (least, most) = (min.saturating_sub(count as u32), max - count as u32);
        let others = match others {
            None if least == 0 => None,
            None => Some(Items::Any),
            Some((Json::Bool(false), _)) if least == 0 => None,
            Some((items, at)) => Some(Items::Of(items, at)),
        };
        self.bytes(b"[");
        self.push(I::Space);
        for (i, item) in first[..count].iter().enumerate() {
            if i > 0 {
                self.bytes(b",");
                self.push(I::Space);
            }
            self.schema(item, &format!("{at}/{i}"), depth + 1)?;
        }
        if let Some(others) = others.filter(|_| most > 0) {
            self.push(I::Count);
            let items = self.push(I::Jump(0));
            let over = self.push(I::Jump(0));
            let next = self.push(I::Byte(b','));
            self.push(I::Space);
            self.item(&others, depth)?;
            self.push(I::Jump(items));
            self.program[items] = I::Items {
                min: least,
                max: most,
                first: next,
                next,
            };
            self.program[over] = I::Jump(self.program.len());
        }
        self.push(I::Space);
        self.bytes(b"]");
        Ok(())
    }

    /// An object of any names.
    fn map(&mut self, items: &Items<'a>, counts: (u32, u32), depth: usize) -> Result<()> {
        self.repeated([b'{', b'}'], counts, |c| {
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
        let others = schema.get("additionalProperties");
        let others = match others.or_else(|| schema.get("unevaluatedProperties")) {
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
        let names = match schema.get("propertyNames") {
            None => None,
            Some(names) => self.names(names, &format!("{place}/propertyNames"))?,
        };
        for name in names.into_iter().flatten() {
            if !properties.iter().any(|(known, _)| *known == name) {
                properties.push((name, None));
            }
        }
        let count = |keyword: &str, otherwise: u32| match schema.get(keyword) {
            None => Ok(otherwise),
            Some(count) => count.count(&format!("{place}/{keyword}")),
        };
        let (min, max) = (
            count("minProperties", 0)?,
            count("maxProperties", u32::MAX)?,
        );
        if properties.is_empty()
            && let Some(others) = &others
        {
            // Names may be said twice, and count once.
            return match min <= max.min(1) {
                true => self.map(others, (min, max), depth),
                false => Err(refused(format!(
                    "{place}/minProperties is above 1, which is not supported"
                ))),
            };
        }
        if (min as usize) > required.len() || (max as usize) < properties.len() {
            return Err(refused(format!(
                "{place} counts properties that it names, which is not supported; use required"
            )));
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

    /// The names that `propertyNames` lists; `None` where it allows all.
    fn names(&self, names: &'a Json, at: &str) -> Result<Option<Vec<&'a str>>> {
        let root: &'a Json = self.root;
        let names = match names.get("$ref") {
            Some(to) => root.pointed_to(to.text(at)?).unwrap_or(names),
            None => names,
        };
        let listed = match (names.get("enum"), names.get("const")) {
            (Some(list), _) => list.list(at)?.iter().map(|name| name.text(at)).collect(),
            (None, Some(name)) => name.text(at).map(|name| vec![name]),
            (None, None) => {
                let keywords = names.object(at)?;
                let says_nothing = |(keyword, value): &(String, Json)| match keyword.as_str() {
                    "type" => *value == Json::Text("string".into()),
                    keyword => is_note(keyword),
                };
                return match keywords.iter().all(says_nothing) {
                    true => Ok(None),
                    false => Err(refused(format!(
                        "{at} is only supported as a list of names, or as all texts"
                    ))),
                };
            }
        };
        listed.map(Some)
    }

    fn reference(&mut self, to: &str, at: &str) -> Result<()> {
        let root: &'a Json = self.root;
        match root.pointed_to(to) {
            Some(schema) => {
                self.call(to, Some(schema));
                Ok(())
            }
            None => Err(refused(format!(
                "{at} points to {to:?}, which is not there; point to # or into it, as to #/$defs/NAME"
            ))),
        }
    }
}
