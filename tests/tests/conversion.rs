//! Conversions are planned from little, and their files can be made in any order, of bytes that
//! come in any pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use univi::gguf::{QuantizationPlan, parse};
use univi::manifest::Role;
use univi::{Error, Result};
use univi_convert::checkpoint::{Checkpoint, Files};
use univi_convert::{
    CARD_MARK, Conversion, ConversionOptions, ImportanceMatrix, Origin, PlannedFile, PlannedTensor,
};
use univi_tests::{files_in, fixtures};

/// The files of a folder, and which ranges of them were read.
struct Watched {
    files: BTreeMap<String, Vec<u8>>,
    reads: Mutex<Vec<(String, u64, usize)>>,
}

impl Watched {
    fn new(folder: &str) -> Watched {
        let files = files_in(&fixtures().join("golden/e2e").join(folder), "");
        let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_string();
        let files = files
            .iter()
            .map(|path| (name(path), std::fs::read(path).unwrap()));
        Watched {
            files: files.collect(),
            reads: Mutex::default(),
        }
    }
}

impl Files for Watched {
    fn len(&self, name: &str) -> Result<Option<u64>> {
        Files::len(&self.files, name)
    }

    fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        let read = (name.to_string(), offset, out.len());
        self.reads.lock().unwrap().push(read);
        self.files.read(name, offset, out)
    }
}

const TOWER: &str = "openai/clip-vit-tiny-random-patch14";

fn options(shard_bytes: u64) -> ConversionOptions {
    ConversionOptions {
        name: "tiny chat".into(),
        quantization: QuantizationPlan::parse("q8_0").unwrap(),
        vision_quantization: QuantizationPlan::F16,
        template: None,
        importance: None,
        shard_bytes,
    }
}

fn plan(files: &Watched, tower: &Watched, shard_bytes: u64) -> Conversion {
    let checkpoint = Checkpoint::open(files).unwrap();
    let tower = Checkpoint::open(tower).unwrap();
    Conversion::plan(&checkpoint, Some(&tower), &options(shard_bytes)).unwrap()
}

/// Makes a file out of pieces of `chunk` bytes.
fn build(file: &PlannedFile, sources: [&Watched; 2], chunk: usize) -> Result<Vec<u8>> {
    let mut bytes = file.head.clone();
    for planned in &file.tensors {
        assert_eq!(
            bytes.len() as u64,
            planned.offset,
            "{}",
            planned.tensor.name
        );
        let source = &sources[usize::from(planned.tensor.is_beside)].files;
        let mut reader = planned.tensor.reader();
        let span = reader.span().clone();
        let stored = &source[&span.file][span.offset as usize..][..span.len as usize];
        for piece in stored.chunks(chunk) {
            reader.push(piece, &mut |rows| {
                bytes.extend(planned.encode(rows.rows, &rows.bytes)?);
                Ok(())
            })?;
        }
        reader.finish()?;
        assert_eq!(bytes.len() as u64, planned.offset + planned.bytes);
        bytes.resize(bytes.len() + planned.padding as usize, 0);
    }
    Ok(bytes)
}

