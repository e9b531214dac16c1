//! Models that load, and files that don't: one typed error that names the file, never a panic.

use pollster::block_on;
use sha2::{Digest, Sha256};
use univi::{
    Cpu, Error, Result,
    gguf::{GgmlType, Header, Metadata, parse},
    loader::{Content, LoadOptions, Loader, ModelFile},
    model::ChatUniVi,
};
use univi_convert::{TensorSpec, Writer};
use univi_tests::fixtures;

fn fixture(name: &str) -> Vec<u8> {
    let path = fixtures().join("gguf").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn small() -> Vec<u8> {
    fixture("models/small96/small96-Q8_0.gguf")
}

fn file(name: &str) -> ModelFile {
    ModelFile {
        content: Content::Gguf,
        name: name.into(),
        bytes: None,
        sha256: None,
    }
}

fn load(files: &[(ModelFile, &[u8])], chunk: usize) -> Result<ChatUniVi<Cpu>> {
    let mut loader = Loader::new(Cpu, files.iter().map(|(file, _)| file.clone()).collect())?;
    for (file, bytes) in files {
        assert_eq!(loader.next_file(), Some(file));
        for chunk in bytes.chunks(chunk) {
            loader.push(chunk)?;
        }
        loader.end_file()?;
    }
    let total: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(loader.progress().done_bytes, total);
    block_on(loader.finish(&LoadOptions::default()))
}

fn load_one(bytes: &[u8]) -> Result<ChatUniVi<Cpu>> {
    load(&[(file("a.gguf"), bytes)], 1 << 20)
}

#[track_caller]
fn refused(loaded: Result<ChatUniVi<Cpu>>, code: &str, says: &str) {
    let error = loaded
        .err()
        .unwrap_or_else(|| panic!("it loaded; expected {code}: {says}"));
    assert_eq!(error.code(), code, "{error}");
    assert!(
        error.to_string().contains(says),
        "{error}; expected {says:?}"
    );
}

/// The logits behind the first token, as bits.
fn logits(model: &ChatUniVi<Cpu>) -> Vec<u32> {
    let llama = model.llama();
    let x = llama.embed(&univi::Backend::ids(&Cpu, &[1]));
    let (_, logits) = block_on(llama.greedy(&x, 1)).unwrap();
    logits[0].iter().map(|x| x.to_bits()).collect()
}

/// The same tensors under changed metadata, with some changed or left out.
fn rewritten(
    change: impl Fn(&mut Metadata),
    tensor: impl Fn(TensorSpec, Vec<u8>) -> Option<(TensorSpec, Vec<u8>)>,
) -> Vec<u8> {
    let bytes = small();
    let Header {
        mut metadata,
        tensors,
        data_offset,
        ..
    } = parse(&bytes).unwrap();
    change(&mut metadata);
    let mut kept = Vec::new();
    for info in tensors {
        let start = info.offset as usize;
        assert!(info.offset >= data_offset);
        let data = bytes[start..start + info.bytes as usize].to_vec();
        kept.extend(tensor(
            TensorSpec {
                name: info.name,
                ty: info.ty,
                shape: info.shape,
            },
            data,
        ));
    }
    let (specs, data): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
    let mut writer = Writer::new(Vec::new(), &metadata, &specs).unwrap();
    data.iter().for_each(|data| writer.write(data).unwrap());
    writer.finish().unwrap()
}

fn with_metadata(change: impl Fn(&mut Metadata)) -> Vec<u8> {
    rewritten(change, |spec, data| Some((spec, data)))
}

#[test]
fn chunks_of_any_size_make_the_same_model() {
    let bytes = small();
    let whole = logits(&load_one(&bytes).unwrap());
    for chunk in [1000, 4097, 1 << 16] {
        assert_eq!(
            logits(&load(&[(file("a.gguf"), &bytes)], chunk).unwrap()),
            whole
        );
    }
    // Rewriting changes nothing, so that the tests below refuse what they mean to.
    assert_eq!(logits(&load_one(&with_metadata(|_| ())).unwrap()), whole);
}

#[test]
fn sets_of_files_load_in_order_alone() {
    let name = |i: usize| format!("gqa256-Q4_K_M-0000{i}-of-00004.gguf");
    let shards: Vec<Vec<u8>> = (1..=4)
        .map(|i| fixture(&format!("shards/{}", name(i))))
        .collect();
    let files = ModelFile::set(&name(1));
    assert_eq!(
        files
            .iter()
            .map(|file| file.name.clone())
            .collect::<Vec<_>>(),
        (1..=4).map(name).collect::<Vec<_>>()
    );
    let with = |order: &[usize]| {
        let files: Vec<(ModelFile, &[u8])> = order
            .iter()
            .map(|&i| (files[i].clone(), &shards[i][..]))
            .collect();
        load(&files, 1 << 14)
    };
    with(&[0, 1, 2, 3]).unwrap();
    refused(
        with(&[0, 2, 1, 3]),
        "bad-metadata",
        "00003-of-00004.gguf: metadata split.no",
    );
    refused(with(&[0, 1, 2]), "bad-file", "set of 4 files");
    refused(with(&[1]), "bad-metadata", "00002-of-00004.gguf");
    refused(
        with(&[0, 1, 2, 3, 0]),
        "bad-file",
        "second model of its kind",
    );
}

#[test]
fn files_that_break_off_are_told() {
    let bytes = small();
    for end in [0, 3, 100, 5000, bytes.len() / 2, bytes.len() - 1] {
        refused(load_one(&bytes[..end]), "bad-file", "a.gguf: ");
    }
    let mut known = file("a.gguf");
    known.bytes = Some(bytes.len() as u64 - 1);
    refused(load(&[(known, &bytes)], 4096), "bad-file", "a.gguf: ");
}

#[test]
fn linear_scaling_needs_no_type() {
    let with = |keys: &[(&'static str, f32)], kind: Option<&'static str>| {
        let bytes = with_metadata(|metadata| {
            for &(key, value) in keys {
                metadata.insert(key, value);
            }
            if let Some(kind) = kind {
                metadata.insert("llama.rope.scaling.type", kind);
            }
        });
        let model = load_one(&bytes).unwrap();
        // At position 0 nothing turns.
        let llama = model.llama();
        let x = llama.embed(&univi::Backend::ids(&Cpu, &[1, 2, 3, 4]));
        let (_, logits) = block_on(llama.greedy(&x, 1)).unwrap();
        logits[0].iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
    };
    let (factor, older) = ("llama.rope.scaling.factor", "llama.rope.scale_linear");
    let named = with(&[(factor, 8.)], Some("linear"));
    assert_ne!(named, with(&[], None));
    assert_eq!(named, with(&[(factor, 8.)], None));
    assert_eq!(named, with(&[(older, 8.)], None));
    assert_eq!(with(&[(factor, 8.)], Some("none")), with(&[], None));
}

#[test]
fn hashes_are_checked() {
    let bytes = small();
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let promised = ModelFile {
        sha256: Some(sha256.clone()),
        bytes: Some(bytes.len() as u64),
        ..file("a.gguf")
    };
    load(&[(promised.clone(), &bytes)], 10_000).unwrap();
    // The last byte belongs to the last tensor, where no value is wrong in itself.
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    refused(
        load(&[(promised.clone(), &changed)], 10_000),
        "wrong-hash",
        &sha256,
    );
    // It is the same file that is wanted still.
    let mut loader = Loader::new(Cpu, vec![promised.clone()]).unwrap();
    loader.push(&changed).unwrap();
    assert_eq!(loader.end_file().unwrap_err().code(), "wrong-hash");
    assert_eq!(loader.next_file(), Some(&promised));
    loader.restart_file();
    loader.push(&bytes).unwrap();
    loader.end_file().unwrap();
    block_on(loader.finish(&LoadOptions::default())).unwrap();
}

#[test]
fn hashes_that_the_driver_computes_are_checked_as_well() {
    let bytes = small();
    let sha256 = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let promised = ModelFile {
        sha256: Some(sha256(&bytes)),
        ..file("a.gguf")
    };
    let mut loader = Loader::new(Cpu, vec![promised]).unwrap();
    let mut ends = |found: Option<String>| {
        loader.use_external_hash();
        loader.push(&bytes).unwrap();
        if let Some(found) = found {
            loader.set_hash(found);
        }
        let ended = loader.end_file();
        if ended.is_err() {
            loader.restart_file();
        }
        ended.map_err(|error| error.code())
    };
    assert_eq!(ends(None), Err("bad-request"), "nobody has hashed it");
    assert_eq!(ends(Some(sha256(b"another file"))), Err("wrong-hash"));
    assert_eq!(ends(Some(sha256(&bytes))), Ok(()));

    // A digest that nobody has asked for counts for nothing.
    let wrong = ModelFile {
        sha256: Some(sha256(b"another file")),
        ..file("a.gguf")
    };
    let mut loader = Loader::new(Cpu, vec![wrong]).unwrap();
    loader.push(&bytes).unwrap();
    loader.set_hash(sha256(b"another file"));
    assert_eq!(loader.end_file().unwrap_err().code(), "wrong-hash");
}

#[test]
fn a_file_that_came_wrong_may_come_again() {
    let name = |i: usize| format!("gqa256-Q4_K_M-0000{i}-of-00004.gguf");
    let shards: Vec<Vec<u8>> = (1..=4)
        .map(|i| fixture(&format!("shards/{}", name(i))))
        .collect();
    let files = ModelFile::set(&name(1));
    let right: Vec<(ModelFile, &[u8])> = files
        .iter()
        .zip(&shards)
        .map(|(file, bytes)| (file.clone(), &bytes[..]))
        .collect();
    let expected = logits(&load(&right, 1 << 14).unwrap());

    let mut loader = Loader::new(Cpu, files).unwrap();
    for (i, bytes) in shards.iter().enumerate() {
        let before = loader.progress().done_bytes;
        loader.restart_file(); // Nothing has come of it yet.
        // In its header, behind it, in the middle of its data, and another file in its place.
        let other = &shards[(i + 1) % 4];
        for wrong in [&bytes[..40], &bytes[..bytes.len() / 2], bytes, other] {
            // Files in the wrong place are refused; which push finds out does not matter.
            let _ = loader.push(wrong);
            loader.restart_file();
            assert_eq!(loader.progress().done_bytes, before);
        }
        for chunk in bytes.chunks(1 << 14) {
            loader.push(chunk).unwrap();
        }
        loader.end_file().unwrap();
    }
    assert!(loader.next_file().is_none());
    let model = block_on(loader.finish(&LoadOptions::default())).unwrap();
    assert_eq!(logits(&model), expected);
}

#[test]
fn tensors_must_be_those_of_the_metadata() {
    let without = |name: &'static str| {
        rewritten(
            |_| (),
            move |spec, data| (spec.name != name).then_some((spec, data)),
        )
    };
    refused(
        load_one(&without("blk.1.ffn_up.weight")),
        "missing-tensor",
        "a.gguf: tensor blk.1.ffn_up.weight is missing",
    );
    refused(
        load_one(&without("token_embd.weight")),
        "missing-tensor",
        "token_embd.weight",
    );
    // Without a head of its own, a model's embeddings serve.
    load_one(&without("output.weight")).unwrap();

    let turned = rewritten(
        |_| (),
        |mut spec, data| {
            if spec.name == "blk.0.ffn_gate.weight" {
                spec.shape.reverse();
            }
            Some((spec, data))
        },
    );
    refused(
        load_one(&turned),
        "wrong-shape",
        "blk.0.ffn_gate.weight has shape [96, 160], expected [160, 96]",
    );

    let renamed = rewritten(
        |_| (),
        |mut spec, data| {
            if spec.name == "output_norm.weight" {
                spec.name = "blk.0.attn_q.bias".into();
            }
            Some((spec, data))
        },
    );
    refused(load_one(&renamed), "bad-file", "biases are not supported");

    // A tensor that nothing would be computed with means that something else was meant.
    let added = |name: &'static str| {
        let added = std::cell::Cell::new(false);
        rewritten(
            |_| (),
            move |mut spec, data| {
                if spec.name == "output_norm.weight" && !added.replace(true) {
                    spec.name = name.into();
                }
                Some((spec, data))
            },
        )
    };
    refused(
        load_one(&added("blk.0.attn_q_norm.weight")),
        "bad-file",
        "blk.0.attn_q_norm.weight has no place",
    );

    let broken = rewritten(
        |_| (),
        |spec, mut data| {
            if spec.name == "output_norm.weight" {
                assert_eq!(spec.ty, GgmlType::F32);
                data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            }
            Some((spec, data))
        },
    );
    refused(load_one(&broken), "bad-file", "output_norm.weight");
}

#[test]
fn metadata_is_checked_before_it_sizes_anything() {
    let set = |key: &'static str, value: u32| {
        load_one(&with_metadata(move |metadata| metadata.insert(key, value)))
    };
    refused(
        set("llama.block_count", 0),
        "bad-metadata",
        "llama.block_count",
    );
    refused(
        set("llama.block_count", u32::MAX),
        "bad-metadata",
        "llama.block_count",
    );
    refused(
        set("llama.block_count", 3),
        "missing-tensor",
        "blk.2.attn_k.weight",
    );
    refused(
        set("llama.embedding_length", u32::MAX),
        "bad-metadata",
        "llama.embedding_length",
    );
    refused(set("llama.feed_forward_length", 192), "wrong-shape", "192");
    refused(
        set("llama.attention.head_count", 0),
        "bad-metadata",
        "llama.attention.head_count",
    );
    refused(
        set("llama.attention.head_count", 7),
        "bad-metadata",
        "llama.attention.head_count",
    );
    refused(
        set("llama.attention.head_count_kv", 4),
        "bad-metadata",
        "llama.attention.head_count_kv",
    );
    refused(
        set("llama.rope.dimension_count", 5),
        "bad-metadata",
        "llama.rope.dimension_count",
    );
    refused(
        set("llama.rope.dimension_count", 64),
        "bad-metadata",
        "llama.rope.dimension_count",
    );
    refused(
        set("llama.context_length", 0),
        "bad-metadata",
        "llama.context_length",
    );
    refused(
        set("llama.vocab_size", 7),
        "bad-metadata",
        "llama.vocab_size",
    );
    refused(
        set("llama.expert_count", 8),
        "bad-metadata",
        "mixtures of experts",
    );
    refused(
        set("llama.rope.freq_base", 10000),
        "bad-metadata",
        "llama.rope.freq_base",
    );

    let text = |key: &'static str, value: &'static str| {
        load_one(&with_metadata(move |metadata| metadata.insert(key, value)))
    };
    refused(
        text("general.architecture", "gpt2"),
        "bad-metadata",
        "\"gpt2\"",
    );
    refused(
        text("llama.rope.scaling.type", "yarn"),
        "bad-metadata",
        "\"yarn\"",
    );
    refused(
        text("univi.template", "nonsense"),
        "bad-metadata",
        "nonsense",
    );

    let number = |key: &'static str, value: f32| {
        load_one(&with_metadata(move |metadata| metadata.insert(key, value)))
    };
    refused(
        number("llama.attention.layer_norm_rms_epsilon", 0.),
        "bad-metadata",
        "epsilon",
    );
    refused(
        number("llama.attention.layer_norm_rms_epsilon", f32::NAN),
        "bad-metadata",
        "epsilon",
    );
    refused(
        number("llama.rope.freq_base", -1.),
        "bad-metadata",
        "llama.rope.freq_base",
    );
    refused(
        number("llama.logit_scale", 0.5),
        "bad-metadata",
        "llama.logit_scale: is 0.5: scaled logits are not supported",
    );
}

#[test]
fn a_context_is_chosen_within_what_the_model_takes() {
    let bytes = small();
    let with = |context| {
        let mut loader = Loader::new(Cpu, vec![file("a.gguf")])?;
        loader.push(&bytes)?;
        loader.end_file()?;
        block_on(loader.finish(&LoadOptions::default().context(Some(context))))
    };
    assert_eq!(with(10).unwrap().llama().context(), 10);
    refused(with(0), "bad-request", "a context of 0 tokens");
    refused(with(usize::MAX), "bad-request", "this model takes 1 to");
}

#[test]
fn what_is_not_complete_is_no_model() {
    assert!(matches!(
        Loader::new(Cpu, Vec::new()),
        Err(Error::BadRequest { .. })
    ));
    let loader = Loader::new(Cpu, vec![file("a.gguf")]).unwrap();
    refused(
        block_on(loader.finish(&LoadOptions::default())),
        "bad-request",
        "a.gguf has not come",
    );
}
