//! Vocabularies in GGUF metadata, read and written.

use std::collections::{BTreeSet, HashMap};

use tokenizers::{
    PreTokenizerWrapper, SplitDelimiterBehavior,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::{
    Engine, Kind, Parts, Piece, Prefix, Spm, Strips, Token, Tokenizer, TokenizerConfig, bad,
    huggingface::bytes_of, spm, steps, token_of_piece,
};
use crate::{Error, Result, gguf::Metadata};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const EOT: &str = "tokenizer.ggml.eot_token_id";
const EOM: &str = "tokenizer.ggml.eom_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
const JSON: &str = "tokenizer.huggingface.json";
/// Ours: transformers' flag of that name. A file with it came from a `tokenizer.model`, whose
/// user-defined pieces are part of the text around them; in llama.cpp they part it.
const LEGACY: &str = "univi.tokenizer.legacy";
/// Ours: ids of tokens that drop the white space on both sides.
const STRIPS: &str = "univi.tokenizer.strips";

/// How GPT-2 cuts text into words; what no alternative matches is a word too.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
/// LLaMA 3's, with groups of up to three digits. English endings are spelled out, because ignoring
/// case would let more than ASCII letters in.
const LLAMA3: &str = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's, with single digits.
const QWEN2: &str = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// llama.cpp's where a file names none: GPT-2's after cutting out punctuation, and then digits by
/// threes.
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"];

/// A way to cut text into words before merging (`tokenizer.ggml.pre`).
struct Words {
    patterns: &'static [&'static str],
    /// Whether a word that is a token is taken without merging.
    ignore_merges: bool,
    /// Whether prompts begin with the begin token where the file doesn't say.
    add_bos: bool,
}

fn words(pre: &str) -> Result<Words> {
    let plain = |patterns| Words {
        patterns,
        ignore_merges: false,
        add_bos: false,
    };
    Ok(match pre {
        "default" => plain(&DEFAULT),
        "gpt-2" => plain(&[GPT2]),
        "smollm" => plain(&[r"\p{N}", GPT2]),
        "qwen2" => plain(&[QWEN2]),
        "llama-bpe" => Words {
            patterns: &[LLAMA3],
            ignore_merges: true,
            add_bos: true,
        },
        other => {
            return Err(Error::BadMetadata {
                key: PRE.into(),
                reason: format!(
                    "is {other:?}; supported are default, gpt-2, smollm, qwen2 and llama-bpe"
                ),
            });
        }
    })
}

