//! SentencePiece's merging: of all neighbours that make a piece, the pair with the highest score
//! merges first, and among equals the leftmost.
//!
//! Hugging Face's BPE merges by rank of pairs instead. That is the same for most vocabularies and
//! not for those with equal scores, so this short loop is ours.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
};

use super::{Kind, bad, sentencepiece::Piece, special::Matcher};
use crate::Result;

/// A vocabulary ready to encode.
pub(super) struct Spm {
    pieces: Vec<Piece>,
    /// What merging may make. Control, unknown and byte pieces are not text.
    ids: HashMap<String, u32>,
    /// The piece of each byte, for characters that have no piece.
    bytes: Option<Box<[u32; 256]>>,
    unknown: Option<u32>,
    /// Pieces that are taken whole before any merging.
    whole: Matcher,
}

impl Spm {
    /// `whole` are the ids of pieces that are taken whole.
    pub(super) fn new(pieces: Vec<Piece>, whole: &[u32]) -> Result<Spm> {
        let mut ids = HashMap::with_capacity(pieces.len());
        let mut bytes = [None; 256];
        let mut unknown = None;
        for (id, piece) in (0..).zip(&pieces) {
            if piece.score.is_nan() {
                return Err(bad(format!("the score of piece {id} is not a number")));
            }
            match piece.kind {
                Kind::Normal | Kind::UserDefined | Kind::Unused => {
                    if let Some(first) = ids.insert(piece.text.clone(), id) {
                        return Err(bad(format!(
                            "pieces {first} and {id} are both {:?}",
                            piece.text
                        )));
                    }
                }
                Kind::Byte => {
                    let byte = byte_of(&piece.text).ok_or_else(|| {
                        bad(format!(
                            "piece {id}, {:?}, is no byte; bytes are written <0x0A>",
                            piece.text
                        ))
                    })?;
                    bytes[usize::from(byte)] = Some(id);
                }
                Kind::Unknown => unknown = unknown.or(Some(id)),
                Kind::Control => {}
            }
        }
        let bytes: Option<Vec<u32>> = bytes.into_iter().collect();
        let bytes = bytes.and_then(|b| Box::<[u32; 256]>::try_from(b.into_boxed_slice()).ok());
        if bytes.is_none() && unknown.is_none() {
            return Err(bad(
                "the vocabulary has neither all 256 bytes nor an unknown piece: \
                 some texts could not be encoded",
            ));
        }
        let whole = Matcher::new(
            whole
                .iter()
                .map(|&id| (pieces[id as usize].text.as_str(), id)),
        );
        Ok(Spm {
            pieces,
            ids,
            bytes,
            unknown,
            whole,
        })
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The id of a piece of text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// Encodes a text in which spaces are already `▁`.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut merge = Merge {
            spm: self,
            text,
            symbols: Vec::new(),
            queue: BinaryHeap::new(),
            made_of: HashMap::new(),
        };
        merge.split();
        for left in 0..merge.symbols.len() {
            merge.consider(left);
        }
        while let Some(pair) = merge.queue.pop() {
            merge.apply(&pair);
        }
        merge.ids()
    }
}

/// `<0x0A>` -> 10.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

/// A run of the text, in a doubly linked list. Merging empties the right one of two.
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
    whole: bool,
}

/// Two neighbours that could merge; out of date once either has changed, which its length tells.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    length: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        // Scores are never NaN; -0 and 0 are a tie.
        let by_score = self.score.partial_cmp(&other.score);
        by_score
            .unwrap_or(Ordering::Equal)
            .then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

struct Merge<'a> {
    spm: &'a Spm,
    text: &'a str,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Pair>,
    /// Where an unused piece is cut again, since it may take part in merges but not be the result.
    made_of: HashMap<&'a str, usize>,
}

impl<'a> Merge<'a> {
    fn split(&mut self) {
        let mut start = 0;
        while let Some(character) = self.text[start..].chars().next() {
            let whole = self.spm.whole.longest_at(self.text, start);
            let end = start + whole.map_or(character.len_utf8(), |(length, _)| length);
            let index = self.symbols.len();
            self.symbols.push(Symbol {
                start,
                end,
                previous: index.checked_sub(1),
                next: (end < self.text.len()).then_some(index + 1),
                whole: whole.is_some(),
            });
            start = end;
        }
    }

    /// Queues the merge of a symbol with the next one, if together they are a piece.
    fn consider(&mut self, left: usize) {
        let Some(right) = self.symbols[left].next else {
            return;
        };
        let (a, b) = (&self.symbols[left], &self.symbols[right]);
        if a.whole || b.whole {
            return;
        }
        let text = &self.text[a.start..b.end];
        let Some(id) = self.spm.id(text) else {
            return;
        };
        let piece = &self.spm.pieces[id as usize];
        if piece.kind == Kind::Unused {
            self.made_of.insert(text, a.end - a.start);
        }
        self.queue.push(Pair {
            score: piece.score,
            left,
            right,
            length: text.len(),
        });
    }

    fn apply(&mut self, pair: &Pair) {
        let (a, b) = (&self.symbols[pair.left], &self.symbols[pair.right]);
        let emptied = a.start == a.end || b.start == b.end;
        if emptied || b.end - a.start != pair.length || a.next != Some(pair.right) {
            return;
        }
        let (end, next) = (b.end, b.next);
        self.symbols[pair.right].start = end;
        self.symbols[pair.left].end = end;
        self.symbols[pair.left].next = next;
        if let Some(next) = next {
            self.symbols[next].previous = Some(pair.left);
        }
        if let Some(previous) = self.symbols[pair.left].previous {
            self.consider(previous);
        }
        self.consider(pair.left);
    }

    fn ids(&self) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut todo: Vec<&str> = Vec::new();
        for symbol in self.symbols.iter().filter(|s| s.start < s.end) {
            todo.push(&self.text[symbol.start..symbol.end]);
            while let Some(text) = todo.pop() {
                match (self.spm.id(text), self.made_of.get(text)) {
                    (Some(id), None) => ids.push(id),
                    (_, Some(&cut)) => todo.extend([&text[cut..], &text[..cut]]),
                    (None, None) => self.without_piece(text, &mut ids),
                }
            }
        }
        ids
    }

    fn without_piece(&self, text: &str, ids: &mut Vec<u32>) {
        match (&self.spm.bytes, self.spm.unknown) {
            (Some(bytes), _) => ids.extend(text.bytes().map(|b| bytes[usize::from(b)])),
            // Neighbouring unknown characters are one unknown piece.
            (None, Some(unknown)) if ids.last() != Some(&unknown) => ids.push(unknown),
            _ => {}
        }
    }
}
