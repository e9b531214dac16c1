//! Answers that are held to a JSON schema: whatever a model would like to say, it says a value of
//! the schema.

use std::{rc::Rc, time::Instant};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use serde_json::{Value, json};
use univi::{
    Error,
    constraint::{Constraint, Schema, Vocabulary},
    tokenizer::{EncodeOptions, Tokenizer, TokenizerConfig},
};
use univi_tests::{folder, folder_with_vocabulary};
use univi_verify::Fixtures;

/// A model that may say anything in so few tokens is likely to come to an end.
const MAX_TOKENS: usize = 400;

/// One tokenizer of each kind: SentencePiece's 32,000 and 512 tokens, those of the small model that
/// ships, and byte-level BPE.
fn tokenizers() -> Vec<(&'static str, Tokenizer)> {
    let config = TokenizerConfig::default();
    let file = |path: &str| folder_with_vocabulary().read(path).unwrap();
    let nano = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/univi-nano/tokenizer.model"
    );
    let spm = |bytes: &[u8]| Tokenizer::from_sentencepiece(bytes, &config).unwrap();
    vec![
        ("llama", spm(&file("golden/tokenizer/tokenizer.model"))),
        (
            "llama as JSON",
            Tokenizer::from_json(&file("golden/tokenizer/tokenizer.json"), &config).unwrap(),
        ),
        (
            "512 tokens",
            spm(&folder()
                .read("golden/e2e/checkpoint/tokenizer.model")
                .unwrap()),
        ),
        ("univi-nano", spm(&std::fs::read(nano).unwrap())),
        ("byte-level", byte_level()),
    ]
}

/// GPT-2's letters for the 256 bytes, a few merges, and a token that ends a text.
fn byte_level() -> Tokenizer {
    let is_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 256..;
    let letters: Vec<String> = (0..=255u8)
        .map(|byte| {
            if is_itself(byte) {
                u32::from(byte)
            } else {
                others.next().unwrap()
            }
        })
        .map(|letter| char::from_u32(letter).unwrap().to_string())
        .collect();
    let space = letters[32].as_str();
    let merges = [
        (space, "{"),
        ("{", "\""),
        ("\"", ":"),
        (space, "\""),
        ("\"", ","),
        ("t", "r"),
        ("tr", "ue"),
        ("u", "e"),
        ("1", "2"),
    ];
    let merged = merges.map(|(left, right)| format!("{left}{right}"));
    let tokens = letters
        .iter()
        .cloned()
        .chain(merged)
        .chain(["<|endoftext|>".into()]);
    let vocabulary: serde_json::Map<String, Value> = tokens
        .zip(0..)
        .map(|(token, id)| (token, json!(id)))
        .collect();
    let end = vocabulary["<|endoftext|>"].clone();
    let file = json!({
        "added_tokens": [{ "id": end, "content": "<|endoftext|>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false }],
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "vocab": vocabulary, "merges": merges.map(|(left, right)| format!("{left} {right}")) },
    });
    Tokenizer::from_json(file.to_string().as_bytes(), &TokenizerConfig::default()).unwrap()
}

fn schema(schema: &Value) -> Schema {
    Schema::parse(&schema.to_string()).unwrap_or_else(|e| panic!("{schema}: {e}"))
}

/// What is sampled from, and what else is valid or not.
fn schemas() -> Vec<Value> {
    vec![
        json!({ "type": "object", "properties": { "answer": { "enum": ["yes", "no"] } }, "required": ["answer"], "additionalProperties": false }),
        json!({ "enum": ["red", "green", 3, null, true, { "a": [1] }] }),
        json!({ "const": "naïve 🐧" }),
        json!({ "type": "object" }),
        json!({}),
        json!({ "type": "integer", "minimum": -20, "maximum": 130 }),
        json!({ "type": ["string", "null"], "maxLength": 5 }),
        json!({ "type": "string", "minLength": 2, "maxLength": 4 }),
        json!({ "type": "boolean" }),
        json!({ "type": "array", "items": { "type": "integer" }, "minItems": 2, "maxItems": 4 }),
        json!({ "type": "integer", "exclusiveMinimum": 4999, "maximum": 5003.5 }),
        json!({ "type": "number" }),
        json!({ "type": "object", "additionalProperties": { "type": "boolean" } }),
        json!({ "type": "object", "properties": { "b": {} }, "required": ["a"], "additionalProperties": { "type": "null" } }),
        json!({ "anyOf": [{ "type": "object", "properties": { "kind": { "const": "a" } }, "required": ["kind"], "additionalProperties": false }, { "type": "null" }] }),
        json!({ "anyOf": [{ "type": "boolean" }, { "type": "array", "items": { "enum": ["a", "b"] }, "maxItems": 2 }] }),
        json!({
            "type": "object",
            "properties": { "z": { "type": "string", "maxLength": 3 }, "a": { "type": "integer" }, "m": { "type": "boolean" } },
            "required": ["z", "m"],
            "additionalProperties": false,
        }),
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$ref": "#/$defs/node",
            "$defs": { "node": {
                "type": "object",
                "description": "a tree",
                "properties": { "name": { "enum": ["x", "y"] }, "children": { "type": "array", "items": { "$ref": "#/$defs/node" }, "maxItems": 2 } },
                "required": ["name"],
                "additionalProperties": false,
            } },
        }),
    ]
}

