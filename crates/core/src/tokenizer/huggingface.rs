//! Hugging Face's `tokenizer.json` and `tokenizer_config.json`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::LazyLock,
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Engine, Kind, Parts, Prefix, Strips, Token, Tokenizer, bad, sentencepiece::MAX_PIECES, spm,
    steps,
};
use crate::Result;

/// A token that stands beside the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedToken {
    /// Its id; `None` where it is the next one.
    pub id: Option<u32>,
    /// Its text.
    pub content: String,
    /// Drops the white space before it.
    pub strips_left: bool,
    /// Drops the white space behind it.
    pub strips_right: bool,
    /// Whether it is no text.
    pub special: bool,
}

/// What `tokenizer_config.json` says of a tokenizer, as far as it matters here. The default is an
/// empty file's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// Begins a text.
    pub bos_token: Option<String>,
    /// Ends a text.
    pub eos_token: Option<String>,
    /// Whether a prompt starts with the begin token.
    pub add_bos_token: Option<bool>,
    /// Whether a text ends with the end token.
    pub add_eos_token: Option<bool>,
    /// Whether text after a special token gets a space in front, as LLaMA's tokenizer did at
    /// first.
    pub legacy: Option<bool>,
    /// Tokens beside the vocabulary of a `tokenizer.model`.
    pub added_tokens: Vec<AddedToken>,
    /// A Jinja template for conversations.
    pub chat_template: Option<String>,
}

impl TokenizerConfig {
    /// Reads a `tokenizer_config.json`.
    ///
    /// # Errors
    /// `Tokenizer` for anything that is not one.
    pub fn from_json(json: &[u8]) -> Result<TokenizerConfig> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Text {
            Plain(String),
            Added { content: String },
        }
        impl Text {
            fn content(self) -> String {
                match self {
                    Text::Plain(content) | Text::Added { content } => content,
                }
            }
        }
        #[derive(Deserialize)]
        struct Added {
            content: String,
            #[serde(default)]
            lstrip: bool,
            #[serde(default)]
            rstrip: bool,
            #[serde(default)]
            special: bool,
        }
        #[derive(Deserialize)]
        struct File {
            bos_token: Option<Text>,
            eos_token: Option<Text>,
            add_bos_token: Option<bool>,
            add_eos_token: Option<bool>,
            legacy: Option<bool>,
            #[serde(default)]
            added_tokens_decoder: BTreeMap<String, Added>,
            /// Some files name several; the one that matters is named `default`.
            chat_template: Option<Value>,
        }
        let wrong = |e: String| bad(format!("tokenizer_config.json: {e}"));
        let file: File = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
        let mut added_tokens = Vec::new();
        for (id, added) in file.added_tokens_decoder {
            let id = id
                .parse()
                .map_err(|_| wrong(format!("the id of an added token is {id:?}")))?;
            added_tokens.push(AddedToken {
                id: Some(id),
                content: added.content,
                strips_left: added.lstrip,
                strips_right: added.rstrip,
                special: added.special,
            });
        }
        added_tokens.sort_by_key(|t| t.id);
        Ok(TokenizerConfig {
            bos_token: file.bos_token.map(Text::content),
            eos_token: file.eos_token.map(Text::content),
            add_bos_token: file.add_bos_token,
            add_eos_token: file.add_eos_token,
            legacy: file.legacy,
            added_tokens,
            chat_template: match file.chat_template {
                Some(Value::String(template)) => Some(template),
                Some(Value::Array(several)) => several
                    .iter()
                    .find(|t| t["name"] == "default")
                    .and_then(|t| t["template"].as_str())
                    .map(String::from),
                _ => None,
            },
        })
    }

    /// Adds the tokens of an `added_tokens.json`, the older form: text to id. White space beside
    /// these is dropped, as transformers 4.31 does.
    ///
    /// # Errors
    /// `Tokenizer` for anything that is not one.
    pub fn add_tokens(&mut self, json: &[u8]) -> Result<()> {
        let tokens: BTreeMap<String, u32> =
            serde_json::from_slice(json).map_err(|e| bad(format!("added_tokens.json: {e}")))?;
        for (content, id) in tokens {
            if self.added_tokens.iter().any(|t| t.content == content) {
                continue;
            }
            self.added_tokens.push(AddedToken {
                id: Some(id),
                content,
                strips_left: true,
                strips_right: true,
                special: true,
            });
        }
        self.added_tokens.sort_by_key(|t| t.id);
        Ok(())
    }
}

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
