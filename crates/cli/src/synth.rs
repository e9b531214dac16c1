//! `univi synth`: a model of random weights, as large as a real one, for trying out what needs no
//! sense.

use std::collections::HashSet;

use clap::Args;
use half::f16;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use univi::config::{LlamaConfig, VisionConfig};
use univi::gguf::{GgmlType, Metadata, QuantizationPlan};
use univi::manifest::{Manifest, Role};
use univi::model::{ExpectedTensor, llama_tensors, vision_tensors};
use univi::prompt::{TEMPLATE_KEY, WRAPS_VISUALS_KEY};
use univi::{Error, Result};
use univi_convert::TensorSpec;

use crate::convert::print_summary;
use crate::model_folder::{ModelFolder, OutArgs, Sink};
use crate::progress::{Progress, Unit};
use crate::values::quantization_plan;

/// Make a model of random weights, as large as a real one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi synth --preset 7b --quant q4_0 --out models/random-7b
  univi synth --preset tiny --quant f16 --seed 3 --out models/random-tiny

Exit codes: 0 made, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct SynthArgs {
    /// How large: tiny, 7b, 7b-v1.5 or 13b.
    #[arg(long, value_name = "NAME", value_parser = preset)]
    pub preset: Preset,
    /// How the language model is stored; the types are those of `univi convert`.
    #[arg(long, value_name = "TYPE", default_value = "q4_0", value_parser = quantization_plan)]
    pub quant: QuantizationPlan,
    /// Where chance starts: the same seed makes the same files.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub out: OutArgs,
}

fn preset(text: &str) -> Result<Preset, String> {
    Preset::parse(text).map_err(|e| e.to_string())
}

/// The sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// A few million parameters that see 28 x 28 pixels: quick on anything.
    Tiny,
    /// Chat-UniVi 7B: LLaMA 7B and CLIP ViT-L/14 at 224 pixels.
    B7,
    /// Chat-UniVi 7B v1.5: the same at 336 pixels and twice the context.
    B7At336,
    /// Chat-UniVi 13B.
    B13,
}

/// Sizes of the two sides.
struct Sizes {
    layers: u32,
    width: u32,
    heads: u32,
    ffn: u32,
    context: u32,
    tokens: usize,
    image_px: u32,
    clip_layers: u32,
    clip_width: u32,
    clip_heads: u32,
    clip_ffn: u32,
}

impl Preset {
    /// Every preset with its name.
    pub const ALL: [(&'static str, Preset); 4] = [
        ("tiny", Preset::Tiny),
        ("7b", Preset::B7),
        ("7b-v1.5", Preset::B7At336),
        ("13b", Preset::B13),
    ];

    /// The preset of this name.
    ///
    /// # Errors
    /// `BadRequest` that lists the names.
    pub fn parse(name: &str) -> Result<Preset> {
        let found = Preset::ALL
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found
            .map(|(_, preset)| preset)
            .ok_or_else(|| Error::BadRequest {
                reason: format!(
                    "unknown preset {name:?}; there are {}",
                    Preset::ALL.map(|(name, _)| name).join(", ")
                ),
            })
    }

    fn name(self) -> &'static str {
        Preset::ALL
            .iter()
            .find(|(_, preset)| *preset == self)
            .map_or("", |(name, _)| name)
    }

    fn sizes(self) -> Sizes {
        let b7 = Sizes {
            layers: 32,
            width: 4096,
            heads: 32,
            ffn: 11008,
            context: 2048,
            tokens: 32000,
            image_px: 224,
            clip_layers: 24,
            clip_width: 1024,
            clip_heads: 16,
            clip_ffn: 4096,
        };
        match self {
            Preset::B7 => b7,
            Preset::B7At336 => Sizes {
                image_px: 336,
                context: 4096,
                ..b7
            },
            Preset::B13 => Sizes {
                layers: 40,
                width: 5120,
                heads: 40,
                ffn: 13824,
                ..b7
            },
            Preset::Tiny => Sizes {
                layers: 2,
                width: 256,
                heads: 4,
                ffn: 512,
                context: 1024,
                tokens: 512,
                image_px: 112,
                clip_layers: 3,
                clip_width: 64,
                clip_heads: 4,
                clip_ffn: 128,
            },
        }
    }
}