/// As zod 4, pydantic 2, valibot and schemars write them.
fn published_schemas() -> Vec<Value> {
    vec![
        // z.record(z.string(), z.int()), z.record(z.enum([..]), z.boolean())
        json!({ "type": "object", "propertyNames": { "type": "string" }, "additionalProperties": { "type": "integer", "minimum": -9007199254740991i64, "maximum": 9007199254740991i64 } }),
        json!({ "type": "object", "propertyNames": { "type": "string", "enum": ["a", "b"] }, "additionalProperties": { "type": "boolean" }, "required": ["a", "b"] }),
        // z.discriminatedUnion, pydantic's with references
        json!({ "oneOf": [
            { "type": "object", "properties": { "k": { "type": "string", "const": "a" }, "n": { "type": "integer", "maximum": 9, "minimum": 0 } }, "required": ["k"], "additionalProperties": false },
            { "type": "object", "properties": { "k": { "type": "string", "const": "b" } }, "required": ["k"], "additionalProperties": false },
        ] }),
        json!({
            "$defs": {
                "Cat": { "properties": { "kind": { "const": "cat", "title": "Kind", "type": "string" } }, "required": ["kind"], "title": "Cat", "type": "object" },
                "Dog": { "properties": { "kind": { "const": "dog", "title": "Kind", "type": "string" } }, "required": ["kind"], "title": "Dog", "type": "object" },
            },
            "discriminator": { "mapping": { "cat": "#/$defs/Cat", "dog": "#/$defs/Dog" }, "propertyName": "kind" },
            "oneOf": [{ "$ref": "#/$defs/Cat" }, { "$ref": "#/$defs/Dog" }],
        }),
        // schemars: an enum with and without data
        json!({ "oneOf": [
            { "type": "string", "enum": ["Red", "Green"] },
            { "type": "object", "properties": { "Mix": { "type": "integer", "format": "uint8", "minimum": 0.0, "maximum": 255.0 } }, "required": ["Mix"], "additionalProperties": false },
            { "type": "object", "properties": { "Named": { "type": "boolean" } }, "required": ["Named"], "additionalProperties": false },
            { "type": "null" },
        ] }),
        json!({ "$ref": "#/$defs/Box%3Cint%3E", "$defs": { "Box<int>": { "type": "boolean" } } }),
        json!({ "$ref": "#/definitions/a~1b~0c", "definitions": { "a/b~c": { "type": "boolean" } } }),
        json!({ "type": "object", "properties": { "a": { "type": "boolean" }, "b": { "$ref": "#/properties/a" } }, "required": ["a", "b"] }),
        // z.tuple, z.tuple([..]).rest(..)
        json!({ "type": "array", "prefixItems": [{ "type": "boolean" }, { "enum": ["x", "y"] }] }),
        json!({ "type": "array", "prefixItems": [{ "type": "null" }], "items": { "type": "boolean" }, "maxItems": 3 }),
        json!({ "type": "array", "prefixItems": [{ "type": "null" }], "items": { "type": "boolean" }, "minItems": 3, "maxItems": 4 }),
        json!({ "type": "array", "prefixItems": [{ "type": "null" }, { "type": "null" }], "items": false, "minItems": 2 }),
        // pydantic 2.0's reference with a default, annotations, Optional
        json!({ "type": "object", "properties": { "a": { "allOf": [{ "$ref": "#/$defs/E" }], "default": "x" }, "b": { "anyOf": [{ "type": "boolean" }, { "type": "null" }], "title": "B", "x-order": 1 } }, "required": ["a", "b"], "$defs": { "E": { "enum": ["x", "y"] } } }),
        json!({ "type": "string", "format": "uri", "maxLength": 3 }),
        json!({ "type": "object", "additionalProperties": { "type": "null" }, "minProperties": 1, "maxProperties": 2 }),
        // z.number().min(0).max(1) and others
        json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        json!({ "type": "number", "exclusiveMinimum": 0.1, "maximum": 0.25 }),
        json!({ "type": "number", "minimum": -0.003, "exclusiveMaximum": -0.001 }),
        json!({ "type": "number", "minimum": 99.5 }),
        json!({ "type": "number", "exclusiveMinimum": -12345.678, "maximum": 1e9 }),
        json!({ "type": ["number", "null"], "minimum": 1e14, "maximum": 1.5e14 }),
    ]
}

