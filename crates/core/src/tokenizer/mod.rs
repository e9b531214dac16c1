//! Text to token ids and back, from every form in which a LLaMA tokenizer comes.
//!
//! ```text
//! tokenizer.model (SentencePiece) ─┐
//! tokenizer.json  (Hugging Face)  ─┼─> Tokenizer ── encode ──> ids ── Decoder ──> text
//! GGUF vocabulary (llama, gpt2)   ─┘
//! ```
//!
//! All of them split a text at its special tokens first, here and in one way; what lies between is
//! encoded by SentencePiece's merging (scores) or by the crate `tokenizers` (ranked merges).

mod config;
mod gguf;
mod huggingface;
mod kind;
mod sentencepiece;
mod special;
mod spm;
mod steps;

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use crate::Result;
use special::Matcher;
use spm::Spm;

pub(crate) use special::ControlNames;

pub use config::{AddedToken, TokenizerConfig};
pub use kind::Kind;
use kind::bad;
pub use sentencepiece::{Piece, SentencePieceModel};

/// Options of encoding a text; the default is [`EncodeOptions::PROMPT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodeOptions {
    /// Put the begin and end tokens there that the vocabulary asks for.
    pub add_special: bool,
    /// Take `</s>` and the like in the text for the tokens that they name, not for letters.
    pub parse_special: bool,
}

impl Default for EncodeOptions {
    fn default() -> EncodeOptions {
        EncodeOptions::PROMPT
    }
}

impl EncodeOptions {
    /// Sets [`EncodeOptions::add_special`].
    pub fn add_special(mut self, add_special: bool) -> EncodeOptions {
        self.add_special = add_special;
        self
    }

    /// Sets [`EncodeOptions::parse_special`].
    pub fn parse_special(mut self, parse_special: bool) -> EncodeOptions {
        self.parse_special = parse_special;
        self
    }

    /// A whole prompt: begin token in front, special tokens in the text are tokens.
    pub const PROMPT: EncodeOptions = EncodeOptions {
        add_special: true,
        parse_special: true,
    };
    /// A piece of a prompt that something else stands before.
    pub const PIECE: EncodeOptions = EncodeOptions {
        add_special: false,
        parse_special: true,
    };
}

/// Where SentencePiece's space is put before a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    Never,
    /// At the start of the text only.
    Start,
    /// At the start and after each special token: LLaMA's `legacy` behaviour, and llama.cpp's.
    EveryPiece,
    /// `legacy: false` as transformers 4.31 does it: after a special token the text is encoded
    /// with the space, which is then cut off its first token, unless the text has its own.
    StartThenCut,
}

struct Token {
    /// As it stands in the file.
    text: String,
    /// What it decodes to.
    bytes: Vec<u8>,
    kind: Kind,
}

/// Special tokens that swallow the white space beside them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Strips {
    left: bool,
    right: bool,
}

enum Engine {
    /// Pieces with scores.
    Spm(Spm),
    /// Ranked merges, with `space` put before a text where [`Prefix`] asks for one.
    HuggingFace {
        tokenizer: Box<tokenizers::Tokenizer>,
        space: String,
        /// Not before a text that begins with one.
        unless_there: bool,
    },
}

/// A vocabulary that encodes and decodes.
pub struct Tokenizer {
    engine: Engine,
    tokens: Vec<Token>,
    ids: HashMap<String, u32>,
    /// Tokens that split a text: all of them, and those that do so even where special tokens are
    /// letters.
    special: Matcher,
    always_special: Matcher,
    splitting: BTreeSet<u32>,
    strips: HashMap<u32, Strips>,
    prefix: Prefix,
    /// Whether decoding drops the space that encoding put in front.
    drops_space: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    eog: BTreeSet<u32>,
    /// The `tokenizer.json` that this came from, for [`Tokenizer::metadata`].
    json: Option<String>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer of {} tokens", self.tokens.len())
    }
}

/// Tokens that end what a model says, by name, since few files say which they are.
const END_OF_GENERATION: [&str; 11] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
];

/// What the readers of the three forms find out about a vocabulary.
struct Parts {
    engine: Engine,
    tokens: Vec<Token>,
    /// Tokens that split a text; of these, `UserDefined` ones do so even where special tokens are
    /// letters.
    splitting: BTreeSet<u32>,
    strips: HashMap<u32, Strips>,
    prefix: Prefix,
    drops_space: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    /// Tokens that end what a model says, besides `eos` and the well-known ones.
    eog: Vec<u32>,
}

