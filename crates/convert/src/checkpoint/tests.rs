use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::pickle::state_dict;
use super::stored::{Dtype, Stored};
use super::*;
use univi::config::LlamaConfig;
use univi::gguf::{GgmlType, QuantizationPlan, parse};

/// Writes a pickle, instruction by instruction, as torch.save does.
#[derive(Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Pickle {
        Pickle(vec![0x80, 2])
    }

    fn op(mut self, bytes: &[u8]) -> Pickle {
        self.0.extend(bytes);
        self
    }

    fn text(self, s: &str) -> Pickle {
        self.op(b"X")
            .op(&(s.len() as u32).to_le_bytes())
            .op(s.as_bytes())
    }

    fn global(self, name: &str) -> Pickle {
        self.op(b"c").op(name.as_bytes()).op(b"\n")
    }

    fn int(self, n: i32) -> Pickle {
        self.op(b"J").op(&n.to_le_bytes())
    }

    fn dims(self, dims: &[i32]) -> Pickle {
        dims.iter().fold(self.op(b"("), |p, &d| p.int(d)).op(b"t")
    }

    /// A tensor in storage `key`.
    fn tensor(self, key: &str, ty: &str, offset: i32, shape: &[i32], stride: &[i32]) -> Pickle {
        self.global("torch._utils\n_rebuild_tensor_v2")
            .op(b"((")
            .text("storage")
            .global(&format!("torch\n{ty}Storage"))
            .text(key)
            .text("cpu")
            .int(1000)
            .op(b"tQ")
            .int(offset)
            .dims(shape)
            .dims(stride)
            .op(b"\x89")
            .global("collections\nOrderedDict")
            .op(b")RtR")
    }

    fn entry(self, name: &str, shape: &[i32], stride: &[i32]) -> Pickle {
        self.text(name).tensor("0", "Half", 2, shape, stride)
    }

    fn dict(self) -> Pickle {
        self.op(b"}q\0(")
    }

    fn end(self) -> Vec<u8> {
        self.op(b"u.").0
    }
}

#[test]
fn pickles_are_read() {
    let bytes = Pickle::new()
        .dict()
        .entry("a", &[2, 3], &[3, 1])
        .text("epoch")
        .int(7)
        .text("b")
        .tensor("1", "BFloat16", 0, &[], &[])
        .end();
    let found = state_dict(&bytes).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (&*found[0].name, &*found[0].storage, found[0].offset),
        ("a", "0", 2)
    );
    assert_eq!(
        (&found[0].shape[..], &found[0].stride[..], &found[0].dtype),
        (&[2, 3][..], &[3, 1][..], &Dtype::F16)
    );
    assert_eq!(
        (&*found[1].name, &found[1].dtype, found[1].shape.len()),
        ("b", &Dtype::BF16, 0)
    );

    // An OrderedDict with attributes, one item at a time, things from the memo.
    let bytes = Pickle::new()
        .global("collections\nOrderedDict")
        .op(b")Rq\x01")
        .text("a")
        .op(b"q\x02")
        .tensor("0", "Float", 0, &[4], &[1])
        .op(b"s")
        .op(b"}(")
        .text("_metadata")
        .op(b"h\x02ub")
        .op(b".")
        .0;
    assert_eq!(state_dict(&bytes).unwrap()[0].name, "a");
}