#[test]
fn files_are_made_of_any_pieces_in_any_order() {
    let (files, tower) = (Watched::new("checkpoint"), Watched::new(TOWER));
    let checkpoint = Checkpoint::open(&files).unwrap();
    let beside = Checkpoint::open(&tower).unwrap();
    let (llm, vision) = checkpoint.parts(Some(&beside)).unwrap();
    let expected = [
        llm.to_gguf(options(0).quantization).unwrap(),
        vision.unwrap().to_gguf(QuantizationPlan::F16).unwrap(),
    ];
    let headers = [&expected[0], &expected[1]].map(|file| parse(file).unwrap());

    let conversion = plan(&files, &tower, 64_000);
    let again = plan(&files, &tower, 64_000);
    let shards = conversion
        .files
        .iter()
        .filter(|file| file.role == Role::Llm);
    assert!(shards.count() > 2);
    let mut seen = BTreeSet::new();
    let pairs = conversion.files.iter().zip(&again.files);
    for (chunk, (file, same)) in [1, 7, 4096, 1 << 20].into_iter().cycle().zip(pairs.rev()) {
        let bytes = build(file, [&files, &tower], chunk).unwrap();
        assert_eq!(bytes.len() as u64, file.bytes, "{}", file.name);
        // A second time the checksums are known, and only the tensors are read.
        assert!(build(file, [&files, &tower], 999).unwrap() == bytes);
        assert!(build(same, [&files, &tower], 31).unwrap() == bytes);
        if file.role == Role::Tokenizer {
            assert!(bytes == files.files[&file.name]);
            continue;
        }
        let part = usize::from(file.role == Role::Vision);
        for tensor in parse(&bytes).unwrap().tensors {
            let whole = headers[part].tensor(&tensor.name).unwrap();
            assert_eq!((tensor.ty, &tensor.shape), (whole.ty, &whole.shape));
            let data = |file: &[u8], at: u64| file[at as usize..][..whole.bytes as usize].to_vec();
            assert!(
                data(&bytes, tensor.offset) == data(&expected[part], whole.offset),
                "{}",
                tensor.name
            );
            assert!(seen.insert(tensor.name));
        }
    }
    assert_eq!(
        seen.len(),
        headers[0].tensors.len() + headers[1].tensors.len()
    );

    let hashes = vec!["0123456789abcdef".repeat(4); conversion.files.len()];
    let manifest = conversion.manifest(&hashes).unwrap();
    assert_eq!(manifest.total_bytes(), conversion.bytes());
    assert_eq!(manifest.name, "tiny chat");
    assert!(manifest.image_px.is_some() && manifest.parameters.is_some());
    manifest.to_json().unwrap();
    assert!(conversion.manifest(&hashes[1..]).is_err());
}

#[test]
fn planning_reads_both_ends_of_files_and_no_more() {
    let (files, tower) = (Watched::new("checkpoint"), Watched::new(TOWER));
    plan(&files, &tower, 64_000);
    for watched in [&files, &tower] {
        let reads = watched.reads.lock().unwrap();
        for (name, bytes) in &watched.files {
            if !name.ends_with(".bin") && !name.ends_with(".safetensors") {
                continue;
            }
            let of_file: Vec<_> = reads.iter().filter(|read| read.0 == *name).collect();
            assert!(
                (1..=2).contains(&of_file.len()),
                "{name} of {} bytes: {of_file:?}",
                bytes.len()
            );
        }
    }
}

#[test]
fn a_damaged_tensor_is_found_before_its_file_is_finished() {
    let (mut files, tower) = (Watched::new("checkpoint"), Watched::new(TOWER));
    let conversion = plan(&files, &tower, u64::MAX);
    let llm = &conversion.files[0];
    let planned = llm
        .tensors
        .iter()
        .find(|planned| planned.tensor.name == "blk.0.ffn_up.weight")
        .unwrap();
    let span = planned.tensor.span();
    let broken = files.files.get_mut(&span.file).unwrap();
    broken[(span.offset + span.len / 2) as usize] ^= 1;
    let error = build(llm, [&files, &tower], 1 << 16)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("checksum") && error.starts_with(&span.file),
        "{error}"
    );

    // A transfer that ends early is no tensor either.
    let reader = planned.tensor.reader();
    assert!(matches!(reader.finish(), Err(Error::In { .. })));
}