impl Tokenizer {
    /// Reads a SentencePiece `tokenizer.model`, which is all that the released checkpoints carry.
    ///
    /// # Errors
    /// `Tokenizer` that says what is wrong with the file, or which token of `config` it lacks.
    pub fn from_sentencepiece(model: &[u8], config: &TokenizerConfig) -> Result<Tokenizer> {
        let model = SentencePieceModel::parse(model)?;
        let whole: Vec<u32> = (0..)
            .zip(&model.pieces)
            .filter(|(_, p)| p.kind == Kind::UserDefined)
            .map(|(id, _)| id)
            .collect();
        let tokens: Vec<Token> = model.pieces.iter().map(token_of_piece).collect();
        let splitting = (0..)
            .zip(&model.pieces)
            .filter(|(_, p)| matches!(p.kind, Kind::Control | Kind::Unknown))
            .map(|(id, _)| id)
            .collect();
        let find = |text: &Option<String>, otherwise: Option<u32>| match text {
            None => otherwise.filter(|&id| (id as usize) < tokens.len()),
            Some(text) => (0..)
                .zip(&tokens)
                .find(|(_, t)| t.text == *text)
                .map(|(id, _)| id),
        };
        let (bos, eos) = (
            find(&config.bos_token, model.bos),
            find(&config.eos_token, model.eos),
        );
        let mut tokenizer = Tokenizer::new(Parts {
            engine: Engine::Spm(Spm::new(model.pieces, &whole)?),
            tokens,
            splitting,
            strips: HashMap::new(),
            prefix: match (model.add_dummy_prefix, config.legacy.unwrap_or(true)) {
                (false, _) => Prefix::Never,
                (true, true) => Prefix::EveryPiece,
                (true, false) => Prefix::StartThenCut,
            },
            drops_space: model.add_dummy_prefix,
            bos,
            eos,
            add_bos: config.add_bos_token.unwrap_or(true),
            add_eos: config.add_eos_token.unwrap_or(false),
            eog: Vec::new(),
        })?;
        for added in &config.added_tokens {
            tokenizer.add(added)?;
        }
        Ok(tokenizer)
    }

    fn new(parts: Parts) -> Result<Tokenizer> {
        let mut ids = HashMap::with_capacity(parts.tokens.len());
        for (id, token) in (0..).zip(&parts.tokens) {
            ids.entry(token.text.clone()).or_insert(id);
        }
        for (what, id) in [("begin", parts.bos), ("end", parts.eos)] {
            if let Some(id) = id.filter(|&id| id as usize >= parts.tokens.len()) {
                return Err(bad(format!(
                    "the {what} token is {id}, there are {} tokens",
                    parts.tokens.len()
                )));
            }
        }
        let known = END_OF_GENERATION.iter().filter_map(|t| ids.get(*t));
        let eog = known.chain(&parts.eos).chain(&parts.eog).copied().collect();
        let mut tokenizer = Tokenizer {
            engine: parts.engine,
            tokens: parts.tokens,
            ids,
            special: Matcher::new(std::iter::empty()),
            always_special: Matcher::new(std::iter::empty()),
            splitting: parts.splitting,
            strips: parts.strips,
            prefix: parts.prefix,
            drops_space: parts.drops_space,
            bos: parts.bos,
            eos: parts.eos,
            add_bos: parts.add_bos,
            add_eos: parts.add_eos,
            eog,
            json: None,
        };
        tokenizer.match_special();
        Ok(tokenizer)
    }

    fn match_special(&mut self) {
        let text = |id: u32| (self.tokens[id as usize].text.as_str(), id);
        let always = |id: &u32| self.tokens[*id as usize].kind == Kind::UserDefined;
        let special = Matcher::new(self.splitting.iter().copied().map(text));
        let always_special = Matcher::new(self.splitting.iter().copied().filter(always).map(text));
        (self.special, self.always_special) = (special, always_special);
    }

    /// Adds a control token such as `<im_start>` behind the vocabulary, or finds the one that is
    /// there, and gives its id. As with the reference's tokenizer, white space beside it is
    /// dropped.
    ///
    /// # Errors
    /// `Tokenizer` for an empty text.
    pub fn add_token(&mut self, text: &str) -> Result<u32> {
        self.add(&AddedToken {
            id: None,
            content: text.into(),
            strips_left: true,
            strips_right: true,
            special: true,
        })
    }