/// Writes a model of random weights and says where it is.
///
/// # Errors
/// `BadRequest` where the folder is taken or nothing can be stored like that; `Io`.
pub fn run(args: SynthArgs) -> Result<()> {
    let sizes = args.preset.sizes();
    let name = format!("random-{}", args.preset.name());
    let llm_metadata = llm_metadata(&sizes, &args, &name);
    let vision_metadata = vision_metadata(&sizes, &name);
    let llm_wanted = llama_tensors(&LlamaConfig::from_metadata(&llm_metadata)?);
    let llm_wanted: Vec<ExpectedTensor> = llm_wanted
        .into_iter()
        .filter(|t| t.name != "rope_freqs.weight")
        .collect();
    let vision_wanted = vision_tensors(&VisionConfig::from_metadata(&vision_metadata)?);
    let shapes = |wanted: &[ExpectedTensor]| -> Vec<(String, Vec<usize>)> {
        wanted
            .iter()
            .map(|t| (t.name.clone(), t.shape.clone()))
            .collect()
    };
    let (llm_shapes, vision_shapes) = (shapes(&llm_wanted), shapes(&vision_wanted));
    let llm_specs = specs(&llm_shapes, |shapes| args.quant.llm_types(shapes, 1));
    let vision_specs = specs(&vision_shapes, |shapes| {
        QuantizationPlan::F16.vision_types(shapes)
    });

    let total = llm_specs
        .iter()
        .chain(&vision_specs)
        .map(TensorSpec::bytes)
        .sum::<Result<u64>>()?;
    let parameters = |specs: &[TensorSpec]| {
        specs
            .iter()
            .map(|t| t.shape.iter().product::<usize>() as u64)
            .sum::<u64>()
    };
    let mut progress = Progress::new("making random weights", Unit::Bytes, total);
    let mut folder = ModelFolder::create(&args.out.out, args.out.force, total)?;
    let mut generator = Generator::new(args.seed);
    let mut data = |i: usize, sink: Sink<'_>| {
        generator.tensor(&llm_specs[i], sizes.layers, sink, &mut progress)
    };
    let stem = format!("{name}-{}", args.quant.name());
    folder.add_gguf(
        Role::Llm,
        &stem,
        &llm_metadata,
        &llm_specs,
        Some(args.out.shard_size),
        &mut data,
    )?;
    let mut data = |i: usize, sink: Sink<'_>| {
        generator.tensor(&vision_specs[i], sizes.clip_layers, sink, &mut progress)
    };
    folder.add_gguf(
        Role::Vision,
        &format!("{name}-vision-f16"),
        &vision_metadata,
        &vision_specs,
        None,
        &mut data,
    )?;
    let kv_numbers = LlamaConfig::from_metadata(&llm_metadata)?.kv_numbers();
    let manifest = folder.finish(|entries| {
        let mut manifest = Manifest::new(name, entries);
        manifest.quantization = Some(args.quant.name().into());
        manifest.parameters = Some(parameters(&llm_specs) + parameters(&vision_specs));
        manifest.context_length = Some(sizes.context.into());
        manifest.kv_numbers = Some(kv_numbers);
        manifest.image_px = Some(sizes.image_px.into());
        Ok(manifest)
    })?;
    drop(progress);
    print_summary(&manifest, &args.out.out);
    Ok(())
}

fn specs(
    shapes: &[(String, Vec<usize>)],
    types: impl FnOnce(&[(&str, &[usize])]) -> Vec<GgmlType>,
) -> Vec<TensorSpec> {
    let borrowed: Vec<(&str, &[usize])> = shapes
        .iter()
        .map(|(name, shape)| (&**name, &**shape))
        .collect();
    let types = types(&borrowed);
    shapes
        .iter()
        .zip(types)
        .map(|((name, shape), ty)| TensorSpec {
            name: name.clone(),
            ty,
            shape: shape.clone(),
        })
        .collect()
}

