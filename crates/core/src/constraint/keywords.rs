//! The keywords of schemas: which are heeded, which say nothing, which are refused and why.

use super::{json::Json, refusal::refused};
use crate::Result;

/// Keywords that are heeded, besides those of [`NOTES`].
const KEYWORDS: &str = "type, enum, const, anyOf, oneOf, allOf of one, $ref, $defs, properties, required, additionalProperties, \
     propertyNames, minProperties, maxProperties, items, prefixItems, minItems, maxItems, minLength, maxLength, minimum, maximum, \
     exclusiveMinimum, exclusiveMaximum, nullable";

/// Keywords that say nothing about what is valid. All that begin with `x-` are such, too.
const NOTES: [&str; 22] = [
    "$schema",
    "$id",
    "id",
    "$comment",
    "$anchor",
    "$vocabulary",
    "title",
    "description",
    "markdownDescription",
    "default",
    "example",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "contentEncoding",
    "contentMediaType",
    "discriminator",
    "externalDocs",
    "xml",
    "enumNames",
];

/// Well-known keywords that are refused, and why.
const REFUSED: [(&str, &str); 9] = [
    (
        "pattern",
        "regular expressions are not read; list the values with enum, or check the answer",
    ),
    (
        "multipleOf",
        "an answer is written from its first digit on; check it afterwards",
    ),
    (
        "uniqueItems",
        "what was said is not compared; check the answer afterwards",
    ),
    ("contains", "items are of one schema each; use prefixItems"),
    ("not", "only what is valid can be written down; list it"),
    ("if", "write the cases as anyOf"),
    (
        "patternProperties",
        "regular expressions are not read; use additionalProperties",
    ),
    ("dependentRequired", "write the cases as anyOf"),
    ("dependentSchemas", "write the cases as anyOf"),
];

/// Where `$ref` may point into.
pub(super) const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// Keywords that say all about a value by themselves: what stands beside them would have to be
/// multiplied out.
const ALONE: [&str; 6] = ["enum", "const", "anyOf", "oneOf", "allOf", "$ref"];

/// Keywords that only say something about values of one type.
const OF_TYPE: [(&str, &[&str]); 4] = [
    (
        "object",
        &[
            "properties",
            "required",
            "additionalProperties",
            "unevaluatedProperties",
            "propertyNames",
            "minProperties",
            "maxProperties",
        ],
    ),
    (
        "array",
        &[
            "items",
            "prefixItems",
            "additionalItems",
            "unevaluatedItems",
            "minItems",
            "maxItems",
        ],
    ),
    ("string", &["minLength", "maxLength"]),
    (
        "number",
        &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
    ),
];

pub(super) const TYPES: [&str; 7] = [
    "object", "array", "string", "integer", "number", "boolean", "null",
];

/// That nothing would be left unheeded.
pub(super) fn check_keywords(keywords: &[(String, Json)], place: &str) -> Result<()> {
    let alone = ALONE
        .into_iter()
        .find(|alone| keywords.iter().any(|(keyword, _)| keyword == alone));
    for (keyword, _) in keywords {
        let is_definitions = DEFINITIONS.contains(&keyword.as_str());
        let is_known = matches!(keyword.as_str(), "type" | "nullable")
            || ALONE.contains(&keyword.as_str())
            || OF_TYPE
                .iter()
                .any(|(_, of_type)| of_type.contains(&keyword.as_str()));
        if !(is_known || is_definitions || is_note(keyword)) {
            let reason = REFUSED.iter().find(|(refused, _)| refused == keyword);
            return Err(refused(match reason {
                Some((_, reason)) => format!("{place}/{keyword} is not supported: {reason}"),
                None => format!("{place}/{keyword} is not supported; supported are {KEYWORDS}"),
            }));
        }
        let Some(alone) = alone else { continue };
        let is_type_of_values = keyword == "type" && matches!(alone, "enum" | "const");
        if !(keyword == alone
            || keyword == "nullable"
            || is_note(keyword)
            || is_definitions
            || is_type_of_values)
        {
            return Err(refused(format!(
                "{place} has {keyword} beside {alone}, which is not supported; give each a schema of its own"
            )));
        }
    }
    Ok(())
}

/// The types that a value may have; those that keywords speak of, where `type` is missing; none
/// where nothing is said.
pub(super) fn types<'a>(schema: &'a Json, place: &str) -> Result<Vec<&'a str>> {
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
    Ok(types)
}

pub(super) fn is_note(keyword: &str) -> bool {
    NOTES.contains(&keyword) || keyword.starts_with("x-")
}

/// The least or the largest number, and whether it is itself left out.
pub(super) enum Bound {
    Min(f64, bool),
    Max(f64, bool),
}

pub(super) fn bounds(schema: &Json, place: &str) -> Result<Vec<Bound>> {
    let mut bounds = Vec::new();
    for (keyword, bound) in schema.object(place)? {
        // Until 2016, a boolean said whether the bound itself is left out.
        let is_excluded = |keyword: &str| schema.get(keyword) == Some(&Json::Bool(true));
        if matches!(bound, Json::Bool(_)) && keyword.starts_with("exclusive") {
            continue;
        }
        let bound = || bound.number(&format!("{place}/{keyword}"));
        match keyword.as_str() {
            "minimum" => bounds.push(Bound::Min(bound()?, is_excluded("exclusiveMinimum"))),
            "maximum" => bounds.push(Bound::Max(bound()?, is_excluded("exclusiveMaximum"))),
            "exclusiveMinimum" => bounds.push(Bound::Min(bound()?, true)),
            "exclusiveMaximum" => bounds.push(Bound::Max(bound()?, true)),
            _ => {}
        }
    }
    Ok(bounds)
}
