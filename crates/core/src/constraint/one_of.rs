//! Whether the branches of `oneOf` exclude each other, so that they can be read as `anyOf`.

use super::{json::Json, keywords::TYPES, refusal::refused};
use crate::Result;

/// How deep properties and references are followed.
const MAX_DEPTH: usize = 8;

/// The most branches of one `oneOf`: each is compared with each.
const MAX_BRANCHES: usize = 256;

/// Checks that a value which is written for one branch is valid for no other.
///
/// # Errors
/// `BadRequest` that names two branches of which that is not certain.
pub(super) fn exclude_each_other(root: &Json, branches: &[Json], at: &str) -> Result<()> {
    if branches.len() > MAX_BRANCHES {
        return Err(refused(format!(
            "{at} has more than {MAX_BRANCHES} branches"
        )));
    }
    for (i, branch) in branches.iter().enumerate() {
        for (j, other) in branches.iter().enumerate() {
            if i != j && !is_never(root, branch, other, MAX_DEPTH) {
                return Err(refused(format!(
                    "{at}: a value may be valid for both {i} and {j}; give each a type of its own, \
                     or a required property with a const of its own, or write anyOf"
                )));
            }
        }
    }
    Ok(())
}

/// Whether a value that is written for `schema` is certainly not valid for `other`.
fn is_never(root: &Json, schema: &Json, other: &Json, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    let schemas = (resolved(root, schema), resolved(root, other));
    let (Some(schema), Some(other)) = schemas else {
        return false;
    };
    for choices in ["anyOf", "oneOf"] {
        if let Some(Json::List(choices)) = schema.get(choices) {
            return choices
                .iter()
                .all(|choice| is_never(root, choice, other, depth));
        }
        if let Some(Json::List(choices)) = other.get(choices) {
            return choices
                .iter()
                .all(|choice| is_never(root, schema, choice, depth));
        }
    }
    let types_overlap = types(schema).iter().any(|name| {
        types(other).iter().any(|other| {
            let numbers = ["integer", "number"];
            name == other || (numbers.contains(name) && numbers.contains(other))
        })
    });
    if !types_overlap {
        return true;
    }
    match (values(schema), values(other)) {
        (Some(values), Some(others)) => return values.iter().all(|value| !others.contains(value)),
        (Some(values), None) => {
            let types = types(other);
            return values
                .iter()
                .all(|value| !types.iter().any(|name| value.is_of(name)));
        }
        _ => {}
    }
    if types(schema) != ["object"] || types(other) != ["object"] {
        return false;
    }
    let (own, others) = (schema.get("properties"), other.get("properties"));
    let of =
        |properties: Option<&'_ Json>, name: &str| properties.and_then(|p| p.get(name)).cloned();
    let names_some = matches!(own, Some(Json::Object(names)) if !names.is_empty());
    let is_closed = other.get("additionalProperties") == Some(&Json::Bool(false));
    let lacks_required = names_some
        && required(other)
            .any(|name| of(own, name).is_none() && !required(schema).any(|own| own == name));
    lacks_required
        || required(schema).any(|name| match (of(own, name), of(others, name)) {
            (Some(own), Some(other)) => is_never(root, &own, &other, depth),
            (_, None) => is_closed,
            (None, Some(_)) => false,
        })
}

/// What `$ref` and `allOf` of one stand for.
fn resolved<'a>(root: &'a Json, mut schema: &'a Json) -> Option<&'a Json> {
    for _ in 0..MAX_DEPTH {
        schema = match (schema.get("$ref"), schema.get("allOf")) {
            (Some(Json::Text(to)), _) => root.pointed_to(to)?,
            (None, Some(Json::List(all))) => all.first().filter(|_| all.len() == 1)?,
            _ => {
                // Null is one more value, of another type.
                let is_nullable = schema.get("nullable") == Some(&Json::Bool(true));
                return (!is_nullable).then_some(schema);
            }
        };
    }
    None
}

fn required(schema: &Json) -> impl Iterator<Item = &str> {
    let names = match schema.get("required") {
        Some(Json::List(names)) => &names[..],
        _ => &[],
    };
    names.iter().filter_map(|name| match name {
        Json::Text(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The types that a value may have.
fn types(schema: &Json) -> Vec<&str> {
    let named = |name: &'_ Json| match name {
        Json::Text(name) => TYPES.into_iter().find(|known| known == name),
        _ => None,
    };
    match (schema.get("type"), values(schema)) {
        (Some(Json::List(names)), _) => names.iter().filter_map(named).collect(),
        (Some(name), _) => named(name).into_iter().collect(),
        (None, Some(values)) => {
            let is_used = |name: &&str| values.iter().any(|value| value.is_of(name));
            TYPES.into_iter().filter(is_used).collect()
        }
        (None, None) if schema.get("properties").is_some() => vec!["object"],
        (None, None) => TYPES.to_vec(),
    }
}

/// The values that there are, where they are listed.
fn values(schema: &Json) -> Option<&[Json]> {
    match (schema.get("enum"), schema.get("const")) {
        (Some(Json::List(values)), _) => Some(values),
        (None, Some(value)) => Some(std::slice::from_ref(value)),
        _ => None,
    }
}
