//! Hugging Face's `tokenizer.json`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Engine, Kind, Parts, Prefix, Strips, Token, Tokenizer, TokenizerConfig, bad,
    sentencepiece::MAX_PIECES, spm, steps,
};
use crate::Result;

#[derive(Deserialize)]
struct JsonAdded {
    id: u32,
    content: String,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    special: bool,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`: BPE, either byte-level or SentencePiece-like with byte fallback.
    ///
    /// Special tokens are found in the text as it is, before any normalisation.
    ///
    /// # Errors
    /// `Tokenizer` that says what is wrong with the file, or what in it is not supported.
    pub fn from_json(json: &[u8], config: &TokenizerConfig) -> Result<Tokenizer> {
        let wrong = |e: String| bad(format!("tokenizer.json: {}", one_line(&e)));
        let text = std::str::from_utf8(json).map_err(|e| wrong(e.to_string()))?;
        steps::check_size(text).map_err(wrong)?;
        let mut root: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if !root.is_object() {
            return Err(wrong("it is no JSON object".into()));
        }
        let model = &root["model"];
        if model["type"].as_str().unwrap_or("BPE") != "BPE" || !model["merges"].is_array() {
            return Err(wrong(format!(
                "the model is of type {}; only BPE is supported",
                model["type"]
            )));
        }
        steps::check(&root).map_err(wrong)?;
        let byte_level = ["normalizer", "pre_tokenizer", "decoder"]
            .iter()
            .any(|step| step_of_type(&mut root[*step], "ByteLevel").is_some());
        let byte_fallback = root["model"]["byte_fallback"] == true;
        if !byte_level && !byte_fallback {
            return Err(wrong(
                "its BPE is neither byte-level nor with byte fallback; \
                 other kinds are not supported"
                    .into(),
            ));
        }

        let (tokens, splitting, strips) = tokens_of(&root, byte_level).map_err(wrong)?;
        check_merges(&root["model"]).map_err(wrong)?;
        let (prefix, space, unless_there) = match byte_level {
            true => (Prefix::Never, String::new(), false),
            false => take_prefix(&mut root).map_err(wrong)?,
        };
        let (begins, ends) = template_tokens(&root["post_processor"]);
        let find = |text: &str| {
            (0..)
                .zip(&tokens)
                .find(|(_, t)| t.text == text)
                .map(|(id, _)| id)
        };
        let named = |configured: &Option<String>, in_template: &Option<String>, usual: &str| {
            configured
                .as_deref()
                .or(in_template.as_deref())
                .map_or_else(|| find(usual), find)
        };
        let bos = named(&config.bos_token, &begins, "<s>");
        let eos = named(&config.eos_token, &ends, "</s>");

        // What is left is what turns text between special tokens into ids.
        root["added_tokens"] = Value::Array(Vec::new());
        for step in ["post_processor", "decoder", "truncation", "padding"] {
            root[step] = Value::Null;
        }
        let parameters = ["dropout", "continuing_subword_prefix", "end_of_word_suffix"];
        for parameter in parameters {
            root["model"][parameter] = Value::Null;
        }
        let tokenizer: tokenizers::Tokenizer =
            serde_json::from_value(root).map_err(|e| wrong(e.to_string()))?;

        let mut tokenizer = Tokenizer::new(Parts {
            engine: Engine::HuggingFace {
                tokenizer: Box::new(tokenizer),
                space,
                unless_there,
            },
            tokens,
            splitting,
            strips,
            prefix,
            drops_space: prefix != Prefix::Never,
            bos,
            eos,
            add_bos: config.add_bos_token.unwrap_or(begins.is_some()),
            add_eos: config.add_eos_token.unwrap_or(ends.is_some()),
            eog: Vec::new(),
        })?;
        tokenizer.json = Some(text.to_string());
        Ok(tokenizer)
    }
}

/// Errors quote what the file holds, on lines of their own.
fn one_line(error: &str) -> String {
    const MAX_LETTERS: usize = 300;
    let words: Vec<&str> = error.split_whitespace().collect();
    words.join(" ").chars().take(MAX_LETTERS).collect()
}

/// The library takes room for the longest token, and writes what a merge makes there.
fn check_merges(model: &Value) -> Result<(), String> {
    let vocabulary = model["vocab"].as_object();
    let longest = vocabulary
        .and_then(|v| v.keys().map(String::len).max())
        .unwrap_or(0);
    for merge in model["merges"].as_array().into_iter().flatten() {
        let (left, right) = match merge {
            Value::String(merge) => merge.split_once(' ').unwrap_or((merge, "")),
            pair => (
                pair[0].as_str().unwrap_or_default(),
                pair[1].as_str().unwrap_or_default(),
            ),
        };
        steps::check_merge(left, right, longest)?;
    }
    Ok(())
}

/// The first step of type `wanted` in a step or sequence of steps.
fn step_of_type<'a>(step: &'a mut Value, wanted: &str) -> Option<&'a mut Value> {
    if step["type"] == wanted {
        return Some(step);
    }
    let steps = ["normalizers", "pretokenizers", "decoders"];
    let list = step.as_object_mut()?.iter_mut();
    list.filter(|(key, _)| steps.contains(&key.as_str()))
        .filter_map(|(_, value)| value.as_array_mut())
        .flatten()
        .find_map(|inner| step_of_type(inner, wanted))
}

/// Takes the step that puts a space before texts out of the pipeline, since it must know where in
/// the whole text a piece stands.
fn take_prefix(root: &mut Value) -> Result<(Prefix, String, bool), String> {
    if let Some(prepend) = step_of_type(&mut root["normalizer"], "Prepend") {
        let space = prepend["prepend"].as_str().unwrap_or_default().to_string();
        prepend["prepend"] = "".into();
        return Ok((Prefix::EveryPiece, space, false));
    }
    for step in ["normalizer", "pre_tokenizer"] {
        let Some(metaspace) = step_of_type(&mut root[step], "Metaspace") else {
            continue;
        };
        let space = metaspace["replacement"].as_str().unwrap_or("▁").to_string();
        let scheme = match metaspace["add_prefix_space"] == false {
            true => "never".to_string(),
            false => metaspace["prepend_scheme"]
                .as_str()
                .unwrap_or("always")
                .to_string(),
        };
        let prefix = match scheme.as_str() {
            "always" => Prefix::EveryPiece,
            "first" => Prefix::Start,
            "never" => Prefix::Never,
            other => return Err(format!("prepend_scheme {other:?} is not known")),
        };
        metaspace["prepend_scheme"] = "never".into();
        if let Some(fields) = metaspace.as_object_mut() {
            fields.remove("add_prefix_space");
        }
        return Ok((prefix, space, true));
    }
    Ok((Prefix::Never, String::new(), false))
}

/// The special tokens that a template puts before and behind a text.
fn template_tokens(processor: &Value) -> (Option<String>, Option<String>) {
    if let Some(inner) = processor["processors"].as_array() {
        let mut found = inner.iter().map(template_tokens);
        return found
            .find(|(begin, end)| begin.is_some() || end.is_some())
            .unwrap_or_default();
    }
    let (mut begins, mut ends, mut seen_text) = (None, None, false);
    for step in processor["single"].as_array().into_iter().flatten() {
        if !step["Sequence"].is_null() {
            seen_text = true;
        } else if let Some(token) = step["SpecialToken"]["id"].as_str() {
            let place = if seen_text { &mut ends } else { &mut begins };
            place.get_or_insert(token.to_string());
        }
    }
    (begins, ends)
}

type Vocabulary = (Vec<Token>, BTreeSet<u32>, HashMap<u32, Strips>);

fn tokens_of(root: &Value, byte_level: bool) -> Result<Vocabulary, String> {
    let vocabulary: HashMap<String, u32> =
        Deserialize::deserialize(&root["model"]["vocab"]).map_err(|e| e.to_string())?;
    let added: Vec<JsonAdded> = match &root["added_tokens"] {
        Value::Null => Vec::new(),
        list => Deserialize::deserialize(list).map_err(|e| e.to_string())?,
    };
    let count = vocabulary.len() + added.len();
    let end = vocabulary
        .values()
        .chain(added.iter().map(|a| &a.id))
        .max()
        .map_or(0, |max| *max as usize + 1);
    // Ids may have gaps, but the table that they ask for must be in proportion.
    if end > MAX_PIECES.min(2 * count + 1024) {
        return Err(format!("ids run to {end} for {count} tokens"));
    }
    let unknown = root["model"]["unk_token"].as_str();
    let mut tokens: Vec<Option<Token>> = (0..end).map(|_| None).collect();
    for (text, id) in vocabulary {
        let bytes = match (byte_level, spm::byte_of(&text)) {
            (true, _) => bytes_of(&text),
            (false, Some(byte)) => vec![byte],
            (false, None) => text.replace('▁', " ").into_bytes(),
        };
        let kind = match Some(text.as_str()) {
            t if t == unknown => Kind::Unknown,
            _ if !byte_level && spm::byte_of(&text).is_some() => Kind::Byte,
            _ => Kind::Normal,
        };
        let place = &mut tokens[id as usize];
        if let Some(other) = place {
            return Err(format!("{:?} and {text:?} both have id {id}", other.text));
        }
        *place = Some(Token { text, bytes, kind });
    }
    let (mut splitting, mut strips) = (BTreeSet::new(), HashMap::new());
    for token in added {
        if token.single_word {
            return Err(format!(
                "the added token {:?} must stand alone as a word, which is not supported",
                token.content
            ));
        }
        splitting.insert(token.id);
        strips.insert(
            token.id,
            Strips {
                left: token.lstrip,
                right: token.rstrip,
            },
        );
        tokens[token.id as usize] = Some(Token {
            bytes: token.content.clone().into_bytes(),
            kind: match token.special {
                true if unknown == Some(&token.content) => Kind::Unknown,
                true => Kind::Control,
                false => Kind::UserDefined,
            },
            text: token.content,
        });
    }
    let gap = || Token {
        text: String::new(),
        bytes: Vec::new(),
        kind: Kind::Unused,
    };
    let tokens = tokens.into_iter().map(|t| t.unwrap_or_else(gap)).collect();
    Ok((tokens, splitting, strips))
}

/// The bytes that a token of a byte-level vocabulary stands for: there every byte is written as a
/// printable character. A token with other characters stands for itself.
pub(super) fn bytes_of(text: &str) -> Vec<u8> {
    static BYTES: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
        let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let others = (0..=255).filter(|b| !printable(b));
        let moved = others.zip(256u32..).map(|(b, c)| (char::from_u32(c), b));
        let kept = (0..=255)
            .filter(printable)
            .map(|b| (Some(char::from(b)), b));
        moved
            .chain(kept)
            .filter_map(|(c, b)| Some((c?, b)))
            .collect()
    });
    let bytes: Option<Vec<u8>> = text.chars().map(|c| BYTES.get(&c).copied()).collect();
    bytes.unwrap_or_else(|| text.as_bytes().to_vec())
}
