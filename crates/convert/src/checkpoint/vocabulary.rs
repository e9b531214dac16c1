//! The tokenizer of a checkpoint.

use univi::{
    Result,
    gguf::{Array, Metadata, Value},
    prompt::CHAT_TEMPLATE_KEY,
    tokenizer::{Tokenizer, TokenizerConfig},
};

use super::{Checkpoint, files::read_small};

const MODEL_NAME: &str = "tokenizer.model";
const JSON_NAME: &str = "tokenizer.json";
const CONFIG_NAME: &str = "tokenizer_config.json";
const ADDED_NAME: &str = "added_tokens.json";

impl Checkpoint<'_> {
    /// The tokenizer's file, for whoever keeps it beside the weights; `None` for a checkpoint
    /// without one.
    ///
    /// # Errors
    /// `Io`.
    pub fn tokenizer_file(&self) -> Result<Option<&'static str>> {
        for name in [JSON_NAME, MODEL_NAME] {
            if self.files.len(name)?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// The tokenizer: from `tokenizer.model`, which has the scores that llama.cpp wants, else from
    /// `tokenizer.json`.
    ///
    /// # Errors
    /// `Tokenizer` for a file that can't be read, named with it.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        let config = self.tokenizer_config()?;
        if let Some(model) = read_small(self.files, MODEL_NAME)? {
            return Tokenizer::from_sentencepiece(&model, &config)
                .map(Some)
                .map_err(|e| e.in_file(MODEL_NAME));
        }
        match read_small(self.files, JSON_NAME)? {
            Some(json) => Tokenizer::from_json(&json, &config)
                .map(Some)
                .map_err(|e| e.in_file(JSON_NAME)),
            None => Ok(None),
        }
    }

    fn tokenizer_config(&self) -> Result<TokenizerConfig> {
        let mut config = match read_small(self.files, CONFIG_NAME)? {
            Some(json) => TokenizerConfig::from_json(&json).map_err(|e| e.in_file(CONFIG_NAME))?,
            None => TokenizerConfig::default(),
        };
        if let Some(json) = read_small(self.files, ADDED_NAME)? {
            config
                .add_tokens(&json)
                .map_err(|e| e.in_file(ADDED_NAME))?;
        }
        Ok(config)
    }

    /// The vocabulary as GGUF metadata, cut to the `rows` tokens that have an embedding.
    pub(super) fn vocabulary(&self, rows: usize) -> Result<Metadata> {
        let Some(tokenizer) = self.tokenizer()? else {
            return Ok(Metadata::new());
        };
        let mut metadata = tokenizer.metadata();
        if tokenizer.vocab_len() > rows {
            let lists = metadata
                .iter()
                .filter(|(_, value)| matches!(value, Value::Array(list) if list.len() > rows));
            for key in lists.map(|(key, _)| key.to_string()).collect::<Vec<_>>() {
                let cut = match metadata.get(&key) {
                    Some(Value::Array(Array::String(v))) => v[..rows].to_vec().into(),
                    Some(Value::Array(Array::F32(v))) => v[..rows].to_vec().into(),
                    Some(Value::Array(Array::I32(v))) => v[..rows].to_vec().into(),
                    _ => continue,
                };
                metadata.insert(key, Value::clone(&cut));
            }
        }
        // Chat-UniVi has templates of its own.
        if let Some(template) = self
            .tokenizer_config()?
            .chat_template
            .filter(|_| !self.has_vision())
        {
            metadata.insert(CHAT_TEMPLATE_KEY, template);
        }
        Ok(metadata)
    }
}
