//! Models of random shapes: what a configuration allows computes the same on the GPU as on the CPU,
//! and what a backend can't run is refused before it is asked.

use pollster::block_on;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use univi::{
    Backend, Cpu, Result,
    backend::KvType,
    config::{LlamaConfig, VisionConfig},
    gguf::{GgmlType, Metadata},
    image::Rgb8,
    model::{ExpectedTensor, Llama, Vision, Weights, llama_tensors, vision_tensors},
};
use univi_tests::gpu;

const CASES: u64 = 40;

/// Relative to the largest number of a result; the largest that was measured is a tenth of it.
const TOLERANCE: f32 = 2e-3;
/// The same where keys and values are rounded to bytes: a difference of rounding before it may
/// become one of these steps.
const Q8_TOLERANCE: f32 = 3e-2;

/// A tensor as a file would hold it.
struct Stored {
    requirement: ExpectedTensor,
    ty: GgmlType,
    bytes: Vec<u8>,
}

/// Random weights of a spread that keeps activations near 1, in types that fit their rows.
fn random_weights(random: &mut ChaCha8Rng, requirements: Vec<ExpectedTensor>) -> Vec<Stored> {
    let mut stored = Vec::new();
    for requirement in requirements {
        if requirement.name == "rope_freqs.weight" {
            continue;
        }
        let is_vector = requirement.shape.len() == 1;
        let cols: usize = requirement.shape[1..].iter().product();
        let ty = match random.random_range(0..4) {
            0 if !is_vector && cols.is_multiple_of(32) => GgmlType::Q8_0,
            1 if !is_vector => GgmlType::F16,
            _ => GgmlType::F32,
        };
        let center = if is_vector && requirement.name.ends_with("weight") {
            1.
        } else {
            0.
        };
        let spread = if is_vector {
            0.1
        } else {
            (cols as f32).sqrt().recip()
        };
        let count: usize = requirement.shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|_| center + 1.7 * spread * random.random_range(-1f32..1.))
            .collect();
        let bytes = univi_convert::quantize(ty, &values).unwrap();
        stored.push(Stored {
            requirement,
            ty,
            bytes,
        });
    }
    stored
}

fn load<B: Backend>(backend: &B, stored: &[Stored]) -> Weights<B> {
    let requirements = stored.iter().map(|tensor| tensor.requirement.clone());
    let mut weights = Weights::new(backend.clone(), requirements.collect());
    for tensor in stored {
        let (name, shape) = (&tensor.requirement.name, &tensor.requirement.shape);
        assert!(weights.begin(name, tensor.ty, shape).unwrap());
        weights.write(name, 0, &tensor.bytes);
    }
    weights
}

#[track_caller]
fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= tolerance * scale,
            "{what}: {got} at {i}, expected {expected}; the largest is {scale}"
        );
    }
}

