//! Texts and their ids, in every form in which a vocabulary comes, and files that are no
//! vocabulary.

use univi::{
    Error,
    gguf::Metadata,
    tokenizer::{Decoder, EncodeOptions, Kind, SentencePieceModel, Tokenizer, TokenizerConfig},
};
use univi_tests::{assert_report, folder, folder_with_vocabulary};
use univi_verify::Fixtures;

#[test]
fn ids_match_the_reference() {
    assert_report(
        &univi_verify::tokenizer::check(&folder_with_vocabulary()),
        35,
    );
}

fn e2e(file: &str) -> Vec<u8> {
    folder()
        .read(&format!("golden/e2e/checkpoint/{file}"))
        .unwrap()
}

fn reason(result: univi::Result<Tokenizer>) -> String {
    match result {
        Err(error @ (Error::Tokenizer { .. } | Error::BadMetadata { .. })) => error.to_string(),
        other => panic!("expected an error about the tokenizer, found {other:?}"),
    }
}

#[test]
fn a_damaged_sentencepiece_model_is_refused_and_never_panics() {
    let whole = e2e("tokenizer.model");
    let config = TokenizerConfig::default();
    assert_eq!(SentencePieceModel::parse(&whole).unwrap().pieces.len(), 512);
    for end in 0..whole.len() {
        // A message may end between fields, but then it lacks what comes after the pieces.
        reason(Tokenizer::from_sentencepiece(&whole[..end], &config));
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x81;
        if let Ok(tokenizer) = Tokenizer::from_sentencepiece(&damaged, &config) {
            let _ = tokenizer.encode("Describe the image.", EncodeOptions::PROMPT);
        }
    }
    // A length of 2^63 bytes.
    let absurd = [
        0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01,
    ];
    assert!(reason(Tokenizer::from_sentencepiece(&absurd, &config)).contains("cut short"));
    assert!(reason(Tokenizer::from_sentencepiece(b"", &config)).contains("no vocabulary"));
}

#[test]
fn a_tokenizer_json_that_cannot_be_used_is_refused_with_the_reason() {
    let config = TokenizerConfig::default();
    let json = String::from_utf8(e2e("tokenizer.json")).unwrap();
    let refuse = |from: &str, to: &str| {
        assert!(json.contains(from), "{from}");
        reason(Tokenizer::from_json(
            json.replacen(from, to, 1).as_bytes(),
            &config,
        ))
    };
    assert!(reason(Tokenizer::from_json(b"[]", &config)).contains("no JSON object"));
    assert!(reason(Tokenizer::from_json(&json.as_bytes()[..99], &config)).contains("EOF"));
    assert!(refuse("\"type\":\"BPE\"", "\"type\":\"Unigram\"").contains("only BPE"));
    assert!(refuse("\"byte_fallback\":true", "\"byte_fallback\":false").contains("neither"));
    assert!(refuse("\"<unk>\":0", "\"<unk>\":4000000000").contains("ids run to"));
    assert!(refuse("\"<unk>\":0", "\"<unk>\":7").contains("both have id 7"));
    let word = refuse("\"single_word\":false", "\"single_word\":true");
    assert!(word.contains("stand alone"), "{word}");
    let merge = json.split("\"merges\":[").nth(1).unwrap();
    let first = &merge[..merge.find(',').unwrap() + 1];
    let unknown = refuse(first, "\"▁zq ▁qz\",");
    assert!(
        unknown.contains("▁zq") || unknown.contains("vocabulary"),
        "{unknown}"
    );
}

/// All bytes, and `▁`, `a`, `b`, `ab`.
fn metadata() -> Metadata {
    let mut texts = vec!["<unk>".to_string(), "<s>".into(), "</s>".into()];
    let mut kinds = vec![2i32, 3, 3];
    for byte in 0..=255 {
        texts.push(format!("<0x{byte:02X}>"));
        kinds.push(6);
    }
    for text in ["▁", "a", "b", "ab", "<|im_end|>", "<x>"] {
        texts.push(text.into());
        kinds.push(match text {
            "<|im_end|>" => 3,
            "<x>" => 4,
            _ => 1,
        });
    }
    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.ggml.model", "llama");
    metadata.insert("tokenizer.ggml.scores", vec![0.0f32; texts.len()]);
    metadata.insert("tokenizer.ggml.tokens", texts);
    metadata.insert("tokenizer.ggml.token_type", kinds);
    metadata.insert("tokenizer.ggml.bos_token_id", 1u32);
    metadata.insert("tokenizer.ggml.eos_token_id", 2u32);
    metadata
}