/// Whether a value is valid, as far as these tests go.
fn is_valid(value: &Value, schema: &Value, root: &Value) -> bool {
    let Some(keywords) = schema.as_object() else {
        return schema == true;
    };
    let is_type = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    };
    let letters = value.as_str().map(|text| text.chars().count() as u64);
    let items = value.as_array().map(|items| items.len() as u64);
    let number = value.as_f64();
    keywords
        .iter()
        .all(|(keyword, what)| match keyword.as_str() {
            "type" => match what.as_array() {
                Some(types) => types.iter().any(is_type),
                None => is_type(what),
            },
            "enum" => what.as_array().unwrap().contains(value),
            "const" => what == value,
            "anyOf" | "oneOf" | "allOf" => {
                let list = what.as_array().unwrap();
                let valid = list.iter().filter(|one| is_valid(value, one, root)).count();
                match keyword.as_str() {
                    "anyOf" => valid > 0,
                    "oneOf" => valid == 1,
                    _ => valid == list.len(),
                }
            }
            "$ref" => {
                let pointer = what.as_str().unwrap()[1..]
                    .replace("%3C", "<")
                    .replace("%3E", ">");
                is_valid(value, root.pointer(&pointer).unwrap(), root)
            }
            "prefixItems" => value.as_array().is_none_or(|items| {
                let mut each = items.iter().zip(what.as_array().unwrap());
                each.all(|(item, schema)| is_valid(item, schema, root))
            }),
            "propertyNames" => value
                .as_object()
                .is_none_or(|object| object.keys().all(|name| is_valid(&json!(name), what, root))),
            "minProperties" => value.as_object().map(|o| o.len() as u64) >= what.as_u64(),
            "maxProperties" => value.as_object().map(|o| o.len() as u64) <= what.as_u64(),
            "exclusiveMaximum" => number.is_none() || number < what.as_f64(),
            "properties" => value.as_object().is_none_or(|object| {
                let of = |name| what.get(name);
                object.iter().all(|(name, value)| {
                    of(name).is_none_or(|schema| is_valid(value, schema, root))
                })
            }),
            "required" => what
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "additionalProperties" => value.as_object().is_none_or(|object| {
                let named = |name| keywords.get("properties").and_then(|named| named.get(name));
                object
                    .iter()
                    .all(|(name, value)| named(name).is_some() || is_valid(value, what, root))
            }),
            "items" => value.as_array().is_none_or(|items| {
                let first = keywords.get("prefixItems").and_then(Value::as_array);
                let rest = items.iter().skip(first.map_or(0, Vec::len));
                rest.into_iter().all(|value| is_valid(value, what, root))
            }),
            "minItems" => items >= what.as_u64(),
            "maxItems" => items <= what.as_u64(),
            "minLength" => letters >= what.as_u64(),
            "maxLength" => letters.is_none() || letters <= what.as_u64(),
            "minimum" => number.is_none() || number >= what.as_f64(),
            "maximum" => number.is_none() || number <= what.as_f64(),
            "exclusiveMinimum" => number.is_none() || number > what.as_f64(),
            "$schema" | "$defs" | "definitions" | "description" | "title" | "default"
            | "format" | "x-order" | "discriminator" => true,
            other => panic!("{other}"),
        })
}

