//! Checkpoints as published, read through the library alone: the bytes of each folder in memory.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{SafeTensors, tensor::TensorView};
use univi::gguf::{GgmlType, Header, QuantizationPlan, parse};
use univi::tokenizer::{EncodeOptions, Tokenizer};
use univi_convert::checkpoint::Checkpoint;
use univi_tests::{files_in, fixtures};

fn folder(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |file: std::path::PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(&file).unwrap())
    };
    files_in(path, "").into_iter().map(read).collect()
}

/// The numbers of a tensor in a GGUF file.
fn values(file: &[u8], header: &Header, name: &str) -> Vec<f32> {
    let t = header
        .tensor(name)
        .unwrap_or_else(|| panic!("{name} is not there"));
    let mut values = vec![0.0; t.elements()];
    t.ty.dequantize(&file[t.offset as usize..][..t.bytes as usize], &mut values);
    values
}

/// The f16 numbers of a tensor in a safetensors file.
fn source(file: &[u8], name: &str) -> Vec<f32> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let bytes = tensors.tensor(name).unwrap().data().to_vec();
    let mut values = vec![0.0; bytes.len() / 2];
    GgmlType::F16.dequantize(&bytes, &mut values);
    values
}

#[test]
fn llama_folders_become_gguf() {
    for name in ["mha", "gqa_tied"] {
        let files = folder(&fixtures().join("golden/llama").join(name));
        let part = Checkpoint::open(&files).unwrap().llm().unwrap();
        let file = part.to_gguf(QuantizationPlan::F16).unwrap();
        let header = parse(&file).unwrap();
        let original = &files["model.safetensors"];
        for (ours, theirs) in [
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("output_norm.weight", "model.norm.weight"),
            (
                "blk.1.attn_v.weight",
                "model.layers.1.self_attn.v_proj.weight",
            ),
            (
                "blk.0.ffn_down.weight",
                "model.layers.0.mlp.down_proj.weight",
            ),
            (
                "blk.1.ffn_norm.weight",
                "model.layers.1.post_attention_layernorm.weight",
            ),
        ] {
            assert_eq!(
                values(&file, &header, ours),
                source(original, theirs),
                "{name} {ours}"
            );
        }
        // Rows of the queries: number 2 i + j of a head comes from row i + j * half.
        let heads = header.metadata.u32("llama.attention.head_count").unwrap() as usize;
        let (got, want) = (
            values(&file, &header, "blk.1.attn_q.weight"),
            source(original, "model.layers.1.self_attn.q_proj.weight"),
        );
        let cols = header.tensor("blk.1.attn_q.weight").unwrap().cols();
        let head_dim = got.len() / cols / heads;
        for head in 0..heads {
            for i in 0..head_dim / 2 {
                for j in 0..2 {
                    let row =
                        |r: usize| (head * head_dim + r) * cols..(head * head_dim + r + 1) * cols;
                    assert_eq!(
                        got[row(2 * i + j)],
                        want[row(i + j * head_dim / 2)],
                        "{name} head {head}"
                    );
                }
            }
        }
        assert_eq!(header.tensor("output.weight").is_none(), name == "gqa_tied");
        assert!(header.tensors.iter().all(|t| !t.name.contains("inv_freq")));
    }
}

#[test]
fn a_clip_folder_becomes_gguf() {
    let files = folder(&fixtures().join("golden/clip/model"));
    let file = Checkpoint::open(&files)
        .unwrap()
        .tower()
        .unwrap()
        .to_gguf(QuantizationPlan::F16)
        .unwrap();
    let header = parse(&file).unwrap();
    let original = &files["model.safetensors"];
    for (ours, theirs) in [
        (
            "v.patch_embd.weight",
            "vision_model.embeddings.patch_embedding.weight",
        ),
        ("v.class_embd", "vision_model.embeddings.class_embedding"),
        ("v.pre_ln.bias", "vision_model.pre_layrnorm.bias"),
        (
            "v.blk.0.attn_out.weight",
            "vision_model.encoder.layers.0.self_attn.out_proj.weight",
        ),
        (
            "v.blk.1.ffn_up.bias",
            "vision_model.encoder.layers.1.mlp.fc1.bias",
        ),
    ] {
        assert_eq!(
            values(&file, &header, ours),
            source(original, theirs),
            "{ours}"
        );
    }
    let blocks = header.metadata.u32("clip.vision.block_count").unwrap();
    let last = format!("v.blk.{}.ln1.weight", blocks - 1);
    assert!(header.tensor(&last).is_none(), "the last block never runs");
}

