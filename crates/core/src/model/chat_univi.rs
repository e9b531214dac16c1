//! Chat-UniVi (arXiv 2311.08046): pictures and clips become a short list of embeddings, which stand
//! in the prompt like words.

use std::{cell::OnceCell, rc::Rc};

use super::{engine_visual::EngineVisual, llama::Llama, vision::Vision};
use crate::{
    Backend, Error, Result,
    constraint::Vocabulary,
    prompt::{Prompt, Slot, Template},
    tokenizer::Tokenizer,
};

/// A model: a language model, how one speaks with it, and the vision encoder if it has any.
pub struct ChatUniVi<B: Backend> {
    backend: B,
    llama: Llama<B>,
    vision: Option<Vision<B>>,
    language: Language,
    /// Made for the first answer that is held to a schema.
    vocabulary: OnceCell<Rc<Vocabulary>>,
}

/// How a model's words are written down.
#[derive(Debug)]
pub struct Language {
    /// The vocabulary.
    pub tokenizer: Tokenizer,
    /// How a conversation becomes a prompt.
    pub template: Template,
    /// Whether `<im_start>` and `<im_end>` stand around visuals.
    pub wraps_visuals: bool,
}

/// One place in a prompt.
pub enum PromptToken<B: Backend> {
    /// A token of the vocabulary.
    Token(u32),
    /// This embedding of a visual.
    Row(EngineVisual<B>, usize),
}

impl<B: Backend> Clone for PromptToken<B> {
    fn clone(&self) -> Self {
        match self {
            PromptToken::Token(id) => PromptToken::Token(*id),
            PromptToken::Row(visual, row) => PromptToken::Row(visual.clone(), *row),
        }
    }
}

impl<B: Backend> PartialEq for PromptToken<B> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (PromptToken::Token(a), PromptToken::Token(b)) => a == b,
            (PromptToken::Row(a, i), PromptToken::Row(b, j)) => a == b && i == j,
            _ => false,
        }
    }
}

impl<B: Backend> ChatUniVi<B> {
    /// Makes a model of its parts.
    ///
    /// # Errors
    /// `BadMetadata` where the vision side was made for a language model of another width;
    /// `BadFile` where the vocabulary has more tokens than the language model.
    pub fn new(
        backend: B,
        llama: Llama<B>,
        vision: Option<Vision<B>>,
        language: Language,
    ) -> Result<ChatUniVi<B>> {
        let width = llama.config().width;
        if let Some(found) = vision
            .as_ref()
            .map(|vision| vision.config().width)
            .filter(|&found| found != width)
        {
            let reason = format!(
                "is {found}, but the language model is {width} wide: the files belong to different models"
            );
            return Err(Error::BadMetadata {
                key: "clip.vision.projection_dim".into(),
                reason,
            });
        }
        let (tokens, rows) = (language.tokenizer.vocab_len(), llama.config().vocabulary);
        if tokens > rows {
            let reason = format!(
                "has {tokens} tokens, but the language model knows {rows}: the files belong to different models"
            );
            return Err(Error::BadFile {
                format: "tokenizer",
                reason,
            });
        }
        Ok(ChatUniVi {
            backend,
            llama,
            vision,
            language,
            vocabulary: OnceCell::new(),
        })
    }

    /// Returns what computes.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Returns the language model.
    pub fn llama(&self) -> &Llama<B> {
        &self.llama
    }

    /// Returns the vision encoder.
    ///
    /// # Errors
    /// `BadRequest` where the model has none.
    pub fn vision(&self) -> Result<&Vision<B>> {
        let blind = || Error::BadRequest {
            reason: "this model has no vision side: it can't look at images and videos".into(),
        };
        self.vision.as_ref().ok_or_else(blind)
    }

    /// Returns whether the model has a vision encoder.
    pub fn has_vision(&self) -> bool {
        self.vision.is_some()
    }

    /// Returns the vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.language.tokenizer
    }

    /// Returns what the tokens spell, for answers that are held to a schema.
    pub fn vocabulary(&self) -> Rc<Vocabulary> {
        let made = || Rc::new(Vocabulary::new(self.tokenizer()));
        self.vocabulary.get_or_init(made).clone()
    }

    /// Returns how a conversation becomes a prompt.
    pub fn template(&self) -> &Template {
        &self.language.template
    }

    /// Returns whether `<im_start>` and `<im_end>` stand around visuals.
    pub fn wraps_visuals(&self) -> bool {
        self.language.wraps_visuals
    }

    /// Returns every place of a prompt, visuals where they stand.
    ///
    /// # Errors
    /// `BadRequest` where the prompt has a visual that is not given, or the other way round;
    /// `Tokenizer`.
    pub fn prompt_tokens(
        &self,
        prompt: &Prompt,
        visuals: &[EngineVisual<B>],
    ) -> Result<Vec<PromptToken<B>>> {
        if prompt.visuals.len() != visuals.len() {
            let reason = format!(
                "the prompt has {} images and videos, {} are given",
                prompt.visuals.len(),
                visuals.len()
            );
            return Err(Error::BadRequest { reason });
        }
        let mut prompt_tokens = Vec::new();
        for slot in prompt.encode(self.tokenizer())? {
            match slot {
                Slot::Tokens(ids) => prompt_tokens.extend(ids.into_iter().map(PromptToken::Token)),
                Slot::Visual(i) => prompt_tokens.extend(
                    (0..visuals[i].tokens()).map(|row| PromptToken::Row(visuals[i].clone(), row)),
                ),
            }
        }
        Ok(prompt_tokens)
    }

    /// Returns the embeddings `[places, width]`.
    ///
    /// # Panics
    /// Without places.
    pub fn embed(&self, prompt_tokens: &[PromptToken<B>]) -> B::Tensor {
        let b = &self.backend;
        // Runs of tokens, and runs of rows of one visual.
        let together = |a: &PromptToken<B>, b: &PromptToken<B>| match (a, b) {
            (PromptToken::Token(_), PromptToken::Token(_)) => true,
            (PromptToken::Row(a, i), PromptToken::Row(b, j)) => a == b && i + 1 == *j,
            _ => false,
        };
        let token = |prompt_token: &PromptToken<B>| {
            if let PromptToken::Token(id) = prompt_token {
                Some(*id)
            } else {
                None
            }
        };
        let run = |prompt_tokens: &[PromptToken<B>]| match &prompt_tokens[0] {
            PromptToken::Token(_) => self
                .llama
                .embed(&b.ids(&prompt_tokens.iter().filter_map(token).collect::<Vec<_>>())),
            PromptToken::Row(visual, row) => {
                b.slice(visual.embeds(), *row..row + prompt_tokens.len())
            }
        };
        let runs: Vec<B::Tensor> = prompt_tokens.chunk_by(together).map(run).collect();
        match &runs[..] {
            [run] => run.clone(),
            runs => b.concat(&runs.iter().collect::<Vec<_>>()),
        }
    }
}
