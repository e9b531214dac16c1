//! GGUF against files and blocks that ggml made.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use serde_json::Value;
use univi::Result;
use univi::gguf::{
    Event, FiniteCheck, GgmlType, Header, Parser, QuantizationPlan, Shards, SplitName, parse,
};
use univi_convert::{quantize, quantize_weighted};
use univi_tests::{files_in, fixtures};

fn f32s(tensor: &[u8]) -> Vec<f32> {
    tensor
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// (type, its file of raw blocks)
fn raw() -> Vec<(GgmlType, Vec<u8>)> {
    let files = files_in(&fixtures().join("gguf/raw"), ".safetensors");
    let named = files.into_iter().filter_map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        (name != "original").then(|| {
            let ty = GgmlType::parse(&name).unwrap_or_else(|| panic!("{name} is no type"));
            (ty, fs::read(&path).unwrap())
        })
    });
    named.collect()
}

/// Every GGUF file of the fixtures that holds a model.
fn gguf_files() -> Vec<PathBuf> {
    let models = fixtures().join("gguf/models");
    let mut folders: Vec<PathBuf> = fs::read_dir(&models)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    folders.push(fixtures().join("gguf/shards"));
    folders.sort();
    let files: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| files_in(folder, ".gguf"))
        .collect();
    assert!(files.len() >= 4, "no models in {}", models.display());
    files
}

#[test]
fn dequantize_is_bit_equal_to_ggml() {
    let raw = raw();
    assert!(
        raw.len() >= GgmlType::ALL.len() - 1,
        "only {} types",
        raw.len()
    );
    for (ty, file) in raw {
        let tensors = SafeTensors::deserialize(&file).unwrap();
        for kind in ["", "random."] {
            let bytes = tensors.tensor(&format!("{kind}quantized")).unwrap();
            let want = tensors.tensor(&format!("{kind}dequantized")).unwrap();
            let want = f32s(want.data());
            assert_eq!(
                ty.row_bytes(want.len()).unwrap(),
                bytes.data().len(),
                "{ty}"
            );
            let mut got = vec![0.0; want.len()];
            ty.dequantize(bytes.data(), &mut got);
            let differs = got
                .iter()
                .zip(&want)
                .position(|(a, b)| a.to_bits() != b.to_bits());
            assert_eq!(differs, None, "{ty} {kind}: first number that differs");
            assert_eq!(ty.first_not_finite(bytes.data()), None, "{ty}");
        }
    }
}

