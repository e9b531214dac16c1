//! Checkpoints of random weights in the layouts in which Chat-UniVi is published: two files of
//! PyTorch or safetensors, with the vision tower among their tensors.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Result as IoResult, Write},
    path::Path,
};

use serde_json::{Value, json};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use univi::{Error, Result};
use univi_convert::checkpoint::Files;

use crate::fixtures;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `pytorch_model-*.bin`.
    Torch,
    /// `model-*.safetensors`.
    Safetensors,
}

/// The sizes of a model.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Channels of the language model.
    pub width: usize,
    /// Its channels inside the SwiGLU.
    pub ffn: usize,
    /// Its blocks.
    pub layers: usize,
    /// Its heads.
    pub heads: usize,
    /// Channels of the vision tower.
    pub clip_width: usize,
    /// Its channels inside a block.
    pub clip_ffn: usize,
    /// Its blocks.
    pub clip_layers: usize,
    /// Its heads.
    pub clip_heads: usize,
    /// Width and height of its pictures, in patches of 14 pixels.
    pub clip_grid: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
}

impl Sizes {
    /// Twenty million numbers.
    pub const SMALL: Sizes = Sizes {
        width: 512,
        ffn: 1536,
        layers: 6,
        heads: 4,
        clip_width: 64,
        clip_ffn: 128,
        clip_layers: 3,
        clip_heads: 4,
        clip_grid: 4,
        vocabulary: FIXTURE_VOCABULARY,
    };

    /// Those of Chat-UniVi 7B v1.5, but for the vocabulary, which is the fixture's.
    pub const SEVEN_BILLION: Sizes = Sizes {
        clip_grid: 24,
        vocabulary: FIXTURE_VOCABULARY,
        ..Sizes::CHAT_UNIVI_7B
    };

    /// Those of Chat-UniVi 7B.
    pub const CHAT_UNIVI_7B: Sizes = Sizes {
        width: 4096,
        ffn: 11008,
        layers: 32,
        heads: 32,
        clip_width: 1024,
        clip_ffn: 4096,
        clip_layers: 24,
        clip_heads: 16,
        clip_grid: 16,
        vocabulary: 32000,
    };

    /// Those of Chat-UniVi 13B.
    pub const CHAT_UNIVI_13B: Sizes = Sizes {
        width: 5120,
        ffn: 13824,
        layers: 40,
        heads: 40,
        ..Sizes::CHAT_UNIVI_7B
    };
}

/// Tokens of the fixture's vocabulary.
const FIXTURE_VOCABULARY: usize = 512;

/// Numbers that are written at a time.
const CHUNK_NUMBERS: usize = 1 << 16;

/// A tensor's name and shape.
type Tensor = (String, Vec<usize>);

/// Writes a checkpoint into `folder`, with a `README.md` and a licence.
///
/// # Errors
/// Those of the disk.
pub fn write(folder: &Path, layout: Layout, sizes: &Sizes) -> IoResult<()> {
    fs::create_dir_all(folder)?;
    let tensors = tensors(sizes);
    let (first, second) = tensors.split_at(tensors.len() / 2);
    let (start, end, index) = match layout {
        Layout::Torch => ("pytorch_model", "bin", "pytorch_model.bin.index.json"),
        Layout::Safetensors => ("model", "safetensors", "model.safetensors.index.json"),
    };
    let mut map = BTreeMap::new();
    let mut state = 1;
    for (i, shard) in [first, second].into_iter().enumerate() {
        let name = format!("{start}-{:05}-of-00002.{end}", i + 1);
        let out = BufWriter::with_capacity(1 << 20, File::create(folder.join(&name))?);
        match layout {
            Layout::Torch => torch(out, shard, &mut state)?,
            Layout::Safetensors => safetensors(out, shard, &mut state)?,
        }
        map.extend(shard.iter().map(|tensor| (tensor.0.clone(), name.clone())));
    }
    let index_json = json!({ "metadata": {}, "weight_map": map });
    fs::write(folder.join(index), index_json.to_string())?;
    fs::write(folder.join("config.json"), config(sizes).to_string())?;
    for name in ["tokenizer.model", "tokenizer.json", "tokenizer_config.json"] {
        let file = fixtures().join("golden/e2e/checkpoint").join(name);
        fs::write(folder.join(name), fs::read(file)?)?;
    }
    fs::write(
        folder.join("README.md"),
        "---\nlicense: llama2\n---\n# Random\n",
    )?;
    fs::write(folder.join("LICENSE"), "The terms of random numbers.\n")
}

