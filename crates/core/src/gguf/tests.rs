use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::Error;

/// A GGUF file put together by hand, so that anything can be wrong with it.
#[derive(Clone)]
struct Raw {
    version: u32,
    tensors: Option<u64>,
    entries: Option<u64>,
    metadata: Vec<Vec<u8>>,
    table: Vec<Vec<u8>>,
    data: usize,
}

fn string(s: impl AsRef<[u8]>) -> Vec<u8> {
    let s = s.as_ref();
    [&(s.len() as u64).to_le_bytes(), s].concat()
}

/// A metadata entry of type `ty`.
fn entry(key: &str, ty: u32, value: &[u8]) -> Vec<u8> {
    [&string(key)[..], &ty.to_le_bytes(), value].concat()
}

fn list(key: &str, ty: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    entry(
        key,
        9,
        &[&ty.to_le_bytes()[..], &len.to_le_bytes(), elements].concat(),
    )
}

/// A row of the tensor table; dimensions innermost first, as in the file.
fn row(name: &str, dims: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let dims_bytes: Vec<u8> = dims.iter().flat_map(|d| d.to_le_bytes()).collect();
    [
        &string(name)[..],
        &(dims.len() as u32).to_le_bytes(),
        &dims_bytes,
        &ty.to_le_bytes(),
        &offset.to_le_bytes(),
    ]
    .concat()
}