/// The answer of a model that likes tokens at random, those that end something a little more;
/// `None` where it has not come to an end.
fn sampled(
    vocabulary: &Rc<Vocabulary>,
    tokenizer: &Tokenizer,
    schema: &Schema,
    seed: u64,
) -> Option<String> {
    let mut constraint = Constraint::new(vocabulary.clone(), schema).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let ends = |id: u32| {
        let is_end = |bytes: &[u8]| matches!(bytes.first(), Some(b'"' | b'}' | b']' | b','));
        tokenizer.ends_generation(id) || tokenizer.bytes(id).is_some_and(is_end)
    };
    let mut ids = Vec::new();
    // A model may have more rows than tokens.
    let rows = tokenizer.vocab_len() as u32 + 64;
    while ids.len() < MAX_TOKENS {
        let mut logits: Vec<f32> = (0..rows)
            .map(|id| {
                random.next_u32() as f32 / u32::MAX as f32 + if ends(id) { 0.95 } else { 0.0 }
            })
            .collect();
        constraint.mask(&mut logits).unwrap();
        let by_logit = |a: &u32, b: &u32| logits[*a as usize].total_cmp(&logits[*b as usize]);
        let best = (0..rows).max_by(by_logit).unwrap();
        assert!(logits[best as usize] > f32::NEG_INFINITY);
        constraint.push(best).unwrap();
        if tokenizer.ends_generation(best) {
            return Some(tokenizer.decode(&ids));
        }
        ids.push(best);
        if constraint.is_complete() {
            return Some(tokenizer.decode(&ids));
        }
    }
    None
}

#[test]
fn whatever_is_sampled_is_a_value_of_the_schema() {
    for (name, tokenizer) in tokenizers() {
        let vocabulary = Rc::new(Vocabulary::new(&tokenizer));
        for json in schemas().into_iter().chain(published_schemas()) {
            let schema = schema(&json);
            let mut finished = 0;
            for seed in 0..6 {
                let Some(text) = sampled(&vocabulary, &tokenizer, &schema, seed) else {
                    continue;
                };
                finished += 1;
                let value = serde_json::from_str(&text);
                let value: Value =
                    value.unwrap_or_else(|e| panic!("{name}, {json}: {text:?}: {e}"));
                assert!(is_valid(&value, &json, &json), "{name}, {json}: {text:?}");
            }
            assert!(finished > 0, "{name}, {json}: no answer has come to an end");
        }
    }
}

/// Whether all tokens of `text`, as the tokenizer cuts it, may come one after the other; and
/// whether it is a value then.
fn takes(
    vocabulary: &Rc<Vocabulary>,
    tokenizer: &Tokenizer,
    schema: &Schema,
    text: &str,
) -> (bool, bool) {
    let mut constraint = Constraint::new(vocabulary.clone(), schema).unwrap();
    let rows = tokenizer.vocab_len();
    for id in tokenizer.encode(text, EncodeOptions::PIECE).unwrap() {
        let mut logits = vec![0.0; rows];
        if constraint.is_complete()
            || constraint.mask(&mut logits).is_err()
            || logits[id as usize] != 0.0
        {
            return (false, false);
        }
        constraint.push(id).unwrap();
    }
    if constraint.is_complete() {
        return (true, true);
    }
    let mut logits = vec![0.0; rows];
    constraint.mask(&mut logits).unwrap();
    (
        true,
        (0..rows as u32).any(|id| tokenizer.ends_generation(id) && logits[id as usize] == 0.0),
    )
}