fn config(sizes: &Sizes) -> Value {
    json!({
        "architectures": ["ChatUniViLlamaForCausalLM"],
        "model_type": "ChatUniVi",
        "hidden_act": "silu",
        "hidden_size": sizes.width,
        "intermediate_size": sizes.ffn,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.heads,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "vocab_size": sizes.vocabulary,
        "tie_word_embeddings": false,
        "mm_hidden_size": sizes.clip_width,
        "mm_use_im_patch_token": false,
        "mm_use_im_start_end": false,
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "config": { "use_cluster": true },
        "vision_config": {
            "hidden_size": sizes.clip_width,
            "intermediate_size": sizes.clip_ffn,
            "num_hidden_layers": sizes.clip_layers,
            "num_attention_heads": sizes.clip_heads,
            "image_size": sizes.clip_grid * 14,
            "patch_size": 14,
        },
    })
}

/// In the order of a state dictionary.
fn tensors(sizes: &Sizes) -> Vec<Tensor> {
    let (width, ffn) = (sizes.width, sizes.ffn);
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut add = |name: &str, shape: &[usize]| tensors.push((name.to_string(), shape.to_vec()));
    add("model.embed_tokens.weight", &[sizes.vocabulary, width]);
    for layer in 0..sizes.layers {
        let mut add = |name: &str, shape: &[usize]| {
            add(&format!("model.layers.{layer}.{name}"), shape);
        };
        for head in ["q", "k", "v", "o"] {
            add(&format!("self_attn.{head}_proj.weight"), &[width, width]);
        }
        let half = width / sizes.heads / 2;
        add("self_attn.rotary_emb.inv_freq", &[half]);
        add("mlp.gate_proj.weight", &[ffn, width]);
        add("mlp.up_proj.weight", &[ffn, width]);
        add("mlp.down_proj.weight", &[width, ffn]);
        add("input_layernorm.weight", &[width]);
        add("post_attention_layernorm.weight", &[width]);
    }
    add("model.norm.weight", &[width]);
    let (clip, clip_ffn) = (sizes.clip_width, sizes.clip_ffn);
    let mut add_clip = |name: &str, shape: &[usize]| {
        add(
            &format!("model.vision_tower.vision_tower.vision_model.{name}"),
            shape,
        );
    };
    add_clip("embeddings.class_embedding", &[clip]);
    add_clip("embeddings.patch_embedding.weight", &[clip, 3, 14, 14]);
    let positions = sizes.clip_grid * sizes.clip_grid + 1;
    add_clip("embeddings.position_embedding.weight", &[positions, clip]);
    for norm in ["pre_layrnorm", "post_layernorm"] {
        add_clip(&format!("{norm}.weight"), &[clip]);
        add_clip(&format!("{norm}.bias"), &[clip]);
    }
    for layer in 0..sizes.clip_layers {
        for (name, rows, cols) in [
            ("self_attn.k_proj", clip, clip),
            ("self_attn.v_proj", clip, clip),
            ("self_attn.q_proj", clip, clip),
            ("self_attn.out_proj", clip, clip),
            ("mlp.fc1", clip_ffn, clip),
            ("mlp.fc2", clip, clip_ffn),
        ] {
            add_clip(
                &format!("encoder.layers.{layer}.{name}.weight"),
                &[rows, cols],
            );
            add_clip(&format!("encoder.layers.{layer}.{name}.bias"), &[rows]);
        }
        for norm in ["layer_norm1", "layer_norm2"] {
            add_clip(&format!("encoder.layers.{layer}.{norm}.weight"), &[clip]);
            add_clip(&format!("encoder.layers.{layer}.{norm}.bias"), &[clip]);
        }
    }
    add("model.mm_projector.weight", &[width, clip]);
    add("model.mm_projector.bias", &[width]);
    add("lm_head.weight", &[sizes.vocabulary, width]);
    tensors
}

fn elements(tensor: &Tensor) -> usize {
    tensor.1.iter().product()
}

