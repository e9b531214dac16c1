//! What is fuzzed: each function reads bytes as one kind of file and checks what must hold for any
//! bytes. `fuzz/` runs them under libFuzzer, `tests/fuzz_corpus.rs` over the seeds.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    io::{Cursor, Write},
    rc::Rc,
};

use univi::{
    Result,
    constraint::{Constraint, Schema, Vocabulary},
    frames::FrameOptions,
    gguf::{self, Event, Header, Parser},
    image::{Animation, Rgb8},
    manifest::Manifest,
    prompt::{ChatTemplate, Conversation, PromptPart, PromptVisual, Segment, Template, Turn},
    tokenizer::{EncodeOptions, Tokenizer, TokenizerConfig},
};
use univi_convert::{ImportanceMatrix, TensorSpec, Writer, checkpoint::read_tensors};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::memory::peak_of;

/// A target: its name, and what runs it over bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. Their names are those of the folders in `fuzz/seeds` and of the programs
/// in `fuzz/fuzz_targets`.
pub const TARGETS: [Target; 11] = [
    ("gguf", gguf),
    ("safetensors", safetensors),
    ("pickle", pickle),
    ("tokenizer_json", tokenizer_json),
    ("sentencepiece", sentencepiece),
    ("manifest", manifest),
    ("template", template),
    ("schema", schema),
    ("picture", picture),
    ("gif", gif),
    ("imatrix", imatrix),
];

const MIB: usize = 1 << 20;

/// What pictures of the original model have on a side.
const CROP_PX: usize = 224;

/// Runs `read` within a bound of memory, and checks the error that it may end with.
///
/// # Panics
/// Where it took more, or where the error would break the line that shows it.
fn checked<T>(most_bytes: usize, read: impl FnOnce() -> Result<T>) -> Option<T> {
    let (result, bytes) = peak_of(read);
    assert!(
        bytes <= most_bytes,
        "{bytes} bytes of memory, at most {most_bytes} are allowed"
    );
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let text = error.to_string();
            assert!(
                !text.is_empty() && !text.contains(char::is_control),
                "an error that is no line of text: {text:?}"
            );
            None
        }
    }
}

/// Reads a GGUF file at once and in pieces, and writes what was read.
pub fn gguf(file: &[u8]) {
    let most_bytes = 16 * file.len() + MIB / 4;
    let whole = checked(most_bytes, || gguf::parse(file));
    let mut data = Vec::new();
    let in_pieces = checked(most_bytes + 2 * file.len(), || {
        let mut parser = Parser::new();
        let mut rest = file;
        while !rest.is_empty() {
            // Pieces of all lengths, so that numbers and names come apart everywhere.
            let piece = (1 + (rest.len() * 7) % 61 * (rest.len() % 11)).min(rest.len());
            let (now, later) = rest.split_at(piece);
            parser.push(now, &mut |event| {
                if let Event::Data { bytes, .. } = event {
                    data.extend_from_slice(bytes);
                }
                Ok(())
            })?;
            rest = later;
        }
        parser.finish()
    });
    // A parser that knows no length refuses later, but it refuses the same.
    assert_eq!(
        whole.as_ref().map(described),
        in_pieces.as_ref().map(described),
        "at once, and in pieces"
    );
    // Padding to a larger alignment would be all there is in the copy.
    if let Some(header) = whole.filter(|header| header.alignment <= 4096) {
        rewritten(&header, &data);
    }
}

/// Checks that a file of the same metadata and tensors is read as that.
fn rewritten(header: &Header, mut data: &[u8]) {
    let specs: Vec<TensorSpec> = (header.tensors.iter())
        .map(|tensor| TensorSpec {
            name: tensor.name.clone(),
            ty: tensor.ty,
            shape: tensor.shape.clone(),
        })
        .collect();
    let copied = Writer::new(Vec::new(), &header.metadata, &specs).and_then(|mut writer| {
        for tensor in &header.tensors {
            let (bytes, rest) = data.split_at(tensor.bytes as usize);
            writer.write(bytes)?;
            data = rest;
        }
        writer.finish()
    });
    let copied = copied.unwrap_or_else(|e| panic!("what was read can't be written: {e}"));
    let again = gguf::parse(&copied).unwrap_or_else(|e| panic!("what was written is refused: {e}"));
    assert_eq!(described(&again), described(header));
}

/// What a header says: as text, since numbers may be NaN, which equals nothing.
fn described(header: &Header) -> String {
    let tensors = header.tensors.iter();
    let tensors = tensors.map(|t| (&t.name, t.ty, &t.shape, t.bytes));
    let metadata: Vec<_> = header.metadata.iter().collect();
    format!("{metadata:?} {:?}", tensors.collect::<Vec<_>>())
}

/// Reads all tensors of a safetensors file.
pub fn safetensors(file: &[u8]) {
    tensors("model.safetensors", file);
}

