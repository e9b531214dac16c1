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
            .contains("web page")
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
fn recipes_have_names() {
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
