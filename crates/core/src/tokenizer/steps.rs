//! What a `tokenizer.json` may ask of the library that carries it out. The library takes its
//! parameters as they are, and panics, or takes all memory, over some of them.

use serde_json::Value;

/// The longest file, in bytes; the largest vocabularies take some 35 MB.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// The most objects, lists and items: read, each takes many times its bytes.
const MAX_OBJECTS: usize = 1 << 16;
const MAX_LISTS: usize = 1 << 20;
const MAX_ITEMS: usize = 1 << 22;

/// The most steps of each kind, and how deep they lie in each other.
const MAX_STEPS: usize = 16;
const MAX_DEPTH: usize = 4;

/// The longest text that a step puts somewhere or looks for, in bytes, and the longest pattern.
const MAX_TEXT: usize = 64;
const MAX_PATTERN: usize = 4096;

/// How many times as long a text may become.
const MAX_GROWTH: usize = 64;

/// Checks, before JSON is read, that it stays in proportion then.
pub(super) fn check_size(json: &str) -> Result<(), String> {
    if json.len() > MAX_BYTES {
        return Err(format!(
            "it has {} bytes, at most {MAX_BYTES} are read",
            json.len()
        ));
    }
    let (mut objects, mut lists, mut items) = (0, 0, 0);
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        if is_text {
            is_text = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => is_text = true,
            b'{' => objects += 1,
            b'[' => lists += 1,
            b',' => items += 1,
            _ => {}
        }
    }
    for (what, found, most) in [
        ("objects", objects, MAX_OBJECTS),
        ("lists", lists, MAX_LISTS),
        ("items", items, MAX_ITEMS),
    ] {
        if found > most {
            return Err(format!("it has {found} {what}, at most {most} are read"));
        }
    }
    Ok(())
}

/// Checks what turns text between special tokens into ids.
pub(super) fn check(root: &Value) -> Result<(), String> {
    let mut growth = 1;
    for (step, part) in [
        ("normalizer", "normalizers"),
        ("pre_tokenizer", "pretokenizers"),
    ] {
        let mut left = MAX_STEPS;
        check_step(&root[step], step, part, MAX_DEPTH, &mut left, &mut growth)?;
    }
    let model = &root["model"];
    for subword in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if !matches!(&model[subword], Value::Null) && model[subword] != "" {
            return Err(format!("{subword} is not supported"));
        }
    }
    Ok(())
}

fn check_step(
    step: &Value,
    kind: &str,
    parts: &str,
    depth: usize,
    left: &mut usize,
    growth: &mut usize,
) -> Result<(), String> {
    if step.is_null() {
        return Ok(());
    }
    *left = left
        .checked_sub(1)
        .ok_or_else(|| format!("it has more than {MAX_STEPS} steps of its {kind}"))?;
    let name = step["type"].as_str().unwrap_or_default();
    let unsupported = || {
        let name: String = name.chars().take(MAX_TEXT).collect();
        Err(format!("the {kind} {name:?} is not supported"))
    };
    match (kind, name) {
        (_, "Sequence") => {
            let depth = depth
                .checked_sub(1)
                .ok_or_else(|| format!("the steps of its {kind} nest too deep"))?;
            for inner in step[parts].as_array().into_iter().flatten() {
                check_step(inner, kind, parts, depth, left, growth)?;
            }
            Ok(())
        }
        ("normalizer", "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "ByteLevel") => Ok(()),
        ("normalizer", "Prepend") => text(&step["prepend"], "prepend").map(|_| ()),
        ("normalizer", "Replace") => {
            let Some(pattern) = step["pattern"].get("String") else {
                return Err("Replace by a regular expression is not supported".into());
            };
            let pattern = text(pattern, "the pattern of Replace")?;
            if pattern.is_empty() {
                return Err("Replace looks for an empty text".into());
            }
            let content = text(&step["content"], "the content of Replace")?;
            *growth *= content.len().div_ceil(pattern.len()).max(1);
            match *growth <= MAX_GROWTH {
                true => Ok(()),
                false => Err(format!(
                    "its normalizer makes texts more than {MAX_GROWTH} times as long"
                )),
            }
        }
        (
            "pre_tokenizer",
            "ByteLevel" | "Metaspace" | "Digits" | "Whitespace" | "WhitespaceSplit" | "Punctuation",
        ) => Ok(()),
        ("pre_tokenizer", "Split") => {
            let pattern = step["pattern"]
                .as_object()
                .and_then(|one| one.values().next());
            let pattern = pattern.and_then(Value::as_str).unwrap_or_default();
            match (1..=MAX_PATTERN).contains(&pattern.len()) {
                true => Ok(()),
                false => Err(format!(
                    "the pattern of Split has {} bytes, expected 1 to {MAX_PATTERN}",
                    pattern.len()
                )),
            }
        }
        _ => unsupported(),
    }
}

fn text<'v>(value: &'v Value, what: &str) -> Result<&'v str, String> {
    match value.as_str() {
        Some(text) if text.len() <= MAX_TEXT => Ok(text),
        Some(text) => Err(format!(
            "{what} has {} bytes, at most {MAX_TEXT} are supported",
            text.len()
        )),
        None => Err(format!("{what} is no text")),
    }
}

/// Checks that a merge makes no more than the `longest` token, for which the library has room.
pub(super) fn check_merge(left: &str, right: &str, longest: usize) -> Result<(), String> {
    match left.len() + right.len() <= longest {
        true => Ok(()),
        false => {
            let made: String = left.chars().chain(right.chars()).take(MAX_TEXT).collect();
            Err(format!(
                "a merge makes {made:?}, which is not in the vocabulary"
            ))
        }
    }
}