/// Reads all tensors of a file of `torch.save`: the bytes are one, or the pickle in one.
pub fn pickle(file: &[u8]) {
    match file.starts_with(b"PK") {
        true => tensors("pytorch_model.bin", file),
        false => tensors("pytorch_model.bin", &archive_of(file)),
    }
}

fn tensors(name: &str, file: &[u8]) {
    let files = BTreeMap::from([(name.to_string(), file.to_vec())]);
    // Halves become floats, and tensors of a pickle may share their numbers.
    let read = checked(64 * file.len() + MIB, || read_tensors(&files, name));
    for (name, (shape, values)) in read.into_iter().flatten() {
        let elements: usize = shape.iter().product();
        assert_eq!(elements, values.len(), "tensor {name} of shape {shape:?}");
    }
}

/// An archive as `torch.save` writes it, with storages `0` and `1` of 64 and 1,000 bytes.
fn archive_of(pickle: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in [
        ("m/data.pkl", pickle),
        ("m/byteorder", b"little"),
        ("m/data/0", &[0; 64]),
        ("m/data/1", &[0; 1000]),
    ] {
        let written = archive
            .start_file(name, options)
            .and_then(|()| archive.write_all(bytes).map_err(Into::into));
        written.expect("memory can be written");
    }
    archive
        .finish()
        .expect("memory can be written")
        .into_inner()
}

/// Reads a `tokenizer.json`, and what is written of it into a GGUF file.
pub fn tokenizer_json(file: &[u8]) {
    let config = TokenizerConfig::default();
    let most_bytes = 256 * file.len() + 16 * MIB;
    if let Some(tokenizer) = checked(most_bytes, || Tokenizer::from_json(file, &config)) {
        encodes(&tokenizer);
    }
}

/// Reads a `tokenizer.model`, and what is written of it into a GGUF file.
pub fn sentencepiece(file: &[u8]) {
    let config = TokenizerConfig::default();
    let most_bytes = 256 * file.len() + MIB;
    let read = checked(most_bytes, || Tokenizer::from_sentencepiece(file, &config));
    if let Some(tokenizer) = read {
        encodes(&tokenizer);
    }
}