fn llm_metadata(sizes: &Sizes, args: &SynthArgs, name: &str) -> Metadata {
    let mut m = Metadata::new();
    m.insert("general.architecture", "llama");
    m.insert("general.name", name);
    m.insert("general.file_type", args.quant.file_type());
    m.insert("general.quantization_version", 2u32);
    m.insert("llama.vocab_size", sizes.tokens as u32);
    m.insert("llama.context_length", sizes.context);
    m.insert("llama.embedding_length", sizes.width);
    m.insert("llama.block_count", sizes.layers);
    m.insert("llama.feed_forward_length", sizes.ffn);
    m.insert("llama.attention.head_count", sizes.heads);
    m.insert("llama.attention.head_count_kv", sizes.heads);
    m.insert("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    m.insert("llama.rope.dimension_count", sizes.width / sizes.heads);
    m.insert("llama.rope.freq_base", 10000f32);
    m.insert(TEMPLATE_KEY, "simple");
    m.insert(WRAPS_VISUALS_KEY, false);
    let entries = vocabulary(sizes.tokens, &mut ChaCha8Rng::seed_from_u64(args.seed));
    m.insert("tokenizer.ggml.model", "llama");
    m.insert("tokenizer.ggml.pre", "default");
    m.insert(
        "tokenizer.ggml.tokens",
        entries
            .iter()
            .map(|p| p.text.clone())
            .collect::<Vec<String>>(),
    );
    m.insert(
        "tokenizer.ggml.scores",
        entries.iter().map(|p| p.score).collect::<Vec<f32>>(),
    );
    m.insert(
        "tokenizer.ggml.token_type",
        entries.iter().map(|p| p.kind).collect::<Vec<i32>>(),
    );
    m.insert("tokenizer.ggml.bos_token_id", 1u32);
    m.insert("tokenizer.ggml.eos_token_id", 2u32);
    m.insert("tokenizer.ggml.unknown_token_id", 0u32);
    m.insert("tokenizer.ggml.add_bos_token", true);
    m.insert("tokenizer.ggml.add_eos_token", false);
    m
}

fn vision_metadata(sizes: &Sizes, name: &str) -> Metadata {
    let mut m = Metadata::new();
    m.insert("general.architecture", "clip");
    m.insert("general.name", name);
    m.insert("general.file_type", QuantizationPlan::F16.file_type());
    m.insert("clip.has_vision_encoder", true);
    m.insert("clip.use_gelu", false);
    m.insert("clip.projector_type", "linear");
    m.insert("clip.vision.image_size", sizes.image_px);
    m.insert("clip.vision.patch_size", 14u32);
    m.insert("clip.vision.embedding_length", sizes.clip_width);
    m.insert("clip.vision.feed_forward_length", sizes.clip_ffn);
    m.insert("clip.vision.block_count", sizes.clip_layers);
    m.insert("clip.vision.attention.head_count", sizes.clip_heads);
    m.insert("clip.vision.attention.layer_norm_epsilon", 1e-5f32);
    m.insert(
        "clip.vision.image_mean",
        vec![0.481_454_66f32, 0.457_827_5, 0.408_210_73],
    );
    m.insert(
        "clip.vision.image_std",
        vec![0.268_629_54f32, 0.261_302_6, 0.275_777_1],
    );
    m.insert("clip.vision.projection_dim", sizes.width);
    m.insert("clip.vision.feature_layer", -2i32);
    m.insert("univi.use_cluster", true);
    m.insert("univi.spatial_cluster_rate", vec![64f32, 32., 16.]);
    m.insert("univi.spatial_cluster_k", vec![5i32, 3, 3]);
    m.insert("univi.temporal_cluster_rate", 0.0625f32);
    m.insert("univi.temporal_cluster_k", 5u32);
    m.insert("univi.temporal_position", "none");
    m.insert("univi.frame_rate", 1f32);
    m.insert("univi.max_frames", 64u32);
    m
}

/// An entry of the vocabulary, with GGUF's number for its kind.
struct VocabularyEntry {
    text: String,
    score: f32,
    kind: i32,
}

/// A vocabulary in the manner of SentencePiece: special tokens, all bytes, all printable ASCII, and
/// random words of which each is two shorter pieces, so that merging can reach it.
fn vocabulary(tokens: usize, random: &mut impl Rng) -> Vec<VocabularyEntry> {
    const LONGEST: usize = 12;
    let entry = |text: String, kind| VocabularyEntry {
        text,
        score: 0.,
        kind,
    };
    let mut entries = vec![
        entry("<unk>".into(), 2),
        entry("<s>".into(), 3),
        entry("</s>".into(), 3),
    ];
    entries.extend((0..256).map(|byte| entry(format!("<0x{byte:02X}>"), 6)));
    let letters: Vec<String> = std::iter::once('\u{2581}')
        .chain('!'..='~')
        .map(String::from)
        .collect();
    // Words are made of these; punctuation stays alone.
    let word = |text: &String| {
        text.chars()
            .all(|c| c == '\u{2581}' || c.is_ascii_lowercase())
    };
    let mut parts: Vec<String> = letters.iter().filter(|text| word(text)).cloned().collect();
    let mut known: HashSet<String> = letters.iter().cloned().collect();
    let merged = tokens.saturating_sub(entries.len() + letters.len());
    let mut score = 0.;
    for _ in 0..merged {
        let text = loop {
            let (Some(a), Some(b)) = (parts.choose(random), parts.choose(random)) else {
                return entries;
            };
            // A space begins a word, or stands alone.
            let text = format!("{a}{b}");
            if !b.starts_with('\u{2581}')
                && text.chars().count() <= LONGEST
                && known.insert(text.clone())
            {
                break text;
            }
        };
        parts.push(text.clone());
        entries.push(VocabularyEntry {
            text,
            score,
            kind: 1,
        });
        score -= 1.;
    }
    for text in letters {
        entries.push(VocabularyEntry {
            text,
            score,
            kind: 1,
        });
        score -= 1.;
    }
    entries
}

/// Random weights of a size that keeps activations near 1.
struct Generator {
    random: ChaCha8Rng,
}

/// Bytes that are made at a time.
const CHUNK_BYTES: usize = 4 << 20;

impl Generator {
    fn new(seed: u64) -> Generator {
        Generator {
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    fn tensor(
        &mut self,
        spec: &TensorSpec,
        layers: u32,
        sink: Sink<'_>,
        progress: &mut Progress,
    ) -> Result<()> {
        let cols: usize = spec.shape[1..].iter().product();
        // What goes into the residual stream adds up over the layers.
        let into_residual = [".attn_output.", ".ffn_down.", ".attn_out."]
            .iter()
            .any(|part| spec.name.contains(part));
        let share = if into_residual {
            (2. * layers as f32).sqrt().recip()
        } else {
            1.
        };
        let spread = match &*spec.name {
            name if name.ends_with("embd.weight") && !name.contains("patch") => 1.,
            _ if spec.shape.len() == 1 => 0.1,
            _ => share / (cols as f32).sqrt(),
        };
        let center = if spec.name.contains("norm.weight")
            || spec.name.contains("ln1.weight")
            || spec.name.contains("ln2.weight")
            || spec.name.contains("pre_ln.weight")
        {
            1.
        } else {
            0.
        };
        let mut left = spec.bytes()? as usize;
        let template = Blocks::new(spec.ty, center, spread);
        let mut chunk = vec![0; CHUNK_BYTES / template.size * template.size];
        while left > 0 {
            let n = left.min(chunk.len());
            template.fill(&mut chunk[..n], &mut self.random);
            sink(&chunk[..n])?;
            progress.advance(n as u64);
            left -= n;
        }
        Ok(())
    }
}

/// How to make random blocks of a type with numbers of a given mean and spread.
struct Blocks {
    ty: GgmlType,
    size: usize,
    center: f32,
    spread: f32,
    /// Bytes of each block that are not random: its scales.
    fixed: Vec<(usize, [u8; 2])>,
}

impl Blocks {
    fn new(ty: GgmlType, center: f32, spread: f32) -> Blocks {
        // Where the scale stands, and where the minimum does with the sign and share of the scale
        // that puts the mean at 0.
        let (scale, minimum): (usize, Option<(usize, f32)>) = match ty {
            GgmlType::Q4_1 => (0, Some((2, -7.5))),
            GgmlType::Q5_1 => (0, Some((2, -15.5))),
            GgmlType::Q2K => (80, Some((82, 1.5))),
            GgmlType::Q3K => (108, None),
            GgmlType::Q4K => (0, Some((2, 7.5))),
            GgmlType::Q5K => (0, Some((2, 15.5))),
            GgmlType::Q6K => (208, None),
            _ => (0, None),
        };
        let mut blocks = Blocks {
            ty,
            size: ty.block_bytes(),
            center,
            spread,
            fixed: Vec::new(),
        };
        if ty.is_quantized() {
            let scales = |d: f32| {
                let half = |x: f32| f16::from_f32(x).to_le_bytes();
                let minimum = minimum.map(|(at, share)| (at, half(d * share)));
                std::iter::once((scale, half(d)))
                    .chain(minimum)
                    .collect::<Vec<_>>()
            };
            // With a scale of 1 the bytes alone have some spread; measured, it tells the scale that
            // is wanted.
            blocks.fixed = scales(1.);
            let mut sample = vec![0; 256 * blocks.size];
            blocks.fill(&mut sample, &mut ChaCha8Rng::seed_from_u64(0));
            let mut values = vec![0.; 256 * ty.block_len()];
            ty.dequantize(&sample, &mut values);
            let rms =
                (values.iter().map(|x| f64::from(x * x)).sum::<f64>() / values.len() as f64).sqrt();
            blocks.fixed = scales(spread / rms as f32);
        }
        blocks
    }

    fn fill(&self, out: &mut [u8], random: &mut ChaCha8Rng) {
        if self.ty.is_quantized() {
            random.fill_bytes(out);
            for block in out.chunks_exact_mut(self.size) {
                for (at, bytes) in &self.fixed {
                    block[*at..*at + 2].copy_from_slice(bytes);
                }
            }
            return;
        }
        // A uniform distribution of this spread.
        let half_width = self.spread * 3f32.sqrt();
        for block in out.chunks_exact_mut(self.size) {
            let x = self.center + half_width * (2. * random.random::<f32>() - 1.);
            match self.ty {
                GgmlType::F32 => block.copy_from_slice(&x.to_le_bytes()),
                GgmlType::F16 => block.copy_from_slice(&f16::from_f32(x).to_le_bytes()),
                _ => block.copy_from_slice(&half::bf16::from_f32(x).to_le_bytes()),
            }
        }
    }
}