#[test]
fn a_chat_univi_checkpoint_becomes_two_parts() {
    let e2e = fixtures().join("golden/e2e");
    let files = folder(&e2e.join("checkpoint"));
    let checkpoint = Checkpoint::open(&files).unwrap();
    assert!(checkpoint.has_vision() && !checkpoint.has_tower());
    let tower_path = e2e.join(checkpoint.tower_name().unwrap());

    let llm = checkpoint.llm().unwrap();
    let file = llm.to_gguf(QuantizationPlan::Q8_0).unwrap();
    let header = parse(&file).unwrap();
    assert_eq!(header.metadata.str("univi.template").unwrap(), "simple");
    assert_eq!(
        header.tensor("output_norm.weight").unwrap().ty,
        GgmlType::F32
    );

    // The vocabulary went along, and is the same from there.
    let from_files = checkpoint.tokenizer().unwrap().unwrap();
    let from_gguf = Tokenizer::from_gguf(&header.metadata).unwrap();
    let text = "###Human: What is in the picture?\n###Assistant:";
    let ids = from_files.encode(text, EncodeOptions::PROMPT).unwrap();
    assert_eq!(from_gguf.encode(text, EncodeOptions::PROMPT).unwrap(), ids);
    let rows = header.tensor("token_embd.weight").unwrap().rows();
    assert_eq!(from_gguf.vocab_len(), rows);

    let error = checkpoint.vision(None).err().unwrap().to_string();
    assert!(error.contains("--vision-tower"), "{error}");

    let tower_files = folder(&tower_path);
    let tower = Checkpoint::open(&tower_files).unwrap();
    let file = checkpoint
        .vision(Some(&tower))
        .unwrap()
        .to_gguf(QuantizationPlan::F16)
        .unwrap();
    let header = parse(&file).unwrap();
    let width = header.metadata.u32("clip.vision.projection_dim").unwrap() as usize;
    let seen = header.metadata.u32("clip.vision.embedding_length").unwrap() as usize;
    assert_eq!(header.tensor("mm.0.weight").unwrap().shape, [width, seen]);
    assert_eq!(header.tensor("mm.0.bias").unwrap().shape, [width]);
    assert!(header.metadata.bool("univi.use_cluster").unwrap());
    assert_eq!(
        header.metadata.f32s("univi.spatial_cluster_rate").unwrap(),
        [64.0, 32.0, 16.0]
    );
    let patch = source(
        &tower_files["model.safetensors"],
        "vision_model.embeddings.patch_embedding.weight",
    );
    assert_eq!(values(&file, &header, "v.patch_embd.weight"), patch);
    // A CLIP alone is no language model.
    assert!(
        tower
            .llm()
            .err()
            .unwrap()
            .to_string()
            .contains("model.embed_tokens.weight")
    );
}

/// A tower inside the shards is as good as the one that it was copied from.
#[test]
fn a_tower_may_be_inside_the_shards() {
    let e2e = fixtures().join("golden/e2e");
    let outside = folder(&e2e.join("checkpoint"));
    let named = Checkpoint::open(&outside)
        .unwrap()
        .tower_name()
        .unwrap()
        .to_string();
    let tower_files = folder(&e2e.join(named));
    let tower = Checkpoint::open(&tower_files).unwrap();

    // Beside the old shards, one more with the tower under the names that the original gives it.
    let tensors = SafeTensors::deserialize(&tower_files["model.safetensors"]).unwrap();
    let vision: Vec<(String, TensorView)> = tensors
        .tensors()
        .into_iter()
        .filter(|(name, _)| name.starts_with("vision_model."))
        .map(|(name, view)| (format!("model.vision_tower.vision_tower.{name}"), view))
        .collect();
    let mut index: serde_json::Value =
        serde_json::from_slice(&outside["pytorch_model.bin.index.json"]).unwrap();
    for (name, _) in &vision {
        index["weight_map"][name] = "tower.safetensors".into();
    }
    let mut inside = outside.clone();
    inside.insert(
        "pytorch_model.bin.index.json".into(),
        serde_json::to_vec(&index).unwrap(),
    );
    inside.insert(
        "tower.safetensors".into(),
        safetensors::serialize(vision, None).unwrap(),
    );
    let inside = Checkpoint::open(&inside).unwrap();
    assert!(inside.has_tower());
    assert_eq!(
        inside.llm().unwrap().tensors.len(),
        Checkpoint::open(&outside)
            .unwrap()
            .llm()
            .unwrap()
            .tensors
            .len()
    );

    let from_outside = Checkpoint::open(&outside)
        .unwrap()
        .vision(Some(&tower))
        .unwrap();
    let from_inside = inside.vision(Some(&tower)).unwrap();
    assert_eq!(
        from_inside.to_gguf(QuantizationPlan::F16).unwrap(),
        from_outside.to_gguf(QuantizationPlan::F16).unwrap()
    );
    // Without its configuration nobody knows how many heads this small one has.
    let error = inside.vision(None).err().unwrap().to_string();
    assert!(
        error.contains("heads") && error.contains("--vision-tower"),
        "{error}"
    );
}