#[test]
fn gguf_vocabularies_that_contradict_themselves_are_refused_by_key() {
    Tokenizer::from_gguf(&metadata()).unwrap();
    let refuse = |change: &dyn Fn(&mut Metadata)| {
        let mut metadata = metadata();
        change(&mut metadata);
        reason(Tokenizer::from_gguf(&metadata))
    };
    let model = |m: &mut Metadata, name: &str| m.insert("tokenizer.ggml.model", name);
    assert!(reason(Tokenizer::from_gguf(&Metadata::new())).contains("tokenizer.ggml.model"));
    assert!(refuse(&|m| model(m, "bert")).contains("supported are llama and gpt2"));
    assert!(refuse(&|m| model(m, "gpt2")).contains("tokenizer.ggml.merges"));
    let pre = |m: &mut Metadata| {
        model(m, "gpt2");
        m.insert("tokenizer.ggml.merges", vec!["a b".to_string()]);
        m.insert("tokenizer.ggml.pre", "tekken");
    };
    assert!(refuse(&pre).contains("tokenizer.ggml.pre"));
    let no_tokens = |m: &mut Metadata| m.insert("tokenizer.ggml.tokens", Vec::<String>::new());
    assert!(refuse(&no_tokens).contains("is empty"));
    let few = refuse(&|m| m.insert("tokenizer.ggml.scores", vec![0.0f32; 5]));
    assert!(few.contains("has 5 entries for 265 tokens"), "{few}");
    let few = refuse(&|m| m.insert("tokenizer.ggml.token_type", vec![1i32; 5]));
    assert!(few.contains("has 5 entries"), "{few}");
    let kind = refuse(&|m| m.insert("tokenizer.ggml.token_type", vec![9i32; 265]));
    assert!(kind.contains("not 1 to 6"), "{kind}");
    let nan = refuse(&|m| m.insert("tokenizer.ggml.scores", vec![f32::NAN; 265]));
    assert!(nan.contains("not a number"), "{nan}");
    let far = refuse(&|m| m.insert("tokenizer.ggml.bos_token_id", 4_000_000_000u32));
    assert!(far.contains("tokenizer.ggml.bos_token_id"), "{far}");
    let twice = refuse(&|m| {
        let texts = m.strings("tokenizer.ggml.tokens").unwrap();
        let texts: Vec<String> = texts.iter().map(|t| t.replace("ab", "a")).collect();
        m.insert("tokenizer.ggml.tokens", texts);
    });
    assert!(twice.contains("holds \"a\" twice"), "{twice}");
    let no_bytes = refuse(&|m| {
        let kinds = m.ints("tokenizer.ggml.token_type").unwrap();
        let plain = kinds
            .iter()
            .map(|&k| if k == 6 || k == 2 { 3 } else { k as i32 });
        m.insert("tokenizer.ggml.token_type", plain.collect::<Vec<i32>>());
    });
    assert!(no_bytes.contains("could not be encoded"), "{no_bytes}");
    let merge = |merge: &str| {
        let merge = merge.to_string();
        refuse(&move |m| {
            model(m, "gpt2");
            m.insert("tokenizer.ggml.merges", vec![merge.clone()]);
        })
    };
    assert!(merge("ab").contains("no merge of two tokens"));
    assert!(merge("b a").contains("vocabulary"), "{}", merge("b a"));
}

#[test]
fn special_tokens_part_a_text_only_where_they_are_asked_to() {
    let tokenizer = Tokenizer::from_gguf(&metadata()).unwrap();
    let [space, ab, im_end, x] = ["▁", "ab", "<|im_end|>", "<x>"].map(|t| tokenizer.id(t).unwrap());
    let encode = |text: &str, add_special, parse_special| {
        let options = EncodeOptions::default()
            .add_special(add_special)
            .parse_special(parse_special);
        tokenizer.encode(text, options).unwrap()
    };
    assert_eq!(
        encode("ab<|im_end|>ab", true, true),
        [1, space, ab, im_end, space, ab]
    );
    assert_eq!(tokenizer.decode(&encode("ab</s>", false, false)), "ab</s>");
    // Text that its makers defined is one token in any case.
    assert_eq!(encode("ab<x>", false, false), [space, ab, x]);
    assert_eq!(encode("", true, true), [1]);
    assert!(encode("", false, true).is_empty());
    assert!(tokenizer.ends_generation(im_end) && tokenizer.ends_generation(2));
    assert!(!tokenizer.ends_generation(ab) && !tokenizer.ends_generation(u32::MAX));
    assert_eq!(tokenizer.kind(x), Some(Kind::UserDefined));
}