/// Writes numbers of f16 between 1/128 and 1/64, of either sign.
fn numbers(out: &mut impl Write, count: usize, state: &mut u64) -> IoResult<()> {
    let mut bytes = Vec::with_capacity(CHUNK_NUMBERS * 2);
    for start in (0..count).step_by(CHUNK_NUMBERS) {
        bytes.clear();
        for _ in start..count.min(start + CHUNK_NUMBERS) {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let number = (*state >> 40) as u16 & 0x83ff | 0x2000;
            bytes.extend(number.to_le_bytes());
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}

fn safetensors(mut out: impl Write, shard: &[Tensor], state: &mut u64) -> IoResult<()> {
    out.write_all(&safetensors_header(shard))?;
    for tensor in shard {
        numbers(&mut out, elements(tensor), state)?;
    }
    out.flush()
}

fn safetensors_header(shard: &[Tensor]) -> Vec<u8> {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for tensor in shard {
        let end = at + elements(tensor) * 2;
        let entry = json!({ "dtype": "F16", "shape": tensor.1, "data_offsets": [at, end] });
        header.insert(tensor.0.clone(), entry);
        at = end;
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

/// A checkpoint that has no numbers: what a conversion is planned from, of any size.
pub struct Shapes {
    small: BTreeMap<String, Vec<u8>>,
    weights: Vec<u8>,
    weights_bytes: u64,
}

const SHAPES_NAME: &str = "model.safetensors";

impl Shapes {
    /// A checkpoint of these sizes.
    ///
    /// # Errors
    /// Those of the disk, from which the tokenizer comes.
    pub fn new(sizes: &Sizes) -> IoResult<Shapes> {
        let tensors = tensors(sizes);
        let name = "tokenizer.json";
        let tokenizer = fs::read(fixtures().join("golden/e2e/checkpoint").join(name))?;
        let mut tokenizer: Value = serde_json::from_slice(&tokenizer)?;
        let vocabulary = &mut tokenizer["model"]["vocab"];
        for id in FIXTURE_VOCABULARY..sizes.vocabulary {
            vocabulary[format!("filler {id}")] = id.into();
        }
        let tokenizer = tokenizer.to_string().into_bytes();
        let config = config(sizes).to_string().into_bytes();
        let weights = safetensors_header(&tensors);
        let numbers: usize = tensors.iter().map(elements).sum();
        Ok(Shapes {
            small: BTreeMap::from([
                (name.to_string(), tokenizer),
                ("config.json".to_string(), config),
            ]),
            weights_bytes: weights.len() as u64 + 2 * numbers as u64,
            weights,
        })
    }

    /// The bytes of all weights, as they are published.
    pub fn weights_bytes(&self) -> u64 {
        self.weights_bytes
    }
}

impl Files for Shapes {
    fn len(&self, name: &str) -> Result<Option<u64>> {
        match name {
            SHAPES_NAME => Ok(Some(self.weights_bytes)),
            _ => Files::len(&self.small, name),
        }
    }

    fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        if name != SHAPES_NAME {
            return Files::read(&self.small, name, offset, out);
        }
        let end = offset + out.len() as u64;
        if end > self.weights_bytes {
            let reason = format!("there are no {} bytes at {offset}", out.len());
            return Err(Error::Io { reason }.in_file(name));
        }
        for (at, byte) in (offset..).zip(out) {
            *byte = usize::try_from(at)
                .ok()
                .and_then(|at| self.weights.get(at).copied())
                .unwrap_or_default();
        }
        Ok(())
    }
}

/// As torch.save does: the data of each entry begins at a multiple of 64 bytes, by fields of its
/// own header that the directory lacks.
fn torch(out: impl Write + std::io::Seek, shard: &[Tensor], state: &mut u64) -> IoResult<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(64)
        .large_file(true);
    let mut zip = ZipWriter::new(out);
    zip.start_file("archive/data.pkl", options)?;
    zip.write_all(&pickle(shard))?;
    for (key, tensor) in shard.iter().enumerate() {
        zip.start_file(format!("archive/data/{key}"), options)?;
        numbers(&mut zip, elements(tensor), state)?;
    }
    zip.start_file("archive/version", options)?;
    zip.write_all(b"3\n")?;
    zip.finish()?.flush()
}

/// The dictionary of a shard, each tensor in a storage of its own.
fn pickle(shard: &[Tensor]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let int = |out: &mut Vec<u8>, n: usize| {
        out.push(b'J');
        out.extend((n as i32).to_le_bytes());
    };
    let tuple = |out: &mut Vec<u8>, numbers: &[usize]| {
        out.push(b'(');
        numbers.iter().for_each(|&n| int(out, n));
        out.push(b't');
    };
    for (key, tensor) in shard.iter().enumerate() {
        text(&mut out, &tensor.0);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nHalfStorage\n");
        text(&mut out, &key.to_string());
        text(&mut out, "cpu");
        int(&mut out, elements(tensor));
        out.extend(b"tQ");
        int(&mut out, 0);
        tuple(&mut out, &tensor.1);
        let strides = (0..tensor.1.len()).map(|i| tensor.1[i + 1..].iter().product());
        tuple(&mut out, &strides.collect::<Vec<usize>>());
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}
