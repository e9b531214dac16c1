//! SentencePiece's `tokenizer.model`: a small, strict reader of the protobuf message `ModelProto`.
//!
//! Source: `sentencepiece_model.proto` of the SentencePiece project.

use std::collections::HashMap;

use super::{Kind, bad};
use crate::{Error, Result};

/// More pieces than any vocabulary has.
pub(super) const MAX_PIECES: usize = 1 << 20;

/// One entry of a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The text as it stands in the file: `▁` for a space, `<0x0A>` for a byte.
    pub text: String,
    /// The higher, the sooner a merge that makes this piece happens.
    pub score: f32,
    /// What it is for.
    pub kind: Kind,
}

/// What a `tokenizer.model` says.
#[derive(Debug, Clone, PartialEq)]
pub struct SentencePieceModel {
    /// The vocabulary; the index is the id.
    pub pieces: Vec<Piece>,
    /// Begins a text; `None` where the model has none.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Whether a space is put before every text.
    pub add_dummy_prefix: bool,
}

impl SentencePieceModel {
    /// Reads a `tokenizer.model`.
    ///
    /// # Errors
    /// `Tokenizer` for bytes that are not such a file, and for models of another kind than
    /// LLaMA's: BPE without text normalisation.
    pub fn parse(bytes: &[u8]) -> Result<SentencePieceModel> {
        let mut model = SentencePieceModel {
            pieces: Vec::new(),
            bos: Some(1),
            eos: Some(2),
            add_dummy_prefix: true,
        };
        let (mut model_type, mut removes_spaces, mut escapes_spaces) = (UNIGRAM, true, true);
        let mut trained = false;
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(piece)) if model.pieces.len() < MAX_PIECES => {
                    let read = piece_of(piece)
                        .map_err(|e| wrong(format!("piece {}: {e}", model.pieces.len())))?;
                    model.pieces.push(read);
                }
                (1, Field::Bytes(_)) => {
                    return Err(wrong(format!("more than {MAX_PIECES} pieces")));
                }
                (2, Field::Bytes(trainer)) => {
                    trained = true;
                    for field in Fields(trainer) {
                        match field? {
                            (3, Field::Varint(v)) => model_type = v,
                            (41, Field::Varint(v)) => model.bos = id(v),
                            (42, Field::Varint(v)) => model.eos = id(v),
                            _ => {}
                        }
                    }
                }
                (3, Field::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        match field? {
                            (2, Field::Bytes(charsmap)) if !charsmap.is_empty() => {
                                return Err(wrong("text normalisation is not supported"));
                            }
                            (3, Field::Varint(v)) => model.add_dummy_prefix = v != 0,
                            (4, Field::Varint(v)) => removes_spaces = v != 0,
                            (5, Field::Varint(v)) => escapes_spaces = v != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if model.pieces.is_empty() || !trained {
            return Err(wrong("it holds no vocabulary"));
        }
        if model_type != BPE {
            return Err(wrong(format!(
                "the model is of type {model_type}; only {BPE}, BPE, is supported"
            )));
        }
        if removes_spaces || !escapes_spaces {
            return Err(wrong(
                "removing extra spaces, or not escaping spaces, is not supported",
            ));
        }
        // As SentencePiece does; an id that its own text does not lead back to could not be said.
        let mut first = HashMap::with_capacity(model.pieces.len());
        for (id, piece) in model.pieces.iter().enumerate() {
            if let Some(first) = first.insert(&*piece.text, id) {
                return Err(wrong(format!(
                    "pieces {first} and {id} are both {:?}",
                    piece.text
                )));
            }
        }
        Ok(model)
    }
}

/// Values of `TrainerSpec.model_type`.
const UNIGRAM: u64 = 1;
const BPE: u64 = 2;

fn wrong(reason: impl std::fmt::Display) -> Error {
    bad(format!(
        "this is not a SentencePiece model that can be used: {reason}"
    ))
}

/// Ids are stored as int32; -1 says that there is no such piece.
fn id(varint: u64) -> Option<u32> {
    u32::try_from(varint as u32 as i32).ok()
}

fn piece_of(bytes: &[u8]) -> Result<Piece> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: Kind::Normal,
    };
    for field in Fields(bytes) {
        match field? {
            (1, Field::Bytes(text)) => {
                piece.text = std::str::from_utf8(text)
                    .map_err(|_| wrong("it is not UTF-8"))?
                    .to_string();
            }
            (2, Field::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Field::Varint(kind)) => {
                piece.kind = Kind::from_number(kind)
                    .ok_or_else(|| wrong(format!("kind {kind} is not known")))?;
            }
            _ => {}
        }
    }
    Ok(piece)
}

/// The value of a protobuf field.
enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message, in file order, by number.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed64)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        (tag >> 3 != 0).then_some((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| wrong("the file is damaged or cut short")))
    }
}