impl Tokenizer {
    /// Reads the vocabulary of a GGUF file: SentencePiece's (`llama`) or byte-level BPE (`gpt2`).
    /// A `tokenizer.huggingface.json` is taken before these, being more exact.
    ///
    /// # Errors
    /// `BadMetadata` that names the key, or `Tokenizer`.
    pub fn from_gguf(metadata: &Metadata) -> Result<Tokenizer> {
        if let Some(json) = metadata.opt_str(JSON)? {
            return from_gguf_json(json, metadata);
        }
        let model = metadata.str(MODEL)?;
        let (texts, kinds) = tokens_and_kinds(metadata)?;
        let legacy = metadata.opt_bool(LEGACY)?;
        let (mut splitting, mut whole) = (BTreeSet::new(), Vec::new());
        for (id, kind) in (0..).zip(&kinds) {
            match kind {
                Kind::UserDefined if legacy.is_some() => whole.push(id),
                Kind::Control | Kind::Unknown | Kind::UserDefined => {
                    splitting.insert(id);
                }
                Kind::Normal | Kind::Unused | Kind::Byte => {}
            }
        }
        let mut strips = HashMap::new();
        for id in metadata.opt_ints(STRIPS)?.unwrap_or_default() {
            let id = u32::try_from(id).ok().filter(|id| splitting.contains(id));
            let id = id.ok_or_else(|| Error::BadMetadata {
                key: STRIPS.into(),
                reason: "names a token that is not special".into(),
            })?;
            let both = Strips {
                left: true,
                right: true,
            };
            strips.insert(id, both);
        }
        let (engine, tokens, prefix, add_bos) = match model {
            "llama" => {
                let scores = metadata.f32s(SCORES)?;
                if scores.len() != texts.len() {
                    return Err(length(SCORES, scores.len(), texts.len()));
                }
                let pieces = texts.iter().zip(scores).zip(&kinds);
                let pieces: Vec<Piece> = pieces
                    .map(|((text, &score), &kind)| Piece {
                        text: text.clone(),
                        score,
                        kind,
                    })
                    .collect();
                let tokens = pieces.iter().map(token_of_piece).collect();
                let prefix = match (
                    metadata.opt_bool(ADD_SPACE)?.unwrap_or(true),
                    legacy.unwrap_or(true),
                ) {
                    (false, _) => Prefix::Never,
                    (true, true) => Prefix::EveryPiece,
                    (true, false) => Prefix::StartThenCut,
                };
                (Engine::Spm(Spm::new(pieces, &whole)?), tokens, prefix, true)
            }
            "gpt2" => {
                let words = words(metadata.opt_str(PRE)?.unwrap_or("default"))?;
                let engine = byte_level(texts, metadata.strings(MERGES)?, &words)?;
                let tokens = texts.iter().zip(&kinds).map(|(text, &kind)| Token {
                    text: text.clone(),
                    bytes: match kind {
                        Kind::Normal | Kind::Unused | Kind::Byte => bytes_of(text),
                        _ => text.clone().into_bytes(),
                    },
                    kind,
                });
                (engine, tokens.collect(), Prefix::Never, words.add_bos)
            }
            other => {
                return Err(Error::BadMetadata {
                    key: MODEL.into(),
                    reason: format!("is {other:?}; supported are llama and gpt2"),
                });
            }
        };
        Tokenizer::new(Parts {
            engine,
            tokens,
            splitting,
            strips,
            prefix,
            drops_space: prefix != Prefix::Never,
            bos: token_id(metadata, BOS, texts.len())?,
            eos: token_id(metadata, EOS, texts.len())?,
            add_bos: metadata.opt_bool(ADD_BOS)?.unwrap_or(add_bos),
            add_eos: metadata.opt_bool(ADD_EOS)?.unwrap_or(false),
            eog: [EOT, EOM]
                .into_iter()
                .filter_map(|key| token_id(metadata, key, texts.len()).transpose())
                .collect::<Result<_>>()?,
        })
    }

    /// Returns this vocabulary as GGUF metadata, from which [`Tokenizer::from_gguf`] makes it
    /// again.
    ///
    /// A vocabulary that came as `tokenizer.json` is written as that, with the token list beside
    /// it for programs that only want to look.
    pub fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new();
        let is_spm = !matches!(&self.engine, Engine::HuggingFace { .. } if !self.drops_space);
        metadata.insert(MODEL, if is_spm { "llama" } else { "gpt2" });
        metadata.insert(PRE, "default");
        let texts: Vec<String> = self.tokens.iter().map(|t| t.text.clone()).collect();
        metadata.insert(TOKENS, texts);
        if let Engine::Spm(spm) = &self.engine {
            let mut scores: Vec<f32> = spm.pieces().iter().map(|p| p.score).collect();
            scores.resize(self.tokens.len(), 0.0);
            metadata.insert(SCORES, scores);
        }
        let kinds: Vec<i32> = self.tokens.iter().map(|t| t.kind as i32).collect();
        metadata.insert(TYPES, kinds);
        for (key, id) in [(BOS, self.bos), (EOS, self.eos)] {
            if let Some(id) = id {
                metadata.insert(key, id);
            }
        }
        let unknown = self.tokens.iter().position(|t| t.kind == Kind::Unknown);
        if let Some(unknown) = unknown {
            metadata.insert(UNKNOWN, unknown as u32);
        }
        metadata.insert(ADD_BOS, self.add_bos);
        metadata.insert(ADD_EOS, self.add_eos);
        metadata.insert(ADD_SPACE, self.prefix != Prefix::Never);
        if let Some(json) = &self.json {
            metadata.insert(JSON, json.as_str());
        }
        if matches!(self.engine, Engine::Spm(_)) {
            metadata.insert(LEGACY, self.prefix != Prefix::StartThenCut);
        }
        let strips = self.strips.iter().filter(|(_, s)| s.left && s.right);
        let mut strips: Vec<u32> = strips.map(|(&id, _)| id).collect();
        strips.sort_unstable();
        if !strips.is_empty() {
            metadata.insert(STRIPS, strips);
        }
        metadata
    }
}