/// Checks that a tokenizer keeps to its vocabulary, and that a GGUF file holds all of it.
fn encodes(tokenizer: &Tokenizer) {
    const TEXTS: [&str; 4] = [
        "",
        "Is there a penguin? </s>\n\t 7",
        " \u{2581}\u{e9}e\u{301} \u{6c34}\u{1f427}\0",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let again = checked(256 * MIB, || Tokenizer::from_gguf(&tokenizer.metadata()));
    let again = again.expect("a vocabulary that was read is written as one that can be read");
    assert_eq!(again.vocab_len(), tokenizer.vocab_len());
    for text in TEXTS {
        let ids = checked(64 * MIB, || tokenizer.encode(text, EncodeOptions::PROMPT));
        let Some(ids) = ids else { continue };
        let most = tokenizer.vocab_len() as u32;
        assert!(ids.iter().all(|id| *id < most), "{ids:?} of {most} tokens");
        let copied = again.encode(text, EncodeOptions::PROMPT);
        assert_eq!(copied.as_ref(), Ok(&ids), "{text:?} out of a GGUF file");
        assert_eq!(again.decode(&ids), tokenizer.decode(&ids), "{ids:?}");
    }
}

/// Both forms of importance matrices.
pub fn imatrix(bytes: &[u8]) {
    let read = || ImportanceMatrix::parse(bytes);
    if let Some(matrix) = checked(MIB + 64 * bytes.len(), read) {
        assert!(matrix.names().count() == matrix.len() && !matrix.is_empty());
    }
}

/// Reads a manifest, and what is written of it.
pub fn manifest(file: &[u8]) {
    let Some(manifest) = checked(32 * file.len() + MIB, || Manifest::parse(file)) else {
        return;
    };
    let written = manifest.to_json().expect("what was read can be written");
    assert_eq!(Manifest::parse(written.as_bytes()), Ok(manifest));
}

/// The tokenizer of univi-nano, and its vocabulary as schemas use it.
fn nano() -> (Rc<Tokenizer>, Rc<Vocabulary>) {
    const MODEL: &[u8] = include_bytes!("../../models/univi-nano/tokenizer.model");
    thread_local! {
        static NANO: OnceCell<(Rc<Tokenizer>, Rc<Vocabulary>)> = const { OnceCell::new() };
    }
    let read = || {
        let config = TokenizerConfig::default();
        let tokenizer = Tokenizer::from_sentencepiece(MODEL, &config).expect("a vocabulary");
        let vocabulary = Vocabulary::new(&tokenizer);
        (Rc::new(tokenizer), Rc::new(vocabulary))
    };
    NANO.with(|nano| nano.get_or_init(read).clone())
}

/// Writes a conversation down by a chat template.
pub fn template(file: &[u8]) {
    let Ok(source) = std::str::from_utf8(file) else {
        return;
    };
    let (tokenizer, _) = nano();
    let template = ChatTemplate::new(source, &tokenizer);
    let turn = |question: &str, answer: Option<&str>| Turn {
        parts: vec![
            PromptPart::Visual(PromptVisual::Image),
            PromptPart::Text(question.into()),
        ],
        answer: answer.map(Into::into),
    };
    let conversation = Conversation {
        template: Template::Jinja(template.clone()),
        system: Some("Be brief.".into()),
        wraps_visuals: false,
        turns: vec![
            turn("Is there a penguin?", Some("yes")),
            turn("What</s> is <image> {{ this }}?", None),
        ],
    };
    let is_usable = checked(64 * MIB, || template.check()).is_some();
    let written = checked(128 * MIB, || conversation.prompt());
    let Some(prompt) = written else { return };
    assert!(is_usable, "a template is refused, and was used");
    let visuals = [PromptVisual::Image; 2];
    assert_eq!(prompt.visuals, visuals);
    let shown = prompt.segments.iter();
    let shown = shown.filter(|segment| matches!(segment, Segment::Visual(_)));
    assert_eq!(shown.count(), visuals.len(), "a picture is left out");
    assert!(prompt.encode(&tokenizer).is_ok());
}

/// Reads a JSON schema, and says something that is valid by it.
pub fn schema(file: &[u8]) {
    const MOST_TOKENS: usize = 24;
    let Ok(json) = std::str::from_utf8(file) else {
        return;
    };
    let Some(schema) = checked(64 * MIB, || Schema::parse(json)) else {
        return;
    };
    let (tokenizer, vocabulary) = nano();
    let Some(mut constraint) = checked(64 * MIB, || Constraint::new(vocabulary, &schema)) else {
        return;
    };
    let (mut said, mut choice) = (Vec::new(), file.len());
    for _ in 0..MOST_TOKENS {
        let mut logits = vec![0.0; tokenizer.vocab_len()];
        if checked(64 * MIB, || constraint.mask(&mut logits)).is_none() {
            return;
        }
        let allowed = (0..).zip(&logits).filter(|(_, logit)| **logit == 0.0);
        let allowed: Vec<u32> = allowed.map(|(id, _)| id).collect();
        let id = allowed[choice % allowed.len()];
        choice = choice.wrapping_mul(31).wrapping_add(7);
        constraint
            .push(id)
            .unwrap_or_else(|e| panic!("token {id} was allowed: {e}"));
        if tokenizer.ends_generation(id) {
            break;
        }
        said.push(id);
        if constraint.is_complete() {
            let text = tokenizer.decode(&said);
            let value: Result<serde_json::Value, _> = serde_json::from_str(&text);
            assert!(value.is_ok(), "{text:?} is no JSON");
            break;
        }
    }
}

/// Decodes a picture and crops it.
pub fn picture(file: &[u8]) {
    let decoded = checked(200 * MIB + 128 * file.len(), || Rgb8::decode(file));
    let Some(picture) = decoded else { return };
    let bytes = picture.width_px * picture.height_px * 3;
    assert_eq!(picture.pixels.len(), bytes, "{picture:?}");
    if let Some(crop) = checked(64 * MIB, || picture.crop(CROP_PX)) {
        is_crop(&crop);
    }
}

fn is_crop(crop: &Rgb8) {
    assert_eq!([crop.width_px, crop.height_px], [CROP_PX; 2]);
    assert_eq!(crop.pixels.len(), CROP_PX * CROP_PX * 3);
}

/// Reads an animation, and crops the frames that a model sees of it.
pub fn gif(file: &[u8]) {
    // What draws it, besides itself: 16 bytes a pixel of what 128 MiB and 64 bytes a byte allow.
    let most_bytes = 200 * MIB + 128 * file.len();
    let bytes = file.to_vec();
    let Some(animation) = checked(most_bytes, || Animation::new(bytes)) else {
        return;
    };
    let times_s = animation.times_s();
    assert_eq!(times_s.len(), animation.frame_count());
    assert!(times_s.is_sorted() && times_s.iter().all(|time| time.is_finite()));
    let sampled = checked(MIB, || animation.sample(&FrameOptions::default()));
    let Some((_, indices)) = sampled else { return };
    let drawn = checked(most_bytes, || {
        let mut drawn = 0;
        for step in animation.crops(&indices, CROP_PX)? {
            if let Some((index, crop)) = step? {
                assert_eq!(index, indices[drawn]);
                is_crop(&crop);
                drawn += 1;
            }
        }
        Ok(drawn)
    });
    assert!(drawn.is_none_or(|drawn| drawn == indices.len()));
}