#[test]
fn pickles_do_nothing() {
    let refused = |bytes: Vec<u8>, says: &str| {
        let error = state_dict(&bytes).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    };
    refused(
        Pickle::new()
            .global("os\nsystem")
            .op(b"(")
            .text("echo")
            .op(b"tR.")
            .0,
        "os.system",
    );
    refused(
        Pickle::new().text("builtins").text("eval").op(b"\x93)R.").0,
        "builtins.eval",
    );
    refused(
        Pickle::new()
            .global("torch._utils\n_rebuild_tensor_v2")
            .op(b")R.")
            .0,
        "not known",
    );
    refused(Pickle::new().op(b")\x81.").0, "0x81");
    refused(Pickle::new().int(1).op(b".").0, "no dictionary");
    refused(Pickle::new().op(b"].").0, "no dictionary");
    refused(Pickle::new().op(b".").0, "off the stack");
    refused(Pickle::new().op(b"(.").0, "off the stack");
    refused(Pickle::new().op(b"t.").0, "not opened");
    refused(Pickle::new().op(b"h\x05.").0, "never remembered");
    refused(Pickle::new().int(1).int(2).op(b"b.").0, "attributes");
    refused(
        Pickle::new().int(1).op(b"(").int(2).op(b"u.").0,
        "no dictionary",
    );
    refused(
        Pickle::new().op(b"}(").text("k").op(b"u.").0,
        "without a value",
    );
    refused(Pickle::new().op(b"X\xff\xff\xff\xffabc").0, "breaks off");
    refused(Pickle::new().op(b"\x8a\xffabc").0, "breaks off");
    refused(Pickle::new().op(b"X\x01\0\0\0\xff.").0, "UTF-8");
    refused(vec![0x80, 9, b'.'], "protocol 9");
    refused(vec![], "breaks off");
    refused(
        Pickle::new()
            .dict()
            .text("a")
            .tensor("0", "Half", -1, &[1], &[1])
            .end(),
        "number -1",
    );
    refused(
        Pickle::new().dict().entry("a", &[-1], &[1]).end(),
        "whole numbers",
    );
    // A tower of tuples would overflow the stack of whoever drops it.
    refused(
        Pickle::new()
            .op(b")")
            .op(&b"\x85".repeat(100_000))
            .op(b".")
            .0,
        "nests tuples",
    );
    // Each doubling is one instruction; copies share what they hold.
    let mut bomb = Pickle::new().text("lol");
    for _ in 0..15 {
        bomb = bomb.op(b"q\0h\0\x86");
    }
    refused(bomb.op(b".").0, "no dictionary");
}

#[test]
fn no_damage_to_a_pickle_panics() {
    let good = Pickle::new()
        .dict()
        .entry("a", &[2, 3], &[3, 1])
        .entry("b", &[4], &[1])
        .end();
    for at in 0..good.len() {
        let _ = state_dict(&good[..at]);
        for change in 1..=255u8 {
            let mut bytes = good.clone();
            bytes[at] ^= change;
            let _ = state_dict(&bytes);
        }
    }
}

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(
            *name,
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored),
        )
        .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub(super) fn folder(files: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    files
        .iter()
        .map(|(name, bytes)| (name.to_string(), bytes.to_vec()))
        .collect()
}