    fn add(&mut self, added: &AddedToken) -> Result<u32> {
        if added.content.is_empty() {
            return Err(bad("an added token has no text"));
        }
        let next = self.tokens.len() as u32;
        let there = self.ids.get(&added.content).copied();
        let id = there.unwrap_or(next);
        if added.id.is_some_and(|wanted| wanted != id) {
            return Err(bad(format!(
                "the added token {:?} should have id {}, here it gets {id}",
                added.content,
                added.id.unwrap_or_default()
            )));
        }
        if there.is_none() {
            self.tokens.push(Token {
                text: added.content.clone(),
                bytes: added.content.clone().into_bytes(),
                kind: match added.special {
                    true => Kind::Control,
                    false => Kind::UserDefined,
                },
            });
            self.ids.insert(added.content.clone(), id);
            if END_OF_GENERATION.contains(&added.content.as_str()) {
                self.eog.insert(id);
            }
        }
        self.splitting.insert(id);
        let strips = Strips {
            left: added.strips_left,
            right: added.strips_right,
        };
        self.strips.insert(id, strips);
        self.match_special();
        Ok(id)
    }

    /// Returns the ids of a text.
    ///
    /// # Errors
    /// `Tokenizer` where the vocabulary has no way to say the text, which no sound one lacks.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>> {
        self.encode_quoting(text, options, &[])
    }

    /// Returns the ids of a text of which some bytes are `quoted`: what has a part in them names no
    /// control token. A name that ends behind them is quoted as well as one that ends in them.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_quoting(
        &self,
        text: &str,
        options: EncodeOptions,
        quoted: &[Range<usize>],
    ) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        if options.add_special && self.add_bos {
            ids.extend(self.bos);
        }
        let special = match options.parse_special {
            true => &self.special,
            false => &self.always_special,
        };
        let (mut start, mut at, mut is_first) = (0, 0, true);
        while at < text.len() {
            let is_said = |&(length, _): &(usize, u32)| {
                let overlaps = |range: &Range<usize>| range.start < at + length && at < range.end;
                quoted.iter().any(overlaps)
            };
            let found = special.longest_at(text, at).filter(|found| !is_said(found));
            let found = found.or_else(|| self.always_special.longest_at(text, at));
            let Some((length, id)) = found else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            let strips = self.strips.get(&id).copied().unwrap_or_default();
            let mut before = &text[start..at];
            if strips.left {
                before = before.trim_end();
            }
            self.encode_text(before, is_first, &mut ids)?;
            ids.push(id);
            is_first = false;
            at += length;
            if strips.right {
                at += text[at..].len() - text[at..].trim_start().len();
            }
            start = at;
        }
        self.encode_text(&text[start..], is_first, &mut ids)?;
        if options.add_special && self.add_eos {
            ids.extend(self.eos);
        }
        Ok(ids)
    }

    /// Encodes text without special tokens. `is_first`: no special token stands before it.
    fn encode_text(&self, text: &str, is_first: bool, ids: &mut Vec<u32>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let prefixed = match self.prefix {
            Prefix::Never => false,
            Prefix::Start => is_first,
            Prefix::EveryPiece => true,
            Prefix::StartThenCut => is_first || text.starts_with([' ', '▁']),
        };
        match &self.engine {
            Engine::HuggingFace {
                tokenizer,
                space,
                unless_there,
            } => {
                let there = *unless_there && text.starts_with([' ', '▁']);
                let space = if prefixed && !there { space } else { "" };
                let encoding = tokenizer
                    .encode_fast(format!("{space}{text}"), false)
                    .map_err(|e| bad(e.to_string()))?;
                ids.extend_from_slice(encoding.get_ids());
            }
            Engine::Spm(spm) => {
                let plain = text.replace(' ', "▁");
                let with_space = format!("▁{plain}");
                if prefixed {
                    ids.extend(spm.encode(&with_space));
                } else if self.prefix == Prefix::StartThenCut {
                    let encoded = spm.encode(&with_space);
                    let first = &spm.pieces()[encoded[0] as usize].text;
                    match first.strip_prefix('▁').map(|rest| (rest, spm.id(rest))) {
                        Some(("", _)) => {}
                        Some((_, Some(id))) => ids.push(id),
                        // The reference says <unk> here, which helps nobody.
                        _ => {
                            ids.extend(spm.encode(&plain));
                            return Ok(());
                        }
                    }
                    ids.extend_from_slice(&encoded[1..]);
                } else {
                    ids.extend(spm.encode(&plain));
                }
            }
        }
        Ok(())
    }

    /// Returns the text of ids, without special tokens and without the space that encoding puts in
    /// front. Every byte that is part of no character becomes one U+FFFD; ids beyond the vocabulary
    /// are nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut decoder = Decoder::default();
        let mut text = String::new();
        for id in ids {
            text.push_str(decoder.push(self, *id));
        }
        text.push_str(decoder.finish());
        text
    }

    /// The names of the tokens that are no text and part one.
    pub(crate) fn control_names(&self) -> ControlNames {
        let names = self.splitting.iter().filter_map(|&id| {
            let token = &self.tokens[id as usize];
            (token.kind != Kind::UserDefined).then_some((token.text.as_str(), id))
        });
        ControlNames::new(names)
    }

    /// Returns the id of a token by its text as it stands in the file, such as `</s>` or `▁yes`.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// Returns the text of a token as it stands in the file.
    pub fn text(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(|t| t.text.as_str())
    }

    /// Returns what a token is for.
    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.tokens.get(id as usize).map(|t| t.kind)
    }

    /// Returns what a token adds to a decoded text: no bytes for special tokens.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.tokens.get(id as usize).map(|token| match token.kind {
            Kind::Control | Kind::Unknown => &[],
            _ => &token.bytes[..],
        })
    }

    /// Returns the number of tokens. A model may have more rows than that; it never has fewer.
    pub fn vocab_len(&self) -> usize {
        self.tokens.len()
    }

    /// Begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Returns whether a prompt starts with the begin token.
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// Returns whether the model has said all that it wanted when it says this.
    pub fn ends_generation(&self, id: u32) -> bool {
        self.eog.contains(&id)
    }
}

