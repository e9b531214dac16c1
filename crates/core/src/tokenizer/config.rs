//! `tokenizer_config.json`, and the tokens that stand beside a vocabulary.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::kind::bad;
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
