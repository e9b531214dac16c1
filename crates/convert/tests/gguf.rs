//! Files that are written are read back the same, and what could not be read is not written.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use univi::{
    Result,
    gguf::{Array, GgmlType, Header, Metadata, Parser, Shards, Value, parse},
};
use univi_convert::{TensorSpec, Writer, check_specs, plan_shards, quantize, shard_metadata};

fn streamed(file: &[u8]) -> Result<Header> {
    let mut parser = Parser::new();
    file.chunks(7)
        .try_for_each(|chunk| parser.push(chunk, &mut |_| Ok(())))?;
    parser.finish()
}

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
}