#[test]
fn archives_are_checked() {
    let values: Vec<u8> = (0..20u8).collect();
    let with = |pickle: Vec<u8>, entries: &[(&str, &[u8])]| {
        let mut all: Vec<(&str, &[u8])> = vec![("m/data.pkl", &pickle), ("m/byteorder", b"little")];
        all.extend(entries);
        archive(&all)
    };
    let open = |bytes: Vec<u8>| {
        let files = folder(&[("pytorch_model.bin", &bytes)]);
        Weights::open(&files).map(|weights| (weights.get("a").cloned(), files))
    };
    let refused = |bytes: Vec<u8>, says: &str| {
        let error = open(bytes).unwrap_err().to_string();
        assert!(
            error.contains(says) && error.starts_with("pytorch_model.bin"),
            "{error:?} does not say {says:?}"
        );
    };
    let dict = |shape: &[i32], stride: &[i32]| Pickle::new().dict().entry("a", shape, stride).end();

    let (stored, files) = open(with(dict(&[2, 4], &[4, 1]), &[("m/data/0", &values)])).unwrap();
    let stored = stored.unwrap();
    let tensor = |stored: &Stored| {
        let order = part::RowOrder::Same;
        CheckpointTensor::new("a".into(), stored.shape.clone(), "a", stored, order).unwrap()
    };
    let read = tensor(&stored).read(&files, 1..2).unwrap()[2..].to_vec();
    let half = |at: usize| half::f16::from_le_bytes([values[at], values[at + 1]]).to_f32();
    assert_eq!(read, [half(16), half(18)]);

    refused(
        with(dict(&[2, 5], &[5, 1]), &[("m/data/0", &values)]),
        "20 bytes",
    );
    refused(
        with(dict(&[2, 4], &[1, 2]), &[("m/data/0", &values)]),
        "contiguous",
    );
    refused(
        with(
            dict(&[i32::MAX, i32::MAX, i32::MAX], &[1, 1, 1]),
            &[("m/data/0", &values)],
        ),
        "overflows",
    );
    refused(
        with(dict(&[2, 4], &[4, 1]), &[("m/data/1", &values)]),
        "not in the archive",
    );
    refused(
        with(
            dict(&[1], &[1]),
            &[("n/data.pkl", b""), ("m/data/0", &values)],
        ),
        "2 entries",
    );
    // The method of the first entry, in its own header and in the directory, becomes "deflated".
    let mut packed = archive(&[("m/data.pkl", &dict(&[1], &[1]))]);
    let directory = packed.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    (packed[8], packed[directory + 10]) = (8, 8);
    refused(packed, "compressed");
    refused(b"\x80\x02}.".to_vec(), "a Python pickle");
    refused(b"something else".to_vec(), "not a zip");
    refused(Vec::new(), "not a zip");
    // One bit of a number, and of the pickle: their checksums differ.
    let whole = with(dict(&[2, 4], &[4, 1]), &[("m/data/0", &values)]);
    let place = |bytes: &[u8]| whole.windows(bytes.len()).position(|w| w == bytes).unwrap();
    let mut flipped = whole.clone();
    flipped[place(&values) + 19] ^= 4;
    let (stored, files) = open(flipped).unwrap();
    let error = tensor(&stored.unwrap()).read(&files, 0..1);
    assert!(error.unwrap_err().to_string().contains("checksum"));
    let mut flipped = whole.clone();
    flipped[place(b"storage") + 3] ^= 1;
    refused(flipped, "checksum");

    for end in 0..whole.len() {
        assert!(open(whole[..end].to_vec()).is_err(), "{end} bytes");
    }
    let big = archive(&[
        ("m/data.pkl", &dict(&[1], &[1])),
        ("m/byteorder", b"big"),
        ("m/data/0", &values),
    ]);
    refused(big, "big-endian");
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn safetensors_are_checked() {
    let open = |bytes: Vec<u8>| Weights::open(&folder(&[("model.safetensors", &bytes)]));
    let refused = |bytes: Vec<u8>, says: &str| {
        let error = open(bytes).unwrap_err().to_string();
        assert!(
            error.contains(says) && error.starts_with("model.safetensors"),
            "{error:?} does not say {says:?}"
        );
    };
    let one = |shape: &str, end: u64| {
        format!(r#"{{"a":{{"dtype":"F16","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    let weights = open(safetensors(&one("[2,3]", 12), 12)).unwrap();
    assert_eq!(weights.get("a").unwrap().shape, [2, 3]);
    refused(safetensors(&one("[2,3]", 12), 11), "the file has");
    refused(safetensors(&one("[2,3]", 14), 14), "shape");
    refused(safetensors(&one("[18446744073709551615,2]", 12), 12), "");
    refused(safetensors("{", 0), "");
    refused(safetensors("[]", 0), "");
    refused(vec![0xff; 8], "claims a header");
    refused(vec![0; 7], "too few");
    refused((1u64 << 40).to_le_bytes().to_vec(), "claims a header");
}

#[test]
fn indices_are_checked() {
    let shard = safetensors(
        r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}"#,
        2,
    );
    let open = |index: &str, shards: &[&str]| {
        let mut files = folder(&[("model.safetensors.index.json", index.as_bytes())]);
        files.extend(shards.iter().map(|name| (name.to_string(), shard.clone())));
        Weights::open(&files).map(|_| ()).map_err(|e| e.to_string())
    };
    open(
        r#"{"weight_map":{"a":"s.safetensors"}}"#,
        &["s.safetensors"],
    )
    .unwrap();
    let missing = open(r#"{"weight_map":{"a":"s.safetensors"}}"#, &[]).unwrap_err();
    assert!(
        missing.contains("s.safetensors") && missing.contains("download all shards"),
        "{missing}"
    );
    assert!(
        open(
            r#"{"weight_map":{"b":"s.safetensors"}}"#,
            &["s.safetensors"]
        )
        .unwrap_err()
        .contains("tensor b")
    );
    assert!(
        open(r#"{"weight_map":{"a":"../s.safetensors"}}"#, &[])
            .unwrap_err()
            .contains("no file name")
    );
    assert!(
        open(r#"{"weight_map":3}"#, &[])
            .unwrap_err()
            .contains("index.json")
    );
    let twice = open(
        r#"{"weight_map":{"a":"s.safetensors","b":"t.safetensors"}}"#,
        &["s.safetensors", "t.safetensors"],
    );
    assert!(twice.unwrap_err().contains("also in"));
    assert!(
        Weights::open(&folder(&[]))
            .unwrap_err()
            .to_string()
            .contains("no weights")
    );
}

/// A folder with one safetensors file of f32 tensors that count upwards.
pub(super) fn checkpoint(
    config: &str,
    tensors: &[(impl AsRef<str>, impl AsRef<[usize]>)],
) -> BTreeMap<String, Vec<u8>> {
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (name, shape) in tensors {
        let (name, shape) = (name.as_ref(), shape.as_ref());
        let start = data.len();
        let values = 0..shape.iter().product::<usize>();
        data.extend(values.flat_map(|i| (i as f32).to_le_bytes()));
        header.push(format!(
            r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{}]}}"#,
            data.len()
        ));
    }
    let mut file = safetensors(&format!("{{{}}}", header.join(",")), 0);
    file.extend(data);
    folder(&[
        ("config.json", config.as_bytes()),
        ("model.safetensors", &file),
    ])
}

pub(super) const LLAMA: &str = r#"{"hidden_size":8,"intermediate_size":4,"num_hidden_layers":1,"num_attention_heads":2,
    "num_key_value_heads":1,"max_position_embeddings":64,"rms_norm_eps":1e-5,"hidden_act":"silu"}"#;

/// Names and shapes.
pub(super) type Tensors = Vec<(&'static str, &'static [usize])>;

pub(super) fn llama_tensors() -> Tensors {
    vec![
        ("model.embed_tokens.weight", &[5, 8]),
        ("model.layers.0.input_layernorm.weight", &[8]),
        ("model.layers.0.self_attn.q_proj.weight", &[8, 8]),
        ("model.layers.0.self_attn.k_proj.weight", &[4, 8]),
        ("model.layers.0.self_attn.v_proj.weight", &[4, 8]),
        ("model.layers.0.self_attn.o_proj.weight", &[8, 8]),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]),
        ("model.layers.0.post_attention_layernorm.weight", &[8]),
        ("model.layers.0.mlp.gate_proj.weight", &[4, 8]),
        ("model.layers.0.mlp.up_proj.weight", &[4, 8]),
        ("model.layers.0.mlp.down_proj.weight", &[8, 4]),
        ("model.norm.weight", &[8]),
        ("lm_head.weight", &[5, 8]),
    ]
}

