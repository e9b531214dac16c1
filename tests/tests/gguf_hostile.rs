//! Damaged GGUF files: an error, no panic, and no more memory than the bytes that came can justify.

use std::fs;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use univi::gguf::{GgmlType, Metadata, Parser, parse};
use univi_convert::{TensorSpec, Writer};
use univi_tests::{files_in, fixtures, memory::peak_of};

/// Strings and names take a little more in memory than in the file, and vectors grow by doubling.
fn allowed(file_bytes: usize) -> usize {
    16 * file_bytes + (256 << 10)
}

/// Every type of value and a few tensors.
fn small_file() -> Vec<u8> {
    let mut metadata: Metadata = [
        ("general.architecture", "llama"),
        ("general.name", "a small file"),
    ]
    .into_iter()
    .collect();
    metadata.insert("u8", 1u8);
    metadata.insert("i16", -2i16);
    metadata.insert("u32", 3u32);
    metadata.insert("f32", 0.5f32);
    metadata.insert("bool", true);
    metadata.insert("u64", 1u64 << 40);
    metadata.insert("f64", 0.25f64);
    metadata.insert("list", vec![1u32, 2, 3]);
    metadata.insert(
        "tokens",
        vec!["a".to_string(), String::new(), "\u{2581}b".to_string()],
    );
    metadata.insert("scores", vec![0.0f32, -1.0]);
    let tensors = [
        (GgmlType::F32, vec![3]),
        (GgmlType::Q4_0, vec![2, 32]),
        (GgmlType::F16, vec![3, 5]),
    ];
    let tensors: Vec<TensorSpec> = tensors
        .into_iter()
        .enumerate()
        .map(|(i, (ty, shape))| TensorSpec {
            name: format!("t{i}"),
            ty,
            shape,
        })
        .collect();
    let mut writer = Writer::new(Vec::new(), &metadata, &tensors).unwrap();
    for t in &tensors {
        writer
            .write(&vec![0x11; t.bytes().unwrap() as usize])
            .unwrap();
    }
    writer.finish().unwrap()
}

fn fixture() -> Vec<u8> {
    let models = fixtures().join("gguf/models");
    let mut folders: Vec<_> = fs::read_dir(models)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    folders.sort();
    let files = folders
        .iter()
        .flat_map(|folder| files_in(folder, ".gguf"))
        .map(|path| fs::read(path).unwrap());
    files.min_by_key(Vec::len).unwrap()
}

#[test]
fn every_truncation_is_an_error() {
    let file = small_file();
    let last = parse(&file).unwrap().file_bytes as usize;
    for end in 0..file.len() {
        let (known, memory) = peak_of(|| parse(&file[..end]));
        assert!(memory <= allowed(end), "{end} bytes took {memory}");
        let mut parser = Parser::new();
        let streamed = parser
            .push(&file[..end], &mut |_| Ok(()))
            .and_then(|()| parser.finish());
        // Padding behind the last tensor may be absent.
        assert_eq!(
            (known.is_ok(), streamed.is_ok()),
            (end >= last, end >= last),
            "{end} bytes"
        );
    }
    let large = fixture();
    let last = parse(&large).unwrap().file_bytes as usize;
    for step in 0..200 {
        let end = last * step / 200;
        let (result, memory) = peak_of(|| parse(&large[..end]));
        assert!(
            result.is_err() && memory <= allowed(end),
            "{end} bytes took {memory}"
        );
    }
}

#[test]
fn no_changed_byte_makes_trouble() {
    let file = small_file();
    let header = parse(&file).unwrap().data_offset as usize;
    for at in 0..header {
        for change in 1..=255u8 {
            let mut damaged = file.clone();
            damaged[at] ^= change;
            let (_, memory) = peak_of(|| parse(&damaged));
            assert!(
                memory <= allowed(file.len()),
                "byte {at} ^ {change}: {memory} bytes"
            );
        }
    }
}

#[test]
fn random_damage_makes_no_trouble() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for file in [small_file(), fixture()] {
        let header = parse(&file).unwrap().data_offset as usize;
        for _ in 0..2000 {
            let mut damaged = file.clone();
            for _ in 0..random.random_range(1..=4) {
                let at = random.random_range(0..header - 8);
                if random.random() {
                    damaged[at] = random.random();
                } else {
                    // Lengths and offsets are where trouble starts.
                    let large = [
                        u64::MAX,
                        i64::MAX as u64,
                        1 << 40,
                        u64::from(u32::MAX),
                        1 << 31,
                        0,
                    ][random.random_range(0..6)];
                    damaged[at..at + 8].copy_from_slice(&large.to_le_bytes());
                }
            }
            let (_, memory) = peak_of(|| parse(&damaged));
            assert!(memory <= allowed(file.len()), "{memory} bytes");
            let (_, memory) = peak_of(|| {
                let mut parser = Parser::new();
                let _ = damaged
                    .chunks(1000)
                    .try_for_each(|chunk| parser.push(chunk, &mut |_| Ok(())));
                parser.finish()
            });
            assert!(memory <= allowed(file.len()), "{memory} bytes streamed");
        }
    }
}