#[test]
fn a_card_and_the_licence_go_along() {
    let (mut files, tower) = (Watched::new("checkpoint"), Watched::new(TOWER));
    let mut add = |name: &str, text: &str| files.files.insert(name.into(), text.into());
    add("README.md", "---\nlicense: llama2: no\n---\n");
    add("LICENSE.txt", "The terms.");
    let conversion = plan(&files, &tower, u64::MAX);
    let origin = Origin {
        repository: "org/tiny".into(),
        commit: "0123456789".repeat(4),
    };
    let companions = conversion.companions(Some(&origin));
    let names: Vec<&str> = companions.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["README.md", "LICENSE.txt"]);
    assert_eq!(companions[1].1, b"The terms.");
    let card = String::from_utf8(companions[0].1.clone()).unwrap();
    for says in [
        "license: llama2--no\n",
        "base_model: org/tiny\n",
        "pipeline_tag: image-text-to-text\n",
        CARD_MARK,
        "# tiny chat, q8_0",
        &origin.commit,
        "[LICENSE.txt](LICENSE.txt)",
        &format!("{} bytes", conversion.bytes()),
    ] {
        assert!(card.contains(says), "{says:?} is not in {card}");
    }
    let (_, unpublished) = &conversion.companions(None)[0];
    assert!(!String::from_utf8_lossy(unpublished).contains("base_model"));
}

/// An importance matrix of these names and columns, in the form without a version.
fn importance(entries: &[(String, usize)]) -> ImportanceMatrix {
    let mut file = (entries.len() as i32).to_le_bytes().to_vec();
    for (name, cols) in entries {
        file.extend((name.len() as i32).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(1i32.to_le_bytes());
        file.extend((*cols as i32).to_le_bytes());
        for col in 0..*cols {
            file.extend(((col % 7) as f32).exp().to_le_bytes());
        }
    }
    ImportanceMatrix::parse(&file).unwrap()
}

#[test]
fn importance_is_of_the_same_model() {
    let (files, tower) = (Watched::new("checkpoint"), Watched::new(TOWER));
    let checkpoint = Checkpoint::open(&files).unwrap();
    let beside = Checkpoint::open(&tower).unwrap();
    let planned = |entries: Option<&[(String, usize)]>| {
        let options = ConversionOptions {
            quantization: QuantizationPlan::parse("q4_0").unwrap(),
            importance: entries.map(importance),
            ..options(1 << 30)
        };
        Conversion::plan(&checkpoint, Some(&beside), &options)
    };
    let plain = planned(None).unwrap();
    let of_layers = plain.tensors().map(|planned| &planned.tensor);
    let of_layers = of_layers.filter(|tensor| tensor.name.starts_with("blk."));
    let mut entries: Vec<_> = of_layers
        .filter(|tensor| tensor.shape.len() == 2)
        .map(|tensor| (tensor.name.clone(), tensor.cols()))
        .collect();

    let weighted = planned(Some(&entries)).unwrap();
    assert_eq!(weighted.unused_importance, [""; 0]);
    let data = |file: &[u8], planned: &PlannedTensor| {
        file[planned.offset as usize..][..planned.bytes as usize].to_vec()
    };
    let mut others = 0;
    for (plain, weighted) in plain.files.iter().zip(&weighted.files) {
        let [a, b] = [plain, weighted].map(|file| build(file, [&files, &tower], 1 << 20).unwrap());
        for (plain, weighted) in plain.tensors.iter().zip(&weighted.tensors) {
            let is_other = data(&a, plain) != data(&b, weighted);
            let name = &weighted.tensor.name;
            assert_eq!(is_other, weighted.importance.is_some(), "{name}");
            others += usize::from(is_other);
        }
    }
    assert!(others > 3, "{others}");

    entries.push(("blk.99.attn_q.weight".into(), 64));
    let more = planned(Some(&entries)).unwrap();
    assert_eq!(more.unused_importance, ["blk.99.attn_q.weight"]);
    let says = |result: Result<Conversion>, says: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.code(), "bad-request");
        assert!(error.to_string().contains(says), "{error}");
    };
    let (first, _) = entries.remove(0);
    says(planned(Some(&entries)), &first);
    entries.insert(0, (first.clone(), 3));
    says(
        planned(Some(&entries)),
        &format!("has 3 columns for {first}"),
    );
}