#[test]
fn a_llama_becomes_gguf() {
    let files = checkpoint(LLAMA, &llama_tensors());
    let part = Checkpoint::open(&files).unwrap().llm().unwrap();
    let file = part.to_gguf(QuantizationPlan::F32).unwrap();
    let header = parse(&file).unwrap();
    assert_eq!(
        header
            .metadata
            .u32("llama.attention.head_count_kv")
            .unwrap(),
        1
    );
    assert!(!header.metadata.contains("univi.template"));
    assert_eq!(header.tensors.len(), 12);
    let values = |name: &str| {
        let t = header.tensor(name).unwrap();
        let mut out = vec![0.; t.elements()];
        GgmlType::F32.dequantize(&file[t.offset as usize..][..t.bytes as usize], &mut out);
        out
    };
    // Heads of four columns: rows 0, 1 (first halves) and 2, 3 (second halves) become pairs.
    let first: Vec<f32> = values("blk.0.attn_q.weight")
        .chunks(8)
        .map(|row| row[0] / 8.)
        .collect();
    assert_eq!(first, [0., 2., 1., 3., 4., 6., 5., 7.]);
    let first: Vec<f32> = values("blk.0.attn_k.weight")
        .chunks(8)
        .map(|row| row[0] / 8.)
        .collect();
    assert_eq!(first, [0., 2., 1., 3.]);
    let first: Vec<f32> = values("blk.0.attn_v.weight")
        .chunks(8)
        .map(|row| row[0] / 8.)
        .collect();
    assert_eq!(first, [0., 1., 2., 3.]);
    // Reading in pieces gives the same.
    let q = part
        .tensors
        .iter()
        .find(|t| t.name == "blk.0.attn_q.weight")
        .unwrap();
    assert_eq!(
        [part.read(q, 0..3).unwrap(), part.read(q, 3..8).unwrap()].concat(),
        values("blk.0.attn_q.weight")
    );
}