/// The e2e checkpoint as one file of f32 weights, with `rows` embeddings: what is beyond those that
/// there are counts upwards from 1000.
fn with_rows(rows: usize, keys: &[(&str, serde_json::Value)]) -> BTreeMap<String, Vec<u8>> {
    let mut files = folder(&fixtures().join("golden/e2e/checkpoint"));
    let (mut tensors, mut config) = {
        let checkpoint = Checkpoint::open(&files).unwrap();
        let llm = checkpoint.llm().unwrap();
        let tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = llm
            .tensors
            .iter()
            .map(|tensor| {
                let values = tensor.in_stored_order(&llm.read(tensor, 0..tensor.rows()).unwrap());
                (tensor.source.clone(), (tensor.shape.clone(), values))
            })
            .collect();
        let config: serde_json::Value = serde_json::from_slice(&files["config.json"]).unwrap();
        (tensors, config)
    };
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let (shape, values) = tensors.get_mut(name).unwrap();
        let (had, cols) = (shape[0], shape[1]);
        values.truncate(rows * cols);
        for row in had..rows {
            values.extend(std::iter::repeat_n((1000 + row) as f32, cols));
        }
        shape[0] = rows;
    }
    for (key, value) in keys {
        config[key] = value.clone();
    }
    files.retain(|name, _| !name.starts_with("pytorch_model"));
    files.insert("config.json".into(), serde_json::to_vec(&config).unwrap());
    let bytes_of = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let bytes: Vec<Vec<u8>> = tensors
        .values()
        .map(|(_, values)| bytes_of(values))
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, (shape, _)), bytes)| {
            let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
            (name.clone(), view.unwrap())
        });
    let file = safetensors::serialize(views, None).unwrap();
    files.insert("model.safetensors".into(), file);
    files
}

/// The reference adds its tokens when it loads a model, whether or not a file names them, and cuts
/// the embeddings at that many.
#[test]
fn tokens_that_the_reference_adds_have_their_rows() {
    let tokens = 512;
    let llm = |rows: usize, patch: Option<bool>, wraps: bool| {
        let mut keys = vec![("mm_use_im_start_end", wraps.into())];
        keys.push(("mm_use_im_patch_token", patch.into()));
        let files = with_rows(rows, &keys);
        let checkpoint = Checkpoint::open(&files).unwrap();
        let file = checkpoint.llm().map_err(|e| e.to_string())?;
        let file = file.to_gguf(QuantizationPlan::F32).unwrap();
        let header = parse(&file).unwrap();
        let tokenizer = Tokenizer::from_gguf(&header.metadata).unwrap();
        let table = values(&file, &header, "token_embd.weight");
        let cols = header.tensor("token_embd.weight").unwrap().cols();
        let last_row = table[table.len() - cols];
        let names = ["<im_patch>", "<im_start>", "<im_end>"].map(|name| tokenizer.id(name));
        Ok::<_, String>((tokenizer.vocab_len(), names, last_row))
    };
    let of = |id: u32| Some(id);
    let (patch, start, end) = (of(512), of(512), of(513));
    // Added after training began, and not named by any file.
    assert_eq!(
        llm(tokens + 2, Some(false), true),
        Ok((514, [None, start, end], 1513.))
    );
    // Without the key, the reference adds the patch first.
    let all = [patch, of(513), of(514)];
    assert_eq!(llm(tokens + 3, None, true), Ok((515, all, 1514.)));
    assert_eq!(llm(tokens + 3, Some(true), true), Ok((515, all, 1514.)));
    assert_eq!(
        llm(tokens + 1, None, false),
        Ok((513, [patch, None, None], 1512.))
    );
    // Rows that only pad the matrix are cut.
    assert_eq!(
        llm(tokens + 64, Some(false), true),
        Ok((514, [None, start, end], 1513.))
    );
    // A patch that no prompt has needs no row, what stands around visuals does.
    let (count, names, _) = llm(tokens, None, false).unwrap();
    assert_eq!((count, names), (512, [None; 3]));
    let error = llm(tokens, Some(false), true).unwrap_err();
    assert!(
        error.contains("514 tokens") && error.contains("<im_start>"),
        "{error}"
    );
    let error = llm(tokens + 2, None, true).unwrap_err();
    assert!(
        error.contains("515 tokens") && error.contains("<im_end>"),
        "{error}"
    );
}

#[test]
fn more_tokens_than_embeddings_are_refused() {
    let files = with_rows(510, &[]);
    let checkpoint = Checkpoint::open(&files).unwrap();
    let error = checkpoint.llm().err().unwrap().to_string();
    assert!(error.contains("512 tokens, but only 510"), "{error}");
}