fn from_gguf_json(json: &str, metadata: &Metadata) -> Result<Tokenizer> {
    let texts = metadata.opt_strings(TOKENS)?.unwrap_or_default();
    let named = |key| {
        let id = token_id(metadata, key, texts.len())?;
        Ok::<_, Error>(id.map(|id| texts[id as usize].clone()))
    };
    let config = TokenizerConfig {
        bos_token: named(BOS)?,
        eos_token: named(EOS)?,
        add_bos_token: metadata.opt_bool(ADD_BOS)?,
        add_eos_token: metadata.opt_bool(ADD_EOS)?,
        ..TokenizerConfig::default()
    };
    let mut tokenizer = Tokenizer::from_json(json.as_bytes(), &config)?;
    // Tokens that were added behind the file's own.
    for text in texts.iter().skip(tokenizer.vocab_len()) {
        tokenizer.add_token(text)?;
    }
    Ok(tokenizer)
}

fn length(key: &str, found: usize, tokens: usize) -> Error {
    Error::BadMetadata {
        key: key.into(),
        reason: format!("has {found} entries for {tokens} tokens"),
    }
}

fn token_id(metadata: &Metadata, key: &str, tokens: usize) -> Result<Option<u32>> {
    let id = metadata.opt_u32(key)?;
    match id {
        Some(id) if id as usize >= tokens => Err(Error::BadMetadata {
            key: key.into(),
            reason: format!("is {id}, there are {tokens} tokens"),
        }),
        id => Ok(id),
    }
}

fn tokens_and_kinds(metadata: &Metadata) -> Result<(&[String], Vec<Kind>)> {
    let texts = metadata.strings(TOKENS)?;
    if texts.is_empty() {
        return Err(Error::BadMetadata {
            key: TOKENS.into(),
            reason: "is empty".into(),
        });
    }
    // An id that its own text does not lead back to could never be said.
    let mut first = HashMap::with_capacity(texts.len());
    for (id, text) in texts.iter().enumerate() {
        if let Some(first) = first.insert(text, id) {
            return Err(Error::BadMetadata {
                key: TOKENS.into(),
                reason: format!("holds {text:?} twice, as tokens {first} and {id}"),
            });
        }
    }
    let Some(values) = metadata.opt_ints(TYPES)? else {
        let kind = |text: &String| match spm::byte_of(text) {
            Some(_) => Kind::Byte,
            None => Kind::Normal,
        };
        return Ok((texts, texts.iter().map(kind).collect()));
    };
    if values.len() != texts.len() {
        return Err(length(TYPES, values.len(), texts.len()));
    }
    let kinds: Option<Vec<Kind>> = values
        .iter()
        .map(|&n| Kind::from_number(u64::try_from(n).ok()?))
        .collect();
    let kinds = kinds.ok_or_else(|| Error::BadMetadata {
        key: TYPES.into(),
        reason: "has an entry that is not 1 to 6".into(),
    })?;
    Ok((texts, kinds))
}

fn byte_level(texts: &[String], merges: &[String], words: &Words) -> Result<Engine> {
    let mut vocabulary = Vocab::with_capacity(texts.len());
    for (id, text) in (0..).zip(texts) {
        if let Some(first) = vocabulary.insert(text.clone(), id) {
            return Err(bad(format!("tokens {first} and {id} are both {text:?}")));
        }
    }
    let longest = texts.iter().map(String::len).max().unwrap_or(0);
    let merges = merges.iter().map(|merge| {
        // A token may begin with a space, so the space between two is not the first character.
        let first = merge.chars().next().map_or(0, char::len_utf8);
        let space = merge[first..].find(' ').map(|at| at + first);
        let parts = space.map(|at| (merge[..at].to_string(), merge[at + 1..].to_string()));
        let parts = parts.ok_or_else(|| bad(format!("{merge:?} is no merge of two tokens")))?;
        steps::check_merge(&parts.0, &parts.1, longest).map_err(bad)?;
        Ok(parts)
    });
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary, merges.collect::<Result<_>>()?)
        .ignore_merges(words.ignore_merges)
        .build()
        .map_err(|e| bad(e.to_string()))?;
    let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
    for pattern in words.patterns {
        let pattern = SplitPattern::Regex((*pattern).to_string());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        steps.push(split.map_err(|e| bad(e.to_string()))?.into());
    }
    steps.push(ByteLevel::new(false, false, false).into());
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    Ok(Engine::HuggingFace {
        tokenizer: Box::new(tokenizer),
        space: String::new(),
        unless_there: false,
    })
}