#[test]
fn what_is_no_llama_is_refused() {
    let refused = |config: &str, change: &dyn Fn(&mut Tensors), says: &str| {
        let mut tensors = llama_tensors();
        change(&mut tensors);
        let files = checkpoint(config, &tensors);
        let error = Checkpoint::open(&files)
            .and_then(|c| c.llm().map(|_| ()))
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    };
    refused(
        LLAMA,
        &|t| t.retain(|(name, _)| !name.ends_with("up_proj.weight")),
        "mlp.up_proj.weight is missing",
    );
    refused(
        LLAMA,
        &|t| t.retain(|(name, _)| *name != "lm_head.weight"),
        "lm_head.weight is missing",
    );
    refused(
        LLAMA,
        &|t| t[2].1 = &[8, 4],
        "q_proj.weight has shape [8, 4], expected [8, 8]",
    );
    refused(LLAMA, &|t| t[2].1 = &[16, 8], "expected [8, 8]");
    refused(LLAMA, &|t| t[12].1 = &[4, 8], "lm_head.weight");
    refused(
        LLAMA,
        &|t| t.push(("model.layers.0.self_attn.q_proj.bias", &[8])),
        "no place",
    );
    refused(&LLAMA.replace("silu", "gelu"), &|_| {}, "hidden_act");
    refused(
        &LLAMA.replace("\"hidden_size\":8,", ""),
        &|_| {},
        "hidden_size is missing",
    );
    refused(
        &LLAMA.replace("\"num_attention_heads\":2", "\"num_attention_heads\":0"),
        &|_| {},
        "num_attention_heads is 0",
    );
    refused(
        &LLAMA.replace(
            "\"num_hidden_layers\":1",
            "\"num_hidden_layers\":4000000000",
        ),
        &|_| {},
        "block_count",
    );
    refused(
        LLAMA,
        &|t| {
            t.push(("model.layers.1.mlp.up_proj.weight", &[4, 8]));
            t.push(("model.image_newline", &[8]));
        },
        "tensors model.image_newline, model.layers.1.mlp.up_proj.weight have no place",
    );
    let with = |keys: &str| LLAMA.replace("1e-5", &format!("1e-5,{keys}"));
    for (keys, says) in [
        (r#""rope_scaling":{"rope_type":"yarn"}"#, "yarn"),
        (r#""rope_scaling":{"type":"dynamic","factor":2}"#, "dynamic"),
        (r#""rope_scaling":{"type":"linear"}"#, "no factor"),
        (
            r#""rope_parameters":{"rope_type":"llama3","type":"llama3","factor":8}"#,
            "llama3",
        ),
        (
            r#""rope_scaling":{"factor":2},"rope_parameters":{"factor":4}"#,
            "a factor of 2",
        ),
        (r#""model_type":"granite""#, "\"granite\""),
        (
            r#""model_type":"smollm3","architectures":["SmolLM3ForCausalLM"]"#,
            "SmolLM3",
        ),
        (r#""logits_scaling":16.0"#, "logits_scaling is 16"),
        (r#""embedding_multiplier":12"#, "embedding_multiplier"),
        (r#""attn_logit_softcapping":50.0"#, "attn_logit_softcapping"),
        (r#""partial_rotary_factor":0.5"#, "partial_rotary_factor"),
        (r#""no_rope_layers":[1,0]"#, "no_rope_layers"),
        (
            r#""layer_types":["sliding_attention"]"#,
            "layer_types is [\"sliding_attention\"]",
        ),
        (
            r#""quantization_config":{"quant_method":"fp8"}"#,
            "quantized already (fp8)",
        ),
    ] {
        refused(&with(keys), &|_| {}, says);
    }
    refused("{", &|_| {}, "config.json");
    refused("[]", &|_| {}, "config.json");
    refused(&LLAMA.replace(":8,", ":-8,"), &|_| {}, "config.json");
    let files = folder(&[]);
    assert!(
        Checkpoint::open(&files)
            .err()
            .unwrap()
            .to_string()
            .contains("no folder of a checkpoint")
    );
}

#[test]
fn licenses_are_found() {
    let license = |readme: &str| {
        let mut files = checkpoint(LLAMA, &llama_tensors());
        files.insert("README.md".into(), readme.as_bytes().to_vec());
        Checkpoint::open(&files).unwrap().license().unwrap()
    };
    assert_eq!(
        license("---\nlanguage: en\nlicense: llama2\n---\n# A model\n").as_deref(),
        Some("llama2")
    );
    assert_eq!(license("---\ntags: []\n---\nlicense: mit\n"), None);
    assert_eq!(license("license: mit\n"), None);
}

#[test]
fn keys_that_change_nothing_are_no_trouble() {
    let config = |keys: &str| {
        let keys = LLAMA.replace("1e-5", &format!("1e-5,{keys}"));
        let files = checkpoint(&keys, &llama_tensors());
        let part = Checkpoint::open(&files).unwrap().llm().unwrap();
        LlamaConfig::from_metadata(&part.metadata).unwrap()
    };
    let plain = config(r#""model_type":"llama""#);
    assert_eq!((plain.context, plain.rope.scale), (64, 1.));
    for keys in [
        r#""model_type":"mistral","sliding_window":null"#,
        r#""architectures":["MyLlamaForCausalLM"],"model_type":"my_llama""#,
        r#""logits_scaling":1.0,"partial_rotary_factor":1.0,"no_rope_layers":[1]"#,
        r#""quantization_config":null,"layer_types":["full_attention"]"#,
        r#""rope_scaling":null,"rope_parameters":{"rope_type":"default","rope_theta":10000.0}"#,
        r#""sliding_window":32,"use_sliding_window":false"#,
        r#""sliding_window":64"#,
    ] {
        assert_eq!(config(keys), plain, "{keys}");
    }
    let linear = config(r#""rope_scaling":{"type":"linear","rope_type":"linear","factor":4.0}"#);
    assert_eq!(linear.rope.scale, 4.);
    assert_eq!(config(r#""rope_scaling":{"factor":4.0}"#), linear);
    assert_eq!(config(r#""sliding_window":32"#).context, 32);
    let theta = config(r#""rope_parameters":{"rope_theta":5000.0}"#);
    assert_eq!(theta.rope.theta, 5000.);
}