impl Raw {
    fn new() -> Raw {
        Raw {
            version: 3,
            tensors: None,
            entries: None,
            metadata: vec![entry("general.architecture", 8, &string("llama"))],
            table: vec![row("a", &[32, 2], 2, 0), row("b", &[4], 0, 64)],
            data: 64 + 16,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(
            self.tensors
                .unwrap_or(self.table.len() as u64)
                .to_le_bytes(),
        );
        out.extend(
            self.entries
                .unwrap_or(self.metadata.len() as u64)
                .to_le_bytes(),
        );
        out.extend(self.metadata.concat());
        out.extend(self.table.concat());
        out.resize(out.len().next_multiple_of(32) + self.data, 0);
        out
    }
}

fn streamed(file: &[u8]) -> crate::Result<Header> {
    let mut parser = Parser::new();
    file.chunks(7)
        .try_for_each(|chunk| parser.push(chunk, &mut |_| Ok(())))?;
    parser.finish()
}

/// Both ways of reading refuse the file, and say this.
#[track_caller]
fn refused(change: impl FnOnce(&mut Raw), says: &str) {
    let mut raw = Raw::new();
    change(&mut raw);
    let file = raw.bytes();
    for result in [parse(&file), streamed(&file)] {
        let error = result.expect_err(says).to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
}

#[track_caller]
fn read(change: impl FnOnce(&mut Raw)) -> Header {
    let mut raw = Raw::new();
    change(&mut raw);
    let file = raw.bytes();
    let header = parse(&file).unwrap();
    assert_eq!(streamed(&file).unwrap(), header);
    header
}

#[test]
fn reads_what_llama_cpp_reads() {
    let header = read(|_| {});
    assert_eq!(
        header.metadata.str("general.architecture").unwrap(),
        "llama"
    );
    let a = header.tensor("a").unwrap();
    assert_eq!(
        (a.ty, &a.shape[..], a.rows(), a.cols(), a.bytes),
        (GgmlType::Q4_0, &[2, 32][..], 2, 32, 36)
    );
    let b = header.tensor("b").unwrap();
    assert_eq!(
        (b.rows(), b.cols(), b.offset),
        (1, 4, header.data_offset + 64)
    );
    assert_eq!(header.file_bytes, b.offset + 16);

    assert_eq!(read(|f| f.version = 2), header);
    // More bytes than the tensors need, no tensors at all, truth values other than 0 and 1.
    read(|f| f.data += 100);
    assert_eq!(read(|f| (f.table, f.data) = (vec![], 0)).tensors, []);
    let header = read(|f| f.metadata.push(entry("flag", 7, &[7])));
    assert!(header.metadata.bool("flag").unwrap());
    let header = read(|f| {
        f.metadata
            .push(entry("general.alignment", 4, &8u32.to_le_bytes()));
        f.table = vec![row("a", &[3], 0, 0), row("conv", &[14, 14, 3, 2], 0, 16)];
        f.data = 16 + 14 * 14 * 3 * 2 * 4;
    });
    let conv = header.tensor("conv").unwrap();
    assert_eq!((header.alignment, conv.rows(), conv.cols()), (8, 2, 588));
}

#[test]
fn refuses_bad_counts_and_versions() {
    refused(|f| f.version = 1, "version 1");
    refused(|f| f.version = 4, "version 4");
    refused(|f| f.version = 3 << 24, "big-endian");
    refused(|f| f.tensors = Some(u64::MAX), "tensors");
    refused(|f| f.tensors = Some(1 << 40), "tensors");
    refused(|f| f.entries = Some(u64::MAX), "entries");
    refused(|f| f.entries = Some(1 << 31), "entries");
    assert!(parse(b"").unwrap_err().to_string().contains("empty"));
    assert!(
        parse(b"<html>")
            .unwrap_err()
            .to_string()
            .contains("another kind")
    );
    assert!(
        streamed(b"<h")
            .unwrap_err()
            .to_string()
            .contains("another kind")
    );
    assert!(parse(b"GGUF").is_err());
}

#[test]
fn refuses_bad_metadata() {
    let add = |bytes: Vec<u8>| move |f: &mut Raw| f.metadata.push(bytes);
    refused(add(entry("general.architecture", 8, &string("x"))), "twice");
    refused(add(entry("", 4, &[0; 4])), "empty key");
    refused(add(entry("k", 13, &[0; 8])), "unknown type 13");
    refused(add(list("k", 9, 1, &[0; 12])), "array of arrays");
    refused(add(list("k", 77, 1, &[0; 12])), "unknown type 77");
    refused(add(list("k", 4, u64::MAX, &[])), "needs");
    refused(add(list("k", 4, 1 << 62, &[])), "needs");
    refused(add(list("k", 8, 1 << 40, &[])), "needs");
    refused(add(entry("k", 8, &u64::MAX.to_le_bytes())), "needs");
    refused(add(entry("k", 8, &(1u64 << 40).to_le_bytes())), "needs");
    refused(add(entry("k", 8, &string([0xff, 0xfe]))), "UTF-8");
    for (ty, value) in [(4, 0u32), (4, 3), (4, 48), (5, 32)] {
        refused(
            add(entry("general.alignment", ty, &value.to_le_bytes())),
            "power of two",
        );
    }
}

#[test]
fn refuses_bad_tensors() {
    let table = |rows: Vec<Vec<u8>>| move |f: &mut Raw| f.table = rows;
    refused(
        table(vec![row("a", &[4], 0, 0), row("a", &[4], 0, 32)]),
        "twice",
    );
    refused(table(vec![row("", &[4], 0, 0)]), "name");
    refused(table(vec![row(&"n".repeat(64), &[4], 0, 0)]), "64 bytes");
    refused(table(vec![row("a", &[], 0, 0)]), "0 dimensions");
    refused(table(vec![row("a", &[1; 5], 0, 0)]), "5 dimensions");
    refused(table(vec![row("a", &[0], 0, 0)]), "dimension is 0");
    refused(table(vec![row("a", &[4, 0], 0, 0)]), "dimension is 0");
    refused(table(vec![row("a", &[u64::MAX], 0, 0)]), "overflows");
    refused(
        table(vec![row("a", &[1 << 32, 1 << 32], 0, 0)]),
        "overflows",
    );
    refused(table(vec![row("a", &[1 << 62], 0, 0)]), "overflows");
    refused(table(vec![row("a", &[33], 2, 0)]), "whole number of blocks");
    refused(
        table(vec![row("a", &[128], 12, 0)]),
        "whole number of blocks",
    );
    refused(table(vec![row("a", &[4], 0, 32)]), "starts at byte 32");
    refused(
        table(vec![row("a", &[4], 0, 0), row("b", &[4], 0, 16)]),
        "starts at byte 16",
    );
    refused(
        table(vec![row("a", &[4], 0, 0), row("b", &[4], 0, 0)]),
        "starts at byte 0",
    );
    refused(table(vec![row("a", &[4], 0, u64::MAX)]), "starts at byte");
    refused(table(vec![row("a", &[1000], 0, 0)]), "bytes");
    for (id, name) in [
        (16, "IQ2_XXS"),
        (26, "I32"),
        (4, "type 4"),
        (u32::MAX, "type 4294967295"),
    ] {
        let mut raw = Raw::new();
        raw.table = vec![row("blk.0.x", &[256], id, 0)];
        match parse(&raw.bytes()).unwrap_err() {
            Error::UnsupportedType {
                name: tensor,
                found,
                ..
            } => {
                assert_eq!(tensor, "blk.0.x");
                assert!(found.contains(name), "{found}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn errors_stay() {
    let mut parser = Parser::new();
    let first = parser.push(b"not a model", &mut |_| Ok(())).unwrap_err();
    assert_eq!(parser.push(b"GGUF", &mut |_| Ok(())).unwrap_err(), first);
    assert_eq!(parser.finish().unwrap_err(), first);

    let mut parser = Parser::new();
    let mut abort = |_: Event<'_>| Err(Error::Aborted);
    assert_eq!(
        parser.push(&Raw::new().bytes(), &mut abort),
        Err(Error::Aborted)
    );
}

/// A number of every kind, as seeded.
fn any_value(random: &mut impl Rng) -> Value {
    let n = random.random_range(0..5);
    let text = |random: &mut dyn FnMut() -> u32| {
        char::from_u32(random() % 0x3000).unwrap_or('x').to_string()
    };
    match random.random_range(0..19) {
        0 => Value::U8(random.random()),
        1 => Value::I8(random.random()),
        2 => Value::U16(random.random()),
        3 => Value::I16(random.random()),
        4 => Value::U32(random.random()),
        5 => Value::I32(random.random()),
        6 => Value::F32(random.random()),
        7 => Value::Bool(random.random()),
        8 => Value::String(text(&mut || random.random())),
        9 => Value::U64(random.random()),
        10 => Value::I64(random.random()),
        11 => Value::F64(random.random()),
        12 => Value::Array(Array::U16((0..n).map(|_| random.random()).collect())),
        13 => Value::Array(Array::I8((0..n).map(|_| random.random()).collect())),
        14 => Value::Array(Array::I64((0..n).map(|_| random.random()).collect())),
        15 => (0..n).map(|_| random.random()).collect::<Vec<f32>>().into(),
        16 => (0..n)
            .map(|_| random.random())
            .collect::<Vec<bool>>()
            .into(),
        17 => Value::Array(Array::F64((0..n).map(|_| random.random()).collect())),
        _ => (0..n)
            .map(|_| text(&mut || random.random()))
            .collect::<Vec<String>>()
            .into(),
    }
}

#[test]
fn what_is_written_reads_back_the_same() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for round in 0..200 {
        let mut metadata: Metadata = (0..random.random_range(0..30))
            .map(|i| (format!("key.{i}"), any_value(&mut random)))
            .collect();
        if round % 3 == 0 {
            metadata.insert("general.alignment", 1u32 << random.random_range(0..8));
        }
        let tensors: Vec<TensorSpec> = (0..random.random_range(0..8))
            .map(|i| {
                let ty = GgmlType::ALL[random.random_range(0..GgmlType::ALL.len())];
                let mut shape: Vec<usize> = (0..random.random_range(1..5))
                    .map(|_| random.random_range(1..4))
                    .collect();
                *shape.last_mut().unwrap() *= ty.block_len();
                TensorSpec {
                    name: format!("t.{i}"),
                    ty,
                    shape,
                }
            })
            .collect();
        let data: Vec<Vec<u8>> = tensors
            .iter()
            .map(|t| (0..t.bytes().unwrap()).map(|_| random.random()).collect())
            .collect();

        let mut writer = Writer::new(Vec::new(), &metadata, &tensors).unwrap();
        for bytes in &data {
            let (a, b) = bytes.split_at(random.random_range(0..=bytes.len()));
            writer.write(a).unwrap();
            writer.write(b).unwrap();
        }
        let promised = writer.header().clone();
        let file = writer.finish().unwrap();
        let header = parse(&file).unwrap();
        assert_eq!(header, promised);
        assert_eq!(header.metadata, metadata);
        assert_eq!(streamed(&file).unwrap(), header);
        for ((t, spec), bytes) in header.tensors.iter().zip(&tensors).zip(&data) {
            assert_eq!(
                (&t.name, t.ty, &t.shape),
                (&spec.name, spec.ty, &spec.shape)
            );
            assert_eq!(&file[t.offset as usize..][..t.bytes as usize], bytes);
        }
    }
}

#[test]
fn writer_refuses_what_could_not_be_read() {
    let spec = |name: &str, ty, shape: &[usize]| TensorSpec {
        name: name.into(),
        ty,
        shape: shape.to_vec(),
    };
    let one = |t: TensorSpec| {
        Writer::new(Vec::new(), &Metadata::new(), &[t])
            .unwrap_err()
            .to_string()
    };
    assert!(one(spec("a", GgmlType::Q4K, &[2, 100])).contains("tensor a"));
    assert!(one(spec("a", GgmlType::F32, &[0])).contains("shape"));
    assert!(one(spec("a", GgmlType::F32, &[usize::MAX, usize::MAX])).contains("tensor a"));
    assert!(one(spec("", GgmlType::F32, &[1])).contains("name"));
    let twice = [
        spec("a", GgmlType::F32, &[1]),
        spec("a", GgmlType::F32, &[1]),
    ];
    assert!(check_specs(&twice).is_err());

    let mut writer = Writer::new(
        Vec::new(),
        &Metadata::new(),
        &[spec("a", GgmlType::F32, &[2])],
    )
    .unwrap();
    assert!(writer.write(&[0; 9]).is_err());
    writer.write(&[0; 4]).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("only 4"));
}

#[test]
fn split_names() {
    let name = SplitName::parse("m-Q4_K_M-00002-of-00003.gguf").unwrap();
    assert_eq!(
        name,
        SplitName {
            prefix: "m-Q4_K_M".into(),
            index: 1,
            count: 3
        }
    );
    assert_eq!(name.to_string(), "m-Q4_K_M-00002-of-00003.gguf");
    assert_eq!(name.all().count(), 3);
    for not in [
        "m.gguf",
        "m-00000-of-00003.gguf",
        "m-00004-of-00003.gguf",
        "m-1-of-3.gguf",
        "m-00001-of-00003.bin",
    ] {
        assert_eq!(SplitName::parse(not), None, "{not}");
    }
}

#[test]
fn shards_hold_together() {
    let tensors: Vec<TensorSpec> = (0..7)
        .map(|i| TensorSpec {
            name: format!("t{i}"),
            ty: GgmlType::F32,
            shape: vec![i + 1, 10],
        })
        .collect();
    let plan = plan_shards(&tensors, 250).unwrap();
    assert_eq!(plan, [0..3, 3..4, 4..5, 5..6, 6..7]);
    assert_eq!(plan_shards(&tensors, 1).unwrap().len(), 7);
    assert_eq!(plan_shards(&[], 1).unwrap(), vec![0..0]);
    let model: Metadata = [("general.architecture", "llama")].into_iter().collect();
    let headers: Vec<Header> = plan
        .iter()
        .enumerate()
        .map(|(i, range)| {
            let metadata = shard_metadata(&model, i, plan.len(), tensors.len());
            Writer::new(Vec::new(), &metadata, &tensors[range.clone()])
                .unwrap()
                .header()
                .clone()
        })
        .collect();
    let shards = Shards::of(headers.clone()).unwrap();
    assert_eq!(
        shards.metadata().str("general.architecture").unwrap(),
        "llama"
    );
    assert_eq!(
        shards
            .tensors()
            .map(|(_, t)| t.name.clone())
            .collect::<Vec<_>>(),
        tensors.iter().map(|t| t.name.clone()).collect::<Vec<_>>()
    );
    assert_eq!(shards.tensor("t4").unwrap().0, 2);

    // A file of another set, with a tensor that is there already, or that promises another number
    // of tensors.
    let mut other = headers.clone();
    other[1].metadata.insert("split.count", 4u16);
    assert!(
        Shards::of(other)
            .unwrap_err()
            .to_string()
            .contains("split.count")
    );
    let mut other = headers.clone();
    other[1].tensors[0].name = "t0".into();
    assert!(Shards::of(other).unwrap_err().to_string().contains("t0"));
    let mut other = headers.clone();
    other[1].tensors.clear();
    assert!(
        Shards::of(other)
            .unwrap_err()
            .to_string()
            .contains("split.tensors.count")
    );
    let mut other = headers;
    other[0].metadata.insert("split.count", 0u16);
    assert!(Shards::of(other).is_err());
}

#[test]
fn not_finite_scales_are_found_wherever_chunks_end() {
    for ty in GgmlType::ALL {
        let blocks = 5;
        let bytes = ty.block_bytes() * blocks;
        let info = TensorInfo {
            name: "w".into(),
            ty,
            shape: vec![blocks * ty.block_len()],
            offset: 0,
            bytes: bytes as u64,
        };
        let good = vec![0u8; bytes];
        // Where this type keeps a scale, inside block 3.
        let at = ty.block_bytes() * 3
            + match ty {
                GgmlType::F32 => 2,
                GgmlType::Q2K => 82,
                GgmlType::Q3K => 108,
                GgmlType::Q6K => 208,
                _ => 0,
            };
        let mut damaged = good.clone();
        damaged[at..at + 2].copy_from_slice(&if ty == GgmlType::F32 || ty == GgmlType::BF16 {
            [0x80, 0x7f]
        } else {
            [0, 0x7c]
        });
        for step in [4, 12, 64, bytes] {
            let check = |data: &[u8]| {
                let mut check = FiniteCheck::new();
                data.chunks(step)
                    .enumerate()
                    .try_for_each(|(i, c)| check.push(0, &info, (i * step) as u64, c))
            };
            assert_eq!(check(&good), Ok(()), "{ty}");
            let error = check(&damaged).unwrap_err().to_string();
            assert!(
                error.contains("tensor w") && error.contains(" 3 "),
                "{ty}: {error}"
            );
        }
    }
}

#[test]
fn quantize_refuses_what_it_cannot_hold() {
    assert!(quantize(GgmlType::F32, &[f32::NAN]).is_err());
    assert!(
        quantize(GgmlType::F16, &[1e6])
            .unwrap_err()
            .to_string()
            .contains("F16")
    );
    assert!(quantize(GgmlType::Q8_0, &[f32::MAX; 32]).is_err());
    assert!(quantize(GgmlType::Q4_0, &[0.0; 31]).is_err());
    assert!(
        QuantizationPlan::parse("q9")
            .unwrap_err()
            .to_string()
            .contains("q4_k_m")
    );
    assert_eq!(
        QuantizationPlan::parse("Q4_K_M").unwrap(),
        QuantizationPlan::Q4KM
    );
}

#[test]
fn metadata_says_what_it_found() {
    let mut m = Metadata::new();
    m.insert("n", 3u64);
    m.insert("neg", -1i32);
    m.insert("big", 1u64 << 40);
    m.insert("x", f32::NAN);
    m.insert("s", "text");
    assert_eq!(
        (
            m.u32("n").unwrap(),
            m.u64("n").unwrap(),
            m.i32("neg").unwrap()
        ),
        (3, 3, -1)
    );
    assert_eq!(m.opt_u32("none").unwrap(), None);
    for (error, says) in [
        (m.u32("none").unwrap_err(), "none: is missing"),
        (m.u32("neg").unwrap_err(), "neg: is -1 (i32)"),
        (m.u32("big").unwrap_err(), "big: is 1099511627776 (u64)"),
        (m.f32("x").unwrap_err(), "x: is NaN (f32)"),
        (m.strings("s").unwrap_err(), "expected an array of strings"),
    ] {
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.code(), "bad-metadata");
    }
}