#[test]
fn added_tokens_are_found_again_after_a_round_through_gguf() {
    let mut tokenizer = Tokenizer::from_gguf(&metadata()).unwrap();
    let before = tokenizer.vocab_len() as u32;
    assert_eq!(tokenizer.add_token("<im_start>").unwrap(), before);
    assert_eq!(tokenizer.add_token("<im_end>").unwrap(), before + 1);
    assert_eq!(tokenizer.add_token("<im_start>").unwrap(), before);
    assert!(tokenizer.add_token("").is_err());
    let again = Tokenizer::from_gguf(&tokenizer.metadata()).unwrap();
    let text = "ab <im_start>\n<im_end>  ab";
    let ids = tokenizer.encode(text, EncodeOptions::PROMPT).unwrap();
    let ab = tokenizer.encode("ab", EncodeOptions::PIECE).unwrap();
    assert_eq!(
        ids,
        [&[1], &ab[..], &[before, before + 1], &ab[..]].concat()
    );
    assert_eq!(again.encode(text, EncodeOptions::PROMPT).unwrap(), ids);
    assert_eq!(again.decode(&ids), tokenizer.decode(&ids));
}

#[test]
fn characters_come_whole_however_their_bytes_arrive() {
    let tokenizer = Tokenizer::from_gguf(&metadata()).unwrap();
    let byte = |b: u8| u32::from(b) + 3;
    let mut decoder = Decoder::default();
    let mut push = |b: u8| decoder.push(&tokenizer, byte(b)).to_string();
    // U+1F42A, whole; then three bytes of it and a letter; then a lone continuation.
    assert_eq!(
        [0xf0, 0x9f, 0x90, 0xaa].map(&mut push),
        ["", "", "", "\u{1f42a}"]
    );
    assert_eq!([0xf0, 0x9f, 0x90].map(&mut push), ["", "", ""]);
    assert_eq!(push(b'a'), "\u{fffd}\u{fffd}\u{fffd}a");
    assert_eq!(push(0x80), "\u{fffd}");
    assert_eq!(push(0xe2), "");
    assert_eq!(decoder.finish(), "\u{fffd}");
    assert_eq!(decoder.finish(), "");
    assert_eq!(tokenizer.decode(&[u32::MAX, 0, 1, 2]), "");
}

#[test]
fn a_long_text_is_no_trouble() {
    let folder = folder_with_vocabulary();
    let model = folder.read("golden/tokenizer/tokenizer.model").unwrap();
    let tokenizer = Tokenizer::from_sentencepiece(&model, &TokenizerConfig::default()).unwrap();
    for text in [
        "a".repeat(200_000),
        " ".repeat(200_000),
        "the quick brown fox ".repeat(10_000),
    ] {
        let ids = tokenizer.encode(&text, EncodeOptions::PROMPT).unwrap();
        assert_eq!(tokenizer.decode(&ids), text);
    }
}

/// The smallest `tokenizer.json` of bytes, with this normalizer, pre-tokenizer and model.
fn byte_level(change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    use serde_json::json;
    let is_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 256u32..;
    let letters = (0..=255u8).map(|byte| match is_itself(byte) {
        true => char::from(byte),
        false => char::from_u32(others.next().unwrap()).unwrap(),
    });
    let vocabulary: serde_json::Map<_, _> = letters
        .zip(0..)
        .map(|(letter, id): (char, u32)| (letter.to_string(), json!(id)))
        .collect();
    let mut file = json!({
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "vocab": vocabulary, "merges": [] },
    });
    change(&mut file);
    file.to_string().into_bytes()
}