/// Keys of a small LLaMA, of which some may be more than a backend can do.
fn llama_metadata(random: &mut ChaCha8Rng) -> Metadata {
    let kv_heads = random.random_range(1..=3u32);
    let heads = kv_heads * random.random_range(1..=3);
    let head_dim = match random.random_range(0..4) {
        0 => random.random_range(1..=40u32),
        1 => 4 * random.random_range(33..=50),
        _ => 4 * random.random_range(1..=16),
    };
    let mut m = Metadata::new();
    m.insert("general.architecture", "llama");
    m.insert("llama.vocab_size", random.random_range(1..=400u32));
    m.insert("llama.context_length", 200u32);
    m.insert("llama.embedding_length", random.random_range(1..=130u32));
    m.insert("llama.block_count", random.random_range(1..=2u32));
    m.insert("llama.feed_forward_length", random.random_range(1..=150u32));
    m.insert("llama.attention.head_count", heads);
    m.insert("llama.attention.head_count_kv", kv_heads);
    m.insert("llama.attention.key_length", head_dim);
    m.insert("llama.attention.value_length", head_dim);
    m.insert("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    m
}

/// Logits of a prompt, of a few tokens and of single ones behind it.
fn logits<B: Backend>(
    b: &B,
    config: &LlamaConfig,
    stored: &[Stored],
    kv: KvType,
    ids: &[u32],
) -> Result<Vec<f32>> {
    let llama = Llama::new(&mut load(b, stored), config, config.context, kv)?;
    let mut caches = llama.caches();
    block_on(llama.reserve(&mut caches, ids.len()))?;
    let mut all = Vec::new();
    let (prompt, rest) = ids.split_at(ids.len() - 6);
    for (pos, ids) in [
        (0, prompt),
        (prompt.len(), &rest[..4]),
        (prompt.len() + 4, &rest[4..5]),
        (prompt.len() + 5, &rest[5..]),
    ] {
        let hidden = llama.forward(&llama.embed(&b.ids(ids)), &mut caches, pos);
        all.extend(block_on(b.read(&llama.logits(&hidden)))?);
    }
    Ok(all)
}

#[test]
fn language_models_of_any_shape() {
    let gpu = gpu();
    let (mut ran, mut refused) = (0, 0);
    for seed in 0..CASES {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let metadata = llama_metadata(&mut random);
        let config = match LlamaConfig::from_metadata(&metadata) {
            Ok(config) => config,
            Err(error) => {
                assert_eq!(error.code(), "bad-metadata", "{seed}: {error}");
                refused += 1;
                continue;
            }
        };
        let stored = random_weights(&mut random, llama_tensors(&config));
        let count = random.random_range(7..=90);
        let ids: Vec<u32> = (0..count)
            .map(|_| random.random_range(0..config.vocabulary as u32))
            .collect();
        let (kv, tolerance) = match seed % 3 {
            0 => (KvType::Q8, Q8_TOLERANCE),
            _ => (KvType::F32, TOLERANCE),
        };
        let what = format!("seed {seed}, {config:?}, cache {kv:?}");
        let of_cpu = logits(&Cpu, &config, &stored, kv, &ids).unwrap();
        let of_gpu = logits(&gpu, &config, &stored, kv, &ids).unwrap();
        assert_close(&what, &of_gpu, &of_cpu, tolerance);
        ran += 1;
    }
    assert!(ran >= 20 && refused >= 3, "{ran} ran, {refused} refused");
}

/// Keys of a small vision side, of which some may be more than a backend can do.
fn vision_metadata(random: &mut ChaCha8Rng) -> Metadata {
    let heads = random.random_range(1..=4u32);
    let head_dim = match random.random_range(0..4) {
        0 => random.random_range(1..=20u32),
        _ => 4 * random.random_range(1..=12),
    };
    let width = heads * head_dim;
    let grid = random.random_range(1..=7u32);
    let patch = random.random_range(1..=9u32);
    let blocks = random.random_range(0..=2u32);
    let projector = ["linear", "identity", "mlp2x_gelu"][random.random_range(0..3usize)];
    let rate = |random: &mut ChaCha8Rng| match random.random_bool(0.5) {
        true => random.random_range(2..=40) as f32,
        false => random.random_range(1..=100) as f32 / 100.,
    };
    let k = |random: &mut ChaCha8Rng| random.random_range(1..=36i32);
    let projected = match projector {
        "identity" => width,
        _ => random.random_range(1..=70),
    };
    let mut m = Metadata::new();
    m.insert("general.architecture", "clip");
    m.insert("clip.use_gelu", random.random_bool(0.5));
    m.insert("clip.projector_type", projector);
    m.insert("clip.vision.image_size", grid * patch);
    m.insert("clip.vision.patch_size", patch);
    m.insert("clip.vision.embedding_length", width);
    m.insert(
        "clip.vision.feed_forward_length",
        random.random_range(1..=90u32),
    );
    m.insert("clip.vision.block_count", blocks.max(1));
    m.insert("clip.vision.attention.head_count", heads);
    m.insert("clip.vision.attention.layer_norm_epsilon", 1e-5f32);
    m.insert("clip.vision.image_mean", vec![0.5f32, 0.4, 0.3]);
    m.insert("clip.vision.image_std", vec![0.2f32, 0.3, 0.4]);
    m.insert("clip.vision.projection_dim", projected);
    m.insert("clip.vision.feature_layer", blocks as i32);
    m.insert("univi.use_cluster", random.random_bool(0.8));
    let rates: Vec<f32> = (0..3).map(|_| rate(random)).collect();
    m.insert("univi.spatial_cluster_rate", rates);
    let ks: Vec<i32> = (0..3).map(|_| k(random)).collect();
    m.insert("univi.spatial_cluster_k", ks);
    m.insert("univi.temporal_cluster_rate", rate(random));
    m.insert("univi.temporal_cluster_k", k(random) as u32);
    m.insert(
        "univi.temporal_position",
        ["none", "sinusoidal"][random.random_range(0..2usize)],
    );
    m.insert("univi.frame_rate", 1f32);
    m.insert("univi.max_frames", 64u32);
    m
}

/// Features of frames, then the tokens of one and of all of them, and which patches they are of.
type Seen = (Vec<f32>, Vec<f32>, Vec<Vec<u32>>);

fn seen<B: Backend>(
    b: &B,
    config: &VisionConfig,
    stored: &[Stored],
    frames: &[Rgb8],
) -> Result<Seen> {
    let vision = Vision::new(&mut load(b, stored), config)?;
    let all = || frames.iter().cloned().map(Ok);
    let features = block_on(vision.features(all()))?;
    let features = block_on(b.read(&features))?;
    let (mut tokens, mut groups) = (Vec::new(), Vec::new());
    for visual in [
        block_on(vision.image(&frames[0]))?,
        block_on(vision.video(all()))?,
    ] {
        tokens.extend(block_on(b.read(visual.embeds()))?);
        for event in block_on(visual.events())? {
            groups.push(event.frames.iter().map(|&frame| frame as u32).collect());
            groups.extend(event.stages.into_iter().map(|stage| stage.groups));
        }
    }
    Ok((features, tokens, groups))
}

#[test]
fn vision_sides_of_any_shape() {
    let gpu = gpu();
    let (mut ran, mut alike, mut refused) = (0, 0, 0);
    for seed in 0..2 * CASES {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let metadata = vision_metadata(&mut random);
        let config = match VisionConfig::from_metadata(&metadata) {
            Ok(config) => config,
            Err(error) => {
                assert_eq!(error.code(), "bad-metadata", "{seed}: {error}");
                refused += 1;
                continue;
            }
        };
        let stored = random_weights(&mut random, vision_tensors(&config));
        let side = config.clip.image_px + random.random_range(0..9usize);
        let frames: Vec<Rgb8> = (0..random.random_range(1..=5))
            .map(|_| {
                let pixels = (0..side * side * 3).map(|_| random.random()).collect();
                Rgb8::new(side, side, pixels).unwrap()
            })
            .collect();
        let what = format!("seed {seed}, {} frames, {config:?}", frames.len());
        let of_cpu = seen(&Cpu, &config, &stored, &frames).unwrap();
        let of_gpu = seen(&gpu, &config, &stored, &frames).unwrap();
        assert_close(&what, &of_gpu.0, &of_cpu.0, TOLERANCE);
        assert_eq!(of_gpu.1.len(), of_cpu.1.len(), "{what}");
        assert!(of_gpu.1.iter().all(|x| x.is_finite()), "{what}");
        // Scores that are nearly equal may change places with another order of additions.
        if of_gpu.2 == of_cpu.2 {
            assert_close(&what, &of_gpu.1, &of_cpu.1, TOLERANCE);
            alike += 1;
        }
        ran += 1;
    }
    assert!(ran >= 25 && refused >= 10, "{ran} ran, {refused} refused");
    assert!(4 * alike >= 3 * ran, "{alike} of {ran} grouped alike");
}

/// The limit itself still runs: the most neighbours, a head of each smallest size.
#[test]
fn the_largest_neighbourhoods_run() {
    let gpu = gpu();
    let mut random = ChaCha8Rng::seed_from_u64(99);
    let mut metadata = vision_metadata(&mut random);
    for (key, value) in [
        ("clip.vision.embedding_length", 8u32),
        ("clip.vision.attention.head_count", 2),
    ] {
        metadata.insert(key, value);
    }
    metadata.insert("clip.projector_type", "linear");
    metadata.insert("clip.vision.image_size", 12u32);
    metadata.insert("clip.vision.patch_size", 2u32);
    metadata.insert("univi.use_cluster", true);
    metadata.insert("univi.spatial_cluster_rate", vec![34f32, 33., 33.]);
    metadata.insert("univi.spatial_cluster_k", vec![32i32; 3]);
    metadata.insert("univi.temporal_cluster_k", 32u32);
    let config = VisionConfig::from_metadata(&metadata).unwrap();
    let stored = random_weights(&mut random, vision_tensors(&config));
    let pixels = (0..12 * 12 * 3).map(|_| random.random()).collect();
    let frame = Rgb8::new(12, 12, pixels).unwrap();
    let of_cpu = seen(&Cpu, &config, &stored, std::slice::from_ref(&frame)).unwrap();
    let of_gpu = seen(&gpu, &config, &stored, &[frame]).unwrap();
    assert_close("features", &of_gpu.0, &of_cpu.0, TOLERANCE);
    assert_eq!(of_gpu.1.len(), of_cpu.1.len());
}