/// Tokens to text, one by one, as they are generated. The text is that of [`Tokenizer::decode`].
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    started: bool,
    /// Bytes that may still become a character.
    pending: Vec<u8>,
    text: String,
}

impl Decoder {
    /// Adds a token, and returns the text that it completes; empty while a character is still
    /// incomplete.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> &str {
        self.text.clear();
        let bytes = self.next_bytes(tokenizer, id);
        let is_text = tokenizer
            .kind(id)
            .is_some_and(|kind| !matches!(kind, Kind::Control | Kind::Unknown));
        if is_text {
            self.started = true;
            self.pending.extend_from_slice(bytes);
            self.take_characters(false);
        }
        &self.text
    }

    /// Returns what a token would add to the text.
    pub(crate) fn next_bytes<'a>(&self, tokenizer: &'a Tokenizer, id: u32) -> &'a [u8] {
        let bytes = tokenizer.bytes(id).unwrap_or_default();
        let may_drop =
            !self.started && tokenizer.drops_space && tokenizer.kind(id) != Some(Kind::Byte);
        match bytes {
            [b' ', rest @ ..] if may_drop => rest,
            bytes => bytes,
        }
    }

    /// Returns what is left when nothing more comes: a character that was never completed.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        self.take_characters(true);
        &self.text
    }

    fn take_characters(&mut self, all: bool) {
        let mut rest = &self.pending[..];
        while !rest.is_empty() {
            let error = match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.text.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => error,
            };
            let (valid, invalid) = rest.split_at(error.valid_up_to());
            self.text.push_str(&String::from_utf8_lossy(valid));
            rest = invalid;
            if error.error_len().is_none() && !all {
                break;
            }
            self.text.push('\u{fffd}');
            rest = &rest[1..];
        }
        let taken = self.pending.len() - rest.len();
        self.pending.drain(..taken);
    }
}

fn token_of_piece(piece: &Piece) -> Token {
    Token {
        text: piece.text.clone(),
        bytes: match (piece.kind, spm::byte_of(&piece.text)) {
            (Kind::Byte, Some(byte)) => vec![byte],
            _ => piece.text.replace('▁', " ").into_bytes(),
        },
        kind: piece.kind,
    }
}