#[test]
fn quantize_loses_no_more_than_ggml() {
    let file = fs::read(fixtures().join("gguf/raw/original.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let original = tensors.tensor("original").unwrap();
    let cols = original.shape()[1];
    let original = f32s(original.data());
    for (ty, file) in raw() {
        let theirs = SafeTensors::deserialize(&file).unwrap();
        let theirs = f32s(theirs.tensor("dequantized").unwrap().data());
        let (_, meta) = SafeTensors::read_metadata(&file).unwrap();
        let rows = &meta.metadata().as_ref().unwrap()["original_rows"];
        let (first, end) = rows.split_once(':').unwrap();
        let (first, end): (usize, usize) = (first.parse().unwrap(), end.parse().unwrap());
        let original = &original[first * cols..end * cols];
        let written = quantize(ty, original).unwrap();
        if ty.block_len() <= 32 && ty != GgmlType::Iq4Nl {
            let theirs = SafeTensors::deserialize(&file).unwrap();
            let differs = written
                .iter()
                .zip(theirs.tensor("quantized").unwrap().data())
                .position(|(a, b)| a != b);
            assert_eq!(differs, None, "{ty}: first byte that differs");
            continue;
        }
        // The searches for scales end elsewhere, for single rows a little better or worse.
        let mut ours = vec![0.0; original.len()];
        ty.dequantize(&written, &mut ours);
        let steps = match ty {
            GgmlType::Q2K => 4.,
            GgmlType::Q3K => 8.,
            GgmlType::Q5K => 32.,
            GgmlType::Q6K => 64.,
            _ => 16.,
        };
        let (mut sum_ours, mut sum_theirs) = (0., 0.);
        for row in 0..end - first {
            let row_values = row * cols..(row + 1) * cols;
            let largest = original[row_values.clone()]
                .iter()
                .fold(0f32, |m, x| m.max(x.abs()));
            if largest < 1e-4 {
                continue; // The super-scales' half floats run out of bits; what is left is chance.
            }
            // Root of the mean squared error, as a share of the row's largest number.
            let error = |got: &[f32]| -> f64 {
                let pairs = original[row_values.clone()]
                    .iter()
                    .zip(&got[row_values.clone()]);
                let squares: f64 = pairs
                    .map(|(a, b)| f64::from((a - b) / largest).powi(2))
                    .sum();
                (squares / cols as f64).sqrt()
            };
            let (ours, theirs) = (error(&ours), error(&theirs));
            assert!(
                ours <= 1.1 * theirs + 0.02 / steps,
                "{ty} row {row}: error {ours}, ggml's {theirs}"
            );
            (sum_ours, sum_theirs) = (sum_ours + ours, sum_theirs + theirs);
        }
        assert!(
            sum_ours <= sum_theirs,
            "{ty}: mean error {sum_ours}, ggml's {sum_theirs}"
        );
    }
}

/// Where some columns matter more, the error there is less, at the cost of the others.
#[test]
fn importance_moves_the_error() {
    let cols = 512;
    let mut random = ChaCha8Rng::seed_from_u64(5);
    // Nearly of normal distribution.
    let mut number = || (0..4).map(|_| random.random::<f32>() - 0.5).sum();
    let rows: Vec<f32> = (0..16 * cols).map(|_| number()).collect();
    let rows = &rows[..];
    let importance: Vec<f32> = (0..cols).map(|col| (col % 5) as f32).collect();
    for ty in GgmlType::ALL {
        let error = |importance: Option<&[f32]>, weights: &[f32]| -> f64 {
            let mut stored = vec![0.; rows.len()];
            ty.dequantize(
                &quantize_weighted(ty, rows, importance).unwrap(),
                &mut stored,
            );
            let pairs = rows.iter().zip(&stored).zip(weights.iter().cycle());
            pairs
                .map(|((a, b), w)| f64::from(w * (a - b) * (a - b)))
                .sum()
        };
        let flat = vec![1.; cols];
        let plain = error(None, &importance);
        let weighted = error(Some(&importance), &importance);
        let is_searched = !matches!(
            ty,
            GgmlType::F32
                | GgmlType::F16
                | GgmlType::BF16
                | GgmlType::Q4_1
                | GgmlType::Q5_1
                | GgmlType::Q8_0
        );
        match is_searched {
            true => assert!(weighted < 0.99 * plain, "{ty}: {weighted}, without {plain}"),
            false => assert_eq!(weighted, plain, "{ty}"),
        }
        // What matters alike is as without, but for the types that are not searched then.
        if is_searched && !matches!(ty, GgmlType::Q4_0 | GgmlType::Q5_0) {
            assert_eq!(error(Some(&flat), &flat), error(None, &flat), "{ty}");
        }
    }
    let five = [1.; 5];
    let error = quantize_weighted(GgmlType::Q8_0, &[0.; 32], Some(&five)).unwrap_err();
    assert_eq!(error.code(), "bad-request");
}

#[derive(Debug, PartialEq)]
struct Streamed {
    header: Header,
    data: Vec<Vec<u8>>,
}

/// Feeds a file in chunks whose lengths come from `next`.
fn stream(file: &[u8], mut next: impl FnMut() -> usize) -> Result<Streamed> {
    let mut parser = Parser::new();
    let mut data: Vec<Vec<u8>> = Vec::new();
    let mut sizes: Vec<u64> = Vec::new();
    let mut rest = file;
    while !rest.is_empty() {
        let (chunk, more) = rest.split_at(next().min(rest.len()));
        rest = more;
        parser.push(chunk, &mut |event| {
            match event {
                Event::Header(header) => {
                    assert!(sizes.is_empty(), "the header comes once");
                    sizes = header.tensors.iter().map(|t| t.bytes).collect();
                }
                Event::Data {
                    tensor,
                    offset,
                    bytes,
                } => {
                    if offset == 0 {
                        data.push(Vec::new());
                    }
                    assert_eq!(
                        (tensor, offset),
                        (data.len() - 1, data[tensor].len() as u64),
                        "in order, no gaps"
                    );
                    let last = offset + bytes.len() as u64 == sizes[tensor];
                    assert!(offset % 4 == 0 && (last || bytes.len() % 4 == 0) && !bytes.is_empty());
                    data[tensor].extend_from_slice(bytes);
                }
            }
            Ok(())
        })?;
    }
    Ok(Streamed {
        header: parser.finish()?,
        data,
    })
}

#[test]
fn chunk_boundaries_change_nothing() {
    for path in gguf_files() {
        let file = fs::read(&path).unwrap();
        let whole = stream(&file, || file.len()).unwrap();
        assert_eq!(whole.header, parse(&file).unwrap());
        for (t, data) in whole.header.tensors.iter().zip(&whole.data) {
            assert_eq!(
                data,
                &file[t.offset as usize..][..t.bytes as usize],
                "{} of {}",
                t.name,
                path.display()
            );
        }
        // One byte at a time through the header of small files; lengths around the word size; odd
        // large ones.
        let mut i = 0;
        let mut mixed = || {
            i += 1;
            [1, 3, 2, 5, 4, 1021, 7, 65537][i % 8]
        };
        assert_eq!(
            stream(&file, &mut mixed).unwrap(),
            whole,
            "{}",
            path.display()
        );
        if file.len() < 200_000 {
            assert_eq!(stream(&file, || 1).unwrap(), whole, "{}", path.display());
        }
    }
}

/// `expected.json` of each model folder.
fn expectations() -> Vec<(PathBuf, Value)> {
    let mut folders: Vec<PathBuf> = fs::read_dir(fixtures().join("gguf/models"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    folders.sort();
    let read = |folder: PathBuf| {
        let text = fs::read_to_string(folder.join("expected.json")).unwrap();
        (folder, serde_json::from_str(&text).unwrap())
    };
    folders.into_iter().map(read).collect()
}

#[test]
fn tensor_types_are_what_llama_cpp_says() {
    let mut checked = 0;
    for (folder, expected) in expectations() {
        for (ty, facts) in expected["types"].as_object().unwrap() {
            let name = format!(
                "{}-{ty}.gguf",
                folder.file_name().unwrap().to_str().unwrap()
            );
            let Ok(file) = fs::read(folder.join(&name)) else {
                continue;
            };
            let header = parse(&file).unwrap();
            let want: BTreeMap<String, String> =
                serde_json::from_value(facts["tensor_types"].clone()).unwrap();
            let got = header
                .tensors
                .iter()
                .map(|t| (t.name.clone(), t.ty.to_string()))
                .collect();
            assert_eq!(want, got, "{name}");
            assert_eq!(
                header.metadata.str("general.architecture").unwrap(),
                "llama"
            );
            let mut finite = FiniteCheck::new();
            for (i, t) in header.tensors.iter().enumerate() {
                finite
                    .push(i, t, 0, &file[t.offset as usize..][..t.bytes as usize])
                    .unwrap();
            }
            checked += 1;
        }
    }
    assert!(checked >= 4);
}

/// The mix of types depends on names, shapes and head counts alone, so any file of a model will do
/// for its shapes.
#[test]
fn recipes_know_their_types() {
    use GgmlType::{F16, Iq4Xs, Q3K, Q4_0, Q4K, Q5K, Q6K};
    assert_eq!(QuantizationPlan::F16.types(), [F16]);
    assert_eq!(QuantizationPlan::Q4_0.types(), [Q4_0, Q6K]);
    assert_eq!(QuantizationPlan::Q4KM.types(), [Q4K, Q6K]);
    assert_eq!(QuantizationPlan::Q3KM.types(), [Q3K, Q4K, Q5K, Q6K]);
    assert_eq!(QuantizationPlan::IQ4XS.types(), [Q5K, Q6K, Iq4Xs]);
}

#[test]
fn recipes_mix_types_as_llama_cpp_does() {
    let mut checked = 0;
    for (folder, expected) in expectations() {
        let any = files_in(&folder, ".gguf").remove(0);
        let header = parse(&fs::read(any).unwrap()).unwrap();
        let tensors: Vec<(&str, &[usize])> = header
            .tensors
            .iter()
            .map(|t| (t.name.as_str(), t.shape.as_slice()))
            .collect();
        let heads = header.metadata.u32("llama.attention.head_count").unwrap();
        let kv = header
            .metadata
            .opt_u32("llama.attention.head_count_kv")
            .unwrap()
            .unwrap_or(heads);
        for (ty, facts) in expected["types"].as_object().unwrap() {
            let plan = QuantizationPlan::parse(ty).unwrap();
            let types = plan.llm_types(&tensors, (heads / kv) as usize);
            for ((name, _), got) in tensors.iter().zip(types) {
                assert_eq!(
                    facts["tensor_types"][name],
                    got.name(),
                    "{name} of {} {ty}",
                    folder.display()
                );
            }
            checked += 1;
        }
    }
    assert!(checked >= 4);
}

#[test]
fn split_sets_are_put_together() {
    let folder = fixtures().join("gguf/shards");
    let sets = files_in(&folder, ".json");
    assert!(!sets.is_empty());
    for set in sets {
        let facts: Value = serde_json::from_str(&fs::read_to_string(&set).unwrap()).unwrap();
        let names: Vec<&str> = facts["shards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["file"].as_str().unwrap())
            .collect();
        let first = SplitName::parse(names[0]).unwrap();
        assert_eq!(
            first.all().map(|n| n.to_string()).collect::<Vec<_>>(),
            names
        );
        let headers: Vec<Header> = names
            .iter()
            .map(|n| parse(&fs::read(folder.join(n)).unwrap()).unwrap())
            .collect();
        let shards = Shards::of(headers.clone()).unwrap();
        assert_eq!(shards.count(), names.len());
        let promised = shards.metadata().u32("split.tensors.count").unwrap();
        assert_eq!(shards.tensors().count(), promised as usize);
        assert!(shards.tensor("token_embd.weight").is_some());

        let mut swapped = headers.clone();
        swapped.swap(0, 1);
        assert!(
            Shards::of(swapped)
                .unwrap_err()
                .to_string()
                .contains("split.no")
        );
        assert!(
            Shards::of(headers[..1].to_vec())
                .unwrap_err()
                .to_string()
                .contains("only 1 given")
        );
        assert!(Shards::of([headers.clone(), headers].concat()).is_err());
    }
}