#[test]
fn values_are_taken_as_a_model_would_say_them_and_others_are_not() {
    // As text: `json!` would put the names in another order.
    let person = r#"{
        "type": "object",
        "properties": { "name": { "type": "string" }, "age": { "type": "integer" }, "tags": { "items": { "type": "string" } } },
        "required": ["name", "age"],
        "additionalProperties": false
    }"#;
    let person = Schema::parse(person).unwrap();
    let whole = (true, true);
    for (name, tokenizer) in tokenizers() {
        let vocabulary = Rc::new(Vocabulary::new(&tokenizer));
        let takes = |text: &str| takes(&vocabulary, &tokenizer, &person, text);
        // In univi-nano and the 512 tokens most of this is spelled byte by byte.
        assert_eq!(takes(r#"{"name":"Ann","age":3}"#), whole, "{name}");
        assert_eq!(
            takes(r#"{"name": "Ann", "age": 3, "tags": ["a", "b\n\u0007"]}"#),
            whole,
            "{name}"
        );
        assert_eq!(
            takes("{ \"name\": \"Zoë 🐧\", \"age\": -30 }"),
            whole,
            "{name}"
        );
        assert_eq!(takes(r#"{"name":"Ann","#), (true, false), "{name}");
        for wrong in [
            r#"{"age":3,"name":"Ann"}"#,
            r#"{"name":"Ann"}"#,
            r#"{"name":"Ann","age":"3"}"#,
            r#"{"name":"Ann","age":3.5}"#,
            r#"{"name":"Ann","age":03}"#,
            r#"{"name":"Ann","age":3,"other":1}"#,
            "{\"name\":\"A\nnn\",\"age\":3}",
            "{\"name\":\n\n\"Ann\",\"age\":3}",
            "{  \"name\":\"Ann\",\"age\":3}",
            "{\n\"name\":\"Ann\",\"age\":3}",
            "{\"name\":\"Ann\",\"age\":3}\n",
            "Sure! {\"name\":\"Ann\",\"age\":3}",
            "```json",
        ] {
            assert!(!takes(wrong).0, "{name}: {wrong:?}");
        }
    }
}

#[test]
fn a_number_may_end_or_go_on() {
    let tokenizer = byte_level();
    let vocabulary = Rc::new(Vocabulary::new(&tokenizer));
    let number = schema(&json!({ "type": "integer" }));
    let mut constraint = Constraint::new(vocabulary, &number).unwrap();
    constraint.push(tokenizer.id("1").unwrap()).unwrap();
    assert!(!constraint.is_complete());
    let mut logits = vec![0.0; tokenizer.vocab_len()];
    constraint.mask(&mut logits).unwrap();
    let may = |text: &str| logits[tokenizer.id(text).unwrap() as usize] == 0.0;
    assert!(may("2") && may("12") && may("<|endoftext|>"));
    assert!(!may(".") && !may("\"") && !may("-"));
    assert!(matches!(
        constraint.push(tokenizer.id("x").unwrap()),
        Err(Error::BadRequest { .. })
    ));
}

/// What is said of a schema that can't be used, be it at once or when it is compiled.
fn reason(json: &str) -> Option<String> {
    let tokenizer = byte_level();
    let vocabulary = Rc::new(Vocabulary::new(&tokenizer));
    let constraint = Schema::parse(json).and_then(|schema| Constraint::new(vocabulary, &schema));
    match constraint
        .and_then(|mut constraint| constraint.mask(&mut vec![0.0; tokenizer.vocab_len()]))
    {
        Ok(()) => None,
        Err(Error::BadRequest { reason }) => Some(reason),
        Err(other) => panic!("{json}: {other:?}"),
    }
}

#[test]
fn what_is_not_supported_is_told_with_its_place() {
    for (json, expected) in [
        ("{", "can't be read as JSON"),
        ("[]", "must be an object"),
        ("true", "must be an object"),
        (
            r#"{"type":"objekt"}"#,
            r#"#/type is "objekt"; there are object"#,
        ),
        (
            r#"{"properties":{"a":{"not":{}}}}"#,
            "#/properties/a/not is not supported: only",
        ),
        (
            r#"{"type":"string","patern":"a"}"#,
            "#/patern is not supported; supported are type",
        ),
        (
            r#"{"items":{"uniqueItems":true}}"#,
            "#/items/uniqueItems is not supported",
        ),
        (
            r#"{"type":"string","pattern":"a"}"#,
            "#/pattern is not supported: regular expressions",
        ),
        (
            r#"{"type":"integer","multipleOf":5}"#,
            "#/multipleOf is not supported: ",
        ),
        (r#"{"allOf":[{},{}]}"#, "#/allOf has more than one schema"),
        (
            r#"{"oneOf":[{"type":"number"},{"type":"integer"}]}"#,
            "#/oneOf: a value may be valid for both 0 and 1",
        ),
        (
            r#"{"oneOf":[{"properties":{"a":{}}},{"properties":{"b":{}}}]}"#,
            "#/oneOf: a value may be valid for both",
        ),
        (
            r##"{"oneOf":[{"$ref":"#"},{"type":"null"}]}"##,
            "#/oneOf: a value may be valid for both",
        ),
        (
            r#"{"type":"number","minimum":0.3,"maximum":0.2}"#,
            "# has no number",
        ),
        (
            r#"{"type":"number","exclusiveMinimum":1,"exclusiveMaximum":1}"#,
            "# has no number",
        ),
        (
            r#"{"type":"object","propertyNames":{"maxLength":3}}"#,
            "#/propertyNames is only supported as a list of names",
        ),
        (
            r#"{"type":"object","minProperties":2}"#,
            "#/minProperties is above 1",
        ),
        (
            r#"{"type":"object","properties":{"a":{}},"minProperties":1}"#,
            "# counts properties that it names",
        ),
        (r##"{"$ref":"#/$defs/a%2"}"##, "points to"),
        (
            r#"{"anyOf":[{"type":"null"}],"properties":{}}"#,
            "# has properties beside anyOf",
        ),
        (r#"{"anyOf":[]}"#, "#/anyOf must be a list of at least one"),
        (
            r##"{"items":{"$ref":"#/properties/a"}}"##,
            "#/items/$ref points to",
        ),
        (r##"{"$ref":"#/$defs/a"}"##, "points to"),
        (r#"{"$ref":"https://example.com/schema"}"#, "points to"),
        (
            r##"{"$defs":{"a":{"if":{}}}}"##,
            "#/$defs/a/if is not supported",
        ),
        (r##"{"$defs":[]}"##, "#/$defs must be an object"),
        (r#"{"minItems":-1}"#, "#/minItems must be a whole number"),
        (
            r#"{"maxLength":1e9}"#,
            "#/maxLength must be a whole number of at most",
        ),
        (r#"{"minimum":1e300}"#, "# has no number"),
        (r#"{"required":"a"}"#, "#/required must be a list"),
        (r#"{"required":[1]}"#, "#/required must be a text"),
        (r#"{"type":[]}"#, "#/type names no type"),
        (r##"{"$ref":"#"}"##, "too many ways"),
        (
            r#"{"type":"string","minLength":5,"maxLength":2}"#,
            "# asks for at least 5 and at most 2",
        ),
        (
            r#"{"type":"integer","minimum":5,"maximum":2}"#,
            "# has no integer",
        ),
        (
            r#"{"type":"integer","enum":["a"]}"#,
            "#/enum has no value of the type",
        ),
        (r#"{"anyOf":[false]}"#, "#/anyOf/0 is false"),
        (
            r#"{"required":["a"],"additionalProperties":false}"#,
            r#"# requires "a""#,
        ),
    ] {
        let reason = reason(json).unwrap_or_else(|| panic!("{json} is taken"));
        assert!(reason.contains(expected), "{json}: {reason}");
        assert!(
            reason.starts_with("the JSON schema can't be used: "),
            "{json}: {reason}"
        );
    }
}

#[test]
fn a_hostile_schema_is_refused_or_taken_but_never_takes_long() {
    let nested = |depth: usize, open: &str, close: &str| {
        format!("{}{{}}{}", open.repeat(depth), close.repeat(depth))
    };
    let list = |count: usize, item: &dyn Fn(usize) -> String| {
        (0..count).map(item).collect::<Vec<_>>().join(",")
    };
    let chain = |count: usize, of: &str, last: &str| {
        let definition =
            |i: usize| format!(r##""d{i}":{{{of}"$ref":"#/$defs/d{}"{last}}}"##, i + 1);
        format!(
            r##"{{"$ref":"#/$defs/d0","$defs":{{{},"d{count}":{{"type":"null"}}}}}}"##,
            list(count, &definition)
        )
    };
    let hostile = [
        nested(31, r#"{"items":"#, "}"),
        nested(31, r#"{"type":"object","properties":{"a":"#, "}}"),
        nested(31, r#"{"anyOf":["#, "]}"),
        nested(40, r#"{"items":"#, "}"),
        nested(100_000, r#"{"items":"#, "}"),
        nested(5_000, "[", "]"),
        chain(30, "", ""),
        chain(1_000, "", ""),
        chain(30, r#""type":"array","items":{"#, "}"),
        chain(1_000, r#""type":"array","items":{"#, "}"),
        r##"{"$ref":"#"}"##.into(),
        r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##.into(),
        r##"{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}"##.into(),
        r##"{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"],"additionalProperties":false}"##.into(),
        r##"{"type":"array","items":{"$ref":"#"},"minItems":65536}"##.into(),
        format!(r#"{{"enum":[{}]}}"#, list(9_000, &|i| i.to_string())),
        format!(r#"{{"enum":[{}]}}"#, list(6_000, &|i| format!(r#""e{i}""#))),
        format!(r#"{{"enum":[{}]}}"#, list(6_000, &|i| format!("[{i}]"))),
        format!(r#"{{"enum":[{}]}}"#, list(5_000, &|i| format!(r#"{{"a":{i}}}"#))),
        format!(r#"{{"const":{}}}"#, nested(120, "[", "]").replace("{}", "")),
        format!(r#"{{"anyOf":[{}]}}"#, list(5_000, &|_| "{}".into())),
        format!(r#"{{"anyOf":[{}]}}"#, list(128, &|i| format!(r#"{{"type":"object","properties":{{"a{i}":{{}}}}}}"#))),
        format!(r#"{{"type":"object","properties":{{{}}}}}"#, list(3_000, &|i| format!(r#""p{i}":{{}}"#))),
        format!(r#"{{"type":"object","properties":{{{}}},"additionalProperties":false}}"#, list(3_000, &|i| format!(r#""p{i}":{{}}"#))),
        format!(r#"{{"type":"object","required":[{}]}}"#, list(6_000, &|i| format!(r#""p{i}""#))),
        format!(r#"{{"const":"{}"}}"#, "a".repeat(60_000)),
        format!(r#"{{"description":"{}"}}"#, "a".repeat(100_000)),
        r#"{"minItems":65536,"maxItems":65536}"#.into(),
        r#"{"type":"array","items":{"type":"array","items":{"minItems":65536},"minItems":65536},"minItems":65536}"#.into(),
        r#"{"type":"string","minLength":65536}"#.into(),
        r#"{"type":"integer","minimum":-9007199254740992,"maximum":9007199254740992}"#.into(),
        r#"{"type":"number","minimum":1e-300,"maximum":1.1e-300}"#.into(),
        r#"{"type":"number","minimum":0.1234567890123456789,"maximum":0.12345678901234568}"#.into(),
        r#"{"type":"number","exclusiveMinimum":0.1,"exclusiveMaximum":0.1}"#.into(),
        r#"{"type":["string","string","array"]}"#.into(),
        r#"{"enum":[1e400]}"#.into(),
        r#"{"const":1e308}"#.into(),
        r#"{"properties":{"":{},"\u0000":{},"a/b":{},"~":{}},"required":["","\u0000"]}"#.into(),
        r#"{"$schema":"nonsense","type":"null"}"#.into(),
        r#"{"$schema":"http://json-schema.org/draft-04/schema#","type":"integer","minimum":3,"exclusiveMinimum":true}"#.into(),
    ];
    for json in hostile {
        let start = Instant::now();
        let reason = reason(&json);
        let took = start.elapsed();
        assert!(
            took.as_secs() < 5,
            "{took:?}: {}: {reason:?}",
            &json[..json.len().min(100)]
        );
    }
}

#[test]
fn choices_that_are_too_much_alike_never_take_long() {
    let (_, llama) = tokenizers().swap_remove(0);
    let vocabulary = Rc::new(Vocabulary::new(&llama));
    let texts: Vec<Value> = (0..1000)
        .map(|max| json!({ "type": "string", "maxLength": max }))
        .collect();
    let mut constraint = Constraint::new(vocabulary, &schema(&json!({ "anyOf": texts }))).unwrap();
    constraint.push(llama.id("\"").unwrap()).unwrap();
    let start = Instant::now();
    let error = constraint
        .mask(&mut vec![0.0; llama.vocab_len()])
        .unwrap_err();
    assert!(error.to_string().contains("too much alike"), "{error}");
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_letter_that_no_token_spells_is_an_error() {
    let tokenizer = byte_level();
    let vocabulary = Rc::new(Vocabulary::new(&tokenizer));
    let mut constraint = Constraint::new(vocabulary, &schema(&json!({ "const": "a" }))).unwrap();
    // The model has fewer rows than the tokenizer has tokens: the quotation mark is not among them.
    let error = constraint.mask(&mut [0.0; 10]).unwrap_err();
    assert!(error.to_string().contains("no token"), "{error}");
}

#[test]
fn numbers_keep_within_their_bounds_digit_by_digit() {
    let (_, llama) = tokenizers().swap_remove(0);
    let vocabulary = Rc::new(Vocabulary::new(&llama));
    let whole = (true, true);
    for (bounds, taken, not_taken) in [
        (
            json!({ "minimum": 0, "maximum": 1 }),
            vec![
                "0",
                "1",
                "0.5",
                "1.0",
                "0.000001",
                "-0",
                "0.999999999999999",
            ],
            vec!["1.5", "2", "-0.1", "10", "1.01", "00", "0.", "1e-1", "01"],
        ),
        (
            json!({ "exclusiveMinimum": 0.1, "exclusiveMaximum": 0.3 }),
            vec!["0.2", "0.11", "0.10001", "0.29999"],
            vec!["0.1", "0.10", "0.3", "0", "1"],
        ),
        (
            json!({ "minimum": -2.5, "maximum": -1.25 }),
            vec!["-2.5", "-1.25", "-2", "-1.3"],
            vec!["-1.2", "2", "-2.6", "-3", "-0"],
        ),
        (
            json!({ "minimum": 999, "exclusiveMinimum": true }),
            vec!["1000", "999.5", "123456789012345"],
            vec!["999", "99", "-1", "999.0"],
        ),
    ] {
        let mut keywords = bounds.clone();
        keywords["type"] = json!("number");
        let schema = schema(&keywords);
        for text in taken {
            assert_eq!(
                takes(&vocabulary, &llama, &schema, text),
                whole,
                "{bounds}: {text}"
            );
        }
        for text in not_taken {
            assert_ne!(
                takes(&vocabulary, &llama, &schema, text),
                whole,
                "{bounds}: {text}"
            );
        }
    }
}

#[test]
fn nullable_of_openapi_adds_null() {
    let (_, llama) = tokenizers().swap_remove(0);
    let vocabulary = Rc::new(Vocabulary::new(&llama));
    let taken = |json: Value, text: &str| takes(&vocabulary, &llama, &schema(&json), text);
    for json in [
        json!({ "type": "string", "nullable": true }),
        json!({ "$ref": "#/$defs/a", "nullable": true, "$defs": { "a": { "type": "string" } } }),
        json!({ "enum": ["a"], "nullable": true }),
        json!({ "anyOf": [{ "type": "string" }], "nullable": true }),
    ] {
        assert_eq!(taken(json.clone(), "null"), (true, true), "{json}");
        assert_eq!(taken(json.clone(), "\"a\""), (true, true), "{json}");
    }
    let json = json!({ "type": "string", "nullable": false });
    assert_eq!(taken(json, "null"), (false, false));
}
