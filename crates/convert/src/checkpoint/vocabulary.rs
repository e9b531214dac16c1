//! The tokenizer of a checkpoint.

use univi::{
    Error, Result,
    gguf::Metadata,
    prompt::CHAT_TEMPLATE_KEY,
    tokenizer::{Tokenizer, TokenizerConfig},
};

use super::{Checkpoint, files::read_small};

const MODEL_NAME: &str = "tokenizer.model";
const JSON_NAME: &str = "tokenizer.json";
const CONFIG_NAME: &str = "tokenizer_config.json";
const ADDED_NAME: &str = "added_tokens.json";

/// What the reference adds to a vocabulary.
const PATCH: &str = "<im_patch>";
const START: &str = "<im_start>";
const END: &str = "<im_end>";

impl Checkpoint<'_> {
    /// Returns the tokenizer's file, for whoever keeps it beside the weights; `None` for a
    /// checkpoint without one.
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

    /// Returns the tokenizer: from `tokenizer.model`, which has the scores that llama.cpp wants,
    /// else from `tokenizer.json`.
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

    /// The vocabulary as GGUF metadata, for an embedding of `rows` tokens.
    ///
    /// # Errors
    /// As [`Checkpoint::tokenizer`]; `BadFile` where tokens have no embedding.
    pub(super) fn vocabulary(&self, rows: usize) -> Result<Metadata> {
        let Some(mut tokenizer) = self.tokenizer()? else {
            return Ok(Metadata::new());
        };
        self.add_visual_tokens(&mut tokenizer, rows)?;
        let tokens = tokenizer.vocab_len();
        if tokens > rows {
            let last = tokenizer.text(rows as u32).unwrap_or_default();
            let reason = format!(
                "the tokenizer has {tokens} tokens, but only {rows} have an embedding; \
                 {last:?} is the first without: take the tokenizer that belongs to these weights, \
                 or remove tokens that were added to it"
            );
            return Err(Error::BadFile {
                format: "checkpoint",
                reason,
            });
        }
        let mut metadata = tokenizer.metadata();
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

    /// Adds the tokens that the reference adds when it loads a model, in its order, whether or not
    /// a file names them.
    fn add_visual_tokens(&self, tokenizer: &mut Tokenizer, rows: usize) -> Result<()> {
        let c = &self.config;
        if !self.has_vision() {
            return Ok(());
        }
        // No prompt has this one: without a row of its own nothing is missing.
        let has_row = tokenizer.vocab_len() < rows;
        if c.mm_use_im_patch_token.unwrap_or(true) && has_row {
            tokenizer.add_token(PATCH)?;
        }
        if c.mm_use_im_start_end.unwrap_or(false) {
            tokenizer.add_token(START)?;
            tokenizer.add_token(END)?;
        }
        Ok(())
    }
}