#[test]
fn steps_that_the_library_would_trip_over_are_refused() {
    use serde_json::{Value, json};
    let config = TokenizerConfig::default();
    let sound = Tokenizer::from_json(&byte_level(|_| {}), &config).unwrap();
    assert_eq!(sound.encode("ab", EncodeOptions::PIECE).unwrap(), [97, 98]);
    let refuse = |change: &dyn Fn(&mut Value)| {
        let error = reason(Tokenizer::from_json(&byte_level(change), &config));
        assert!(error.len() < 400 && !error.contains('\n'), "{error}");
        error
    };
    let normalizer = |step: Value| refuse(&|file| file["normalizer"] = step.clone());
    let replace = |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
    let map = json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" });
    assert!(normalizer(map.clone()).contains("\"Precompiled\" is not supported"));
    let nested = json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }, map] });
    assert!(normalizer(nested).contains("Precompiled"));
    let empty = replace(json!({ "String": "" }), "a");
    assert!(normalizer(empty).contains("empty text"));
    let regex = replace(json!({ "Regex": "(a*)*" }), "a");
    assert!(normalizer(regex).contains("regular expression"));
    let long = replace(json!({ "String": "a" }), &"a".repeat(65));
    assert!(normalizer(long).contains("65 bytes"));
    let doubling = replace(json!({ "String": "a" }), "aa");
    let often = json!({ "type": "Sequence", "normalizers": vec![doubling; 15] });
    assert!(normalizer(often).contains("times as long"));
    let many = json!({ "type": "Sequence", "normalizers": vec![json!({ "type": "NFC" }); 99] });
    assert!(normalizer(many).contains("more than 16 steps"));
    let deep = (0..9).fold(
        json!({ "type": "NFC" }),
        |inner, _| json!({ "type": "Sequence", "normalizers": [inner] }),
    );
    assert!(normalizer(deep).contains("too deep"));

    let pre_tokenizer = |step: Value| {
        refuse(&|file| {
            let byte_level = file["pre_tokenizer"].clone();
            file["pre_tokenizer"] =
                json!({ "type": "Sequence", "pretokenizers": [step.clone(), byte_level] });
        })
    };
    let fixed = json!({ "type": "FixedLength", "length": 0 });
    assert!(pre_tokenizer(fixed).contains("FixedLength"));
    let split = |pattern: Value| {
        pre_tokenizer(
            json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false }),
        )
    };
    assert!(split(json!({ "String": "" })).contains("0 bytes"));
    assert!(split(json!({ "Regex": "a".repeat(5000) })).contains("5000 bytes"));
    assert!(split(json!({ "Regex": "(" })).len() > 20);
    assert!(split(json!({ "Regex": "((a{999}){999}){999}" })).len() > 20);

    let model = |key: &str, value: Value| refuse(&|file| file["model"][key] = value.clone());
    assert!(model("continuing_subword_prefix", json!("##")).contains("subword"));
    assert!(model("end_of_word_suffix", json!("</w>")).contains("suffix"));
    // What it makes is longer than every token.
    let long = model("merges", json!(["aaa bbb"]));
    assert!(long.contains("\"aaabbb\", which is not in"), "{long}");
    let long = model("merges", json!([["aaa", "bbb"]]));
    assert!(long.contains("\"aaabbb\", which is not in"), "{long}");
    assert!(model("merges", json!(["a b"])).contains("ab"));
    assert!(model("merges", json!([["a"]])).len() > 20);

    // Dense JSON takes many times its bytes once it is read.
    for dense in ["[]", "{}", "0"] {
        let list = format!("{{\"model\":[{}0]}}", format!("{dense},").repeat(5_000_000));
        let error = reason(Tokenizer::from_json(list.as_bytes(), &config));
        assert!(error.contains("at most"), "{error}");
    }
    let long = " ".repeat(65 << 20);
    assert!(reason(Tokenizer::from_json(long.as_bytes(), &config)).contains("bytes"));
}

#[test]
fn a_merge_in_a_gguf_that_makes_no_token_is_refused() {
    let mut metadata = metadata();
    metadata.insert("tokenizer.ggml.model", "gpt2");
    let long = "<|im_end|> <|im_end|>".to_string();
    metadata.insert("tokenizer.ggml.merges", vec![long]);
    let error = reason(Tokenizer::from_gguf(&metadata));
    assert!(error.contains("not in the vocabulary"), "{error}");
}
