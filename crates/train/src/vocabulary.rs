//! A vocabulary of its own for a small model: SentencePiece's BPE, learned from words.

use std::collections::BTreeMap;

use univi::tokenizer::Kind;

/// What stands for a space.
const SPACE: char = '\u{2581}';

/// `tokenizer.model` of the words in `text`: every word that occurs at least `often` times becomes
/// one token, every printable ASCII character is a token, and whatever else there is becomes bytes.
///
/// Merges are learned pair by pair, the most frequent first, the first in the order of their text
/// on ties, so that the same text always gives the same vocabulary.
pub fn learn<'a>(text: impl IntoIterator<Item = &'a str>, often: u64) -> Vec<u8> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for line in text {
        for word in words(line) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut split: Vec<(Vec<String>, u64)> = counts
        .into_iter()
        .filter(|(_, count)| *count >= often)
        .map(|(word, count)| (word.chars().map(String::from).collect(), count))
        .collect();
    let mut merges: Vec<String> = Vec::new();
    loop {
        let mut pairs: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (parts, count) in &split {
            for pair in parts.windows(2) {
                *pairs.entry((&pair[0], &pair[1])).or_default() += count;
            }
        }
        // The first of the most frequent: `max_by_key` would take the last.
        let Some(((a, b), _)) = pairs.into_iter().rev().max_by_key(|(_, count)| *count) else {
            break;
        };
        let (a, b) = (a.to_string(), b.to_string());
        for (parts, _) in &mut split {
            let mut i = 0;
            while i + 1 < parts.len() {
                if parts[i] == a && parts[i + 1] == b {
                    parts[i] = format!("{a}{b}");
                    parts.remove(i + 1);
                }
                i += 1;
            }
        }
        let merge = a + &b;
        // Another way to the same piece needs no second entry.
        if !merges.contains(&merge) {
            merges.push(merge);
        }
    }
    let characters = std::iter::once(SPACE).chain((0x21..0x7f).map(char::from));
    let characters = characters.map(String::from).filter(|c| !merges.contains(c));
    let normal: Vec<String> = merges.iter().cloned().chain(characters).collect();
    model(&normal)
}

/// Words as SentencePiece sees them in a text, with the space in front; punctuation stands alone.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let spaced = format!(" {line}").replace(' ', &SPACE.to_string());
    for c in spaced.chars() {
        match words.last_mut() {
            Some(word)
                if c.is_alphanumeric()
                    && word.chars().all(|c| c == SPACE || c.is_alphanumeric()) =>
            {
                word.push(c)
            }
            _ => words.push(c.to_string()),
        }
    }
    words
}

/// The protobuf message `ModelProto`, as far as LLaMA's tokenizer is described by it.
fn model(normal: &[String]) -> Vec<u8> {
    let special = [
        ("<unk>", Kind::Unknown),
        ("<s>", Kind::Control),
        ("</s>", Kind::Control),
    ];
    let mut out = Vec::new();
    let mut piece = |text: &str, score: f32, kind: Kind| {
        let mut message = Vec::new();
        field(&mut message, 1, text.as_bytes());
        message.push(2 << 3 | 5);
        message.extend(score.to_le_bytes());
        number(&mut message, 3, kind as u64);
        field(&mut out, 1, &message);
    };
    for (text, kind) in special {
        piece(text, 0., kind);
    }
    for byte in 0..=255u8 {
        piece(&format!("<0x{byte:02X}>"), 0., Kind::Byte);
    }
    for (rank, text) in normal.iter().enumerate() {
        piece(text, -(rank as f32), Kind::Normal);
    }
    let mut trainer = Vec::new();
    number(&mut trainer, 3, 2); // BPE
    number(&mut trainer, 41, 1); // <s>
    number(&mut trainer, 42, 2); // </s>
    field(&mut out, 2, &trainer);
    let mut normalizer = Vec::new();
    number(&mut normalizer, 3, 1); // A space before every text.
    number(&mut normalizer, 4, 0); // Spaces stay as they are.
    number(&mut normalizer, 5, 1);
    field(&mut out, 3, &normalizer);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, id: u64, value: u64) {
    varint(out, id << 3);
    varint(out, value);
}

fn field(out: &mut Vec<u8>, id: u64, bytes: &[u8]) {
    varint(out, id << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use univi::tokenizer::{EncodeOptions, Tokenizer, TokenizerConfig};

    use super::*;

    #[test]
    fn frequent_words_are_one_token_and_everything_comes_back() {
        let text = [
            "What is it? It is a dog.",
            "Is there a dog? yes",
            "Where is the dog?",
        ];
        let model = learn(text.iter().copied().cycle().take(9), 2);
        let tokenizer = Tokenizer::from_sentencepiece(&model, &TokenizerConfig::default()).unwrap();
        let ids = |text: &str| tokenizer.encode(text, EncodeOptions::PIECE).unwrap();
        assert_eq!(ids("dog").len(), 1);
        assert_eq!(ids("Is there a dog?").len(), 5);
        assert!(ids("zebra").len() > 1);
        for text in ["Where is the dog?", "zebra, Zürich!\n", "two  spaces"] {
            assert_eq!(tokenizer.decode(&ids(text)), text);
        }
        assert_eq!(model, learn(text.iter().copied().cycle().take(9), 2));
    }
}
