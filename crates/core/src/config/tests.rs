use super::*;
use crate::{
    backend::Activation,
    gguf::{Metadata, Value},
};

/// The keys of `openai/clip-vit-large-patch14` with Chat-UniVi's merging.
fn vision() -> Metadata {
    let entries: [(&str, Value); 21] = [
        ("general.architecture", "clip".into()),
        ("clip.use_gelu", false.into()),
        ("clip.projector_type", "linear".into()),
        ("clip.vision.image_size", 224u32.into()),
        ("clip.vision.patch_size", 14u32.into()),
        ("clip.vision.embedding_length", 1024u32.into()),
        ("clip.vision.feed_forward_length", 4096u32.into()),
        ("clip.vision.block_count", 24u32.into()),
        ("clip.vision.attention.head_count", 16u32.into()),
        ("clip.vision.attention.layer_norm_epsilon", 1e-5f32.into()),
        ("clip.vision.image_mean", vec![0.5f32, 0.4, 0.3].into()),
        ("clip.vision.image_std", vec![0.2f32, 0.3, 0.4].into()),
        ("clip.vision.projection_dim", 4096u32.into()),
        ("clip.vision.feature_layer", (-2i32).into()),
        ("univi.use_cluster", true.into()),
        ("univi.spatial_cluster_rate", vec![64f32, 32., 16.].into()),
        ("univi.spatial_cluster_k", vec![5i32, 3, 3].into()),
        ("univi.temporal_cluster_rate", 0.0625f32.into()),
        ("univi.temporal_cluster_k", 5u32.into()),
        ("univi.frame_rate", 1f32.into()),
        ("univi.max_frames", 64u32.into()),
    ];
    entries.into_iter().collect()
}

#[test]
fn reads_the_published_model() {
    let config = VisionConfig::from_metadata(&vision()).unwrap();
    assert_eq!((config.clip.patches(), config.clip.blocks), (256, 23));
    assert_eq!(config.clip.activation, Activation::QuickGelu);
    assert_eq!(config.projector, ProjectorConfig::Mlp { layers: 1 });
    assert_eq!(config.image_tokens(), 112);
    let clips = [1, 16, 17, 64].map(|frames| config.video_tokens(frames));
    assert_eq!(clips, [112, 112, 2 * 112, 4 * 112]);
    assert_eq!(config.merge.temporal_position, TemporalPosition::None);
}

#[test]
fn reads_other_models() {
    let with = |key: &str, value: Value| {
        let mut metadata = vision();
        metadata.insert(key, value);
        VisionConfig::from_metadata(&metadata).unwrap()
    };
    let larger = with("clip.vision.image_size", 336u32.into());
    assert_eq!((larger.clip.patches(), larger.image_tokens()), (576, 112));
    let whole = with("univi.use_cluster", false.into());
    assert_eq!((whole.image_tokens(), whole.video_tokens(8)), (256, 264));
    let few = with(
        "univi.spatial_cluster_rate",
        vec![0.25f32, 0.5, 300.].into(),
    );
    assert_eq!(few.image_tokens(), 64 + 32 + 32);
    let layers = |kind: &str| with("clip.projector_type", kind.into()).projector;
    assert_eq!(layers("mlp2x_gelu"), ProjectorConfig::Mlp { layers: 2 });
    let blocks = |layer: i32| with("clip.vision.feature_layer", layer.into()).clip.blocks;
    assert_eq!([-1, -2, -25, 0, 3, 24].map(blocks), [24, 23, 0, 0, 3, 24]);
    let gelu = with("clip.use_gelu", true.into());
    assert_eq!(gelu.clip.activation, Activation::Gelu);
    let position = with("univi.temporal_position", "sinusoidal".into());
    assert_eq!(
        position.merge.temporal_position,
        TemporalPosition::Sinusoidal
    );
}

#[test]
fn refuses_what_can_not_be() {
    let wrong: [(&str, Value); 27] = [
        ("clip.use_silu", true.into()),
        ("general.architecture", "llama".into()),
        ("clip.projector_type", "identity".into()),
        ("clip.projector_type", "mlp0x_gelu".into()),
        ("clip.projector_type", "mlp999999999999x_gelu".into()),
        ("clip.projector_type", "resampler".into()),
        ("clip.vision.image_size", 0u32.into()),
        ("clip.vision.image_size", u32::MAX.into()),
        ("clip.vision.patch_size", 15u32.into()),
        ("clip.vision.patch_size", 1u32.into()),
        ("clip.vision.patch_size", 448u32.into()),
        ("clip.vision.attention.head_count", 17u32.into()),
        ("clip.vision.attention.layer_norm_epsilon", 2f32.into()),
        ("clip.vision.image_mean", vec![0f32, 0.].into()),
        (
            "clip.vision.image_mean",
            vec![0f32, 0., f32::INFINITY].into(),
        ),
        ("clip.vision.image_std", vec![1f32, 1., 0.].into()),
        ("clip.vision.feature_layer", (-26i32).into()),
        ("clip.vision.feature_layer", 25i32.into()),
        ("univi.spatial_cluster_rate", vec![64f32, 32.].into()),
        ("univi.spatial_cluster_rate", vec![64f32, 32., 0.].into()),
        (
            "univi.spatial_cluster_rate",
            vec![64f32, f32::NAN, 16.].into(),
        ),
        ("univi.spatial_cluster_rate", vec![1e9f32, 32., 16.].into()),
        ("univi.spatial_cluster_k", vec![5i32, -3, 3].into()),
        ("univi.temporal_cluster_k", 0u32.into()),
        ("univi.temporal_position", "learned".into()),
        ("univi.frame_rate", 0f32.into()),
        ("univi.max_frames", 0u32.into()),
    ];
    for (key, value) in wrong {
        let mut metadata = vision();
        metadata.insert(key, value.clone());
        let error = VisionConfig::from_metadata(&metadata).unwrap_err();
        assert_eq!(error.code(), "bad-metadata", "{key} = {value}: {error}");
    }
    for (key, _) in vision().iter().filter(|(key, _)| *key != "clip.use_gelu") {
        let without = vision()
            .iter()
            .filter(|(k, _)| *k != key)
            .map(|(k, v)| (k.to_string(), v.clone()))
            .collect();
        let error = VisionConfig::from_metadata(&without).unwrap_err();
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
}

#[test]
fn clusters_follow_the_reference() {
    let found = |rate, k, n| {
        let rate = ClusterRate::new(rate).unwrap();
        ClusterConfig { rate, k }.clusters_and_k(n)
    };
    // A share that f32 holds a little too large still means what was written.
    assert_eq!(found(0.1, 5, 10), (1, 1));
    assert_eq!(found(0.0625, 5, 48), (3, 1));
    assert_eq!(found(0.0625, 5, 64), (4, 2));
    assert_eq!(found(0.0625, 5, 65), (5, 5));
    assert_eq!(found(1., 5, 10), (10, 5));
    assert_eq!(found(63.5, 5, 256), (64, 5));
    assert_eq!(found(64., 5, 7), (7, 5));
    assert_eq!(found(64., 5, 1), (1, 1));
}

#[test]
fn positions_turn_as_they_are_scaled() {
    let rope = RopeConfig {
        rotary: 4,
        theta: 100.,
        scale: 1.,
    };
    let row = |rope: &RopeConfig, factors, position: usize| {
        rope.table(position + 1, factors)[position * 4..].to_vec()
    };
    let angle = |angles: [f64; 2]| {
        let [a, b] = angles;
        [a.cos(), b.cos(), a.sin(), b.sin()]
            .map(|x| x as f32)
            .to_vec()
    };
    assert_eq!(row(&rope, None, 0), [1., 1., 0., 0.]);
    assert_eq!(row(&rope, None, 6), angle([6., 0.6]));
    assert_eq!(row(&rope, Some(&[1., 3.]), 6), angle([6., 0.1 / 3. * 6.]));
    let scaled = RopeConfig { scale: 4., ..rope };
    assert_eq!(row(&scaled, None, 6), angle([6. * 0.25, 6. * (0.1 / 4.)]));
}

/// The keys of a small LLaMA.
fn llama() -> Metadata {
    let entries: [(&str, Value); 9] = [
        ("general.architecture", "llama".into()),
        ("llama.vocab_size", 100u32.into()),
        ("llama.context_length", 2048u32.into()),
        ("llama.embedding_length", 64u32.into()),
        ("llama.block_count", 2u32.into()),
        ("llama.feed_forward_length", 96u32.into()),
        ("llama.attention.head_count", 4u32.into()),
        ("llama.attention.layer_norm_rms_epsilon", 1e-5f32.into()),
        ("llama.rope.freq_base", 10000f32.into()),
    ];
    entries.into_iter().collect()
}

fn llama_with<const N: usize>(entries: [(&str, Value); N]) -> crate::Result<LlamaConfig> {
    let mut metadata = llama();
    for (key, value) in entries {
        metadata.insert(key, value);
    }
    LlamaConfig::from_metadata(&metadata)
}

#[test]
fn rotary_positions_scale_as_llama_cpp_scales_them() {
    let (kind, factor, older) = (
        "llama.rope.scaling.type",
        "llama.rope.scaling.factor",
        "llama.rope.scale_linear",
    );
    let scale = |config: crate::Result<LlamaConfig>| config.unwrap().rope.scale;
    assert_eq!(scale(llama_with([])), 1.);
    let both = [(kind, "linear".into()), (factor, 8f32.into())];
    assert_eq!(scale(llama_with(both)), 8.);
    assert_eq!(scale(llama_with([(factor, 8f32.into())])), 8.);
    assert_eq!(scale(llama_with([(older, 8f32.into())])), 8.);
    let newer_wins = [(factor, 4f32.into()), (older, 8f32.into())];
    assert_eq!(scale(llama_with(newer_wins)), 4.);
    let none = [(kind, "none".into()), (factor, 8f32.into())];
    assert_eq!(scale(llama_with(none)), 1.);
    assert_eq!(scale(llama_with([(factor, 0f32.into())])), 1.);
    let original = ("llama.rope.scaling.original_context_length", 512u32.into());
    assert_eq!(scale(llama_with([original])), 1.);

    for entries in [
        [(kind, Value::from("yarn")), (factor, 4f32.into())],
        [(kind, "longrope".into()), (factor, 4f32.into())],
        [(kind, "linear".into()), (factor, (-4f32).into())],
    ] {
        let error = llama_with(entries).unwrap_err().to_string();
        assert!(error.contains("llama.rope.scaling."), "{error}");
    }
    let error = llama_with([(kind, "linear".into())]).unwrap_err();
    assert!(error.to_string().contains(factor), "{error}");
}

/// A model with a sliding window computes what others do as long as the window holds everything.
#[test]
fn a_sliding_window_bounds_the_context() {
    let context = |window: u32| {
        let window = ("llama.attention.sliding_window", window.into());
        llama_with([window]).unwrap().context
    };
    assert_eq!([0, 512, 4096].map(context), [2048, 512, 2048]);
}

#[test]
fn keys_that_change_the_computation_are_refused() {
    let changing: [(&str, Value); 24] = [
        ("logit_scale", 0.0625f32.into()),
        ("residual_scale", 0.22f32.into()),
        ("embedding_scale", 12f32.into()),
        ("attention.scale", 0.5f32.into()),
        ("attention.output_scale", 2f32.into()),
        ("attention.causal", false.into()),
        ("attention.max_alibi_bias", 8f32.into()),
        ("attention.clamp_kqv", 8f32.into()),
        ("attention.sliding_window_pattern", vec![true, false].into()),
        ("attention.temperature_scale", 0.1f32.into()),
        ("attn_logit_softcapping", 50f32.into()),
        ("final_logit_softcapping", 30f32.into()),
        ("expert_count", 8u32.into()),
        ("expert_used_count", 2u32.into()),
        ("use_parallel_residual", true.into()),
        ("interleave_moe_layer_step", 2u32.into()),
        ("rope.scaling.attn_factor", 1.2f32.into()),
        ("rope.scaling.yarn_ext_factor", 1f32.into()),
        ("rope.scaling.yarn_log_multiplier", 0.1f32.into()),
        ("rope.dimension_sections", vec![16i32, 24, 24, 0].into()),
        ("rope.freq_base_swa", 10000f32.into()),
        ("hidden_activation", "gelu".into()),
        ("n_deepstack_layers", 3u32.into()),
        ("not_invented_yet", 7u32.into()),
    ];
    for (name, value) in changing {
        let key = format!("llama.{name}");
        let error = llama_with([(&key, value.clone())]).unwrap_err();
        assert_eq!(error.code(), "bad-metadata", "{key} = {value}: {error}");
        assert!(error.to_string().contains(&key), "{key}: {error}");
    }

    let neutral: [(&str, Value); 18] = [
        ("logit_scale", 1f32.into()),
        ("embedding_scale", 0f32.into()),
        ("attention.scale", 0.25f32.into()),
        ("attention.causal", true.into()),
        ("attention.clamp_kqv", 0f32.into()),
        ("attention.layer_norm_epsilon", 1e-5f32.into()),
        ("attention.sliding_window", 0u32.into()),
        ("final_logit_softcapping", 0f32.into()),
        ("expert_count", 0u32.into()),
        ("expert_used_count", 0u32.into()),
        ("use_parallel_residual", false.into()),
        ("tensor_data_layout", "Meta AI original pth".into()),
        ("pooling_type", 0u32.into()),
        ("rope.scaling.finetuned", true.into()),
        ("rope.scaling.original_context_length", 2048u32.into()),
        ("rope.scaling.attn_factor", 1f32.into()),
        ("rope.dimension_sections", vec![0i32; 4].into()),
        ("hidden_activation", "silu".into()),
    ];
    let plain = llama_with([]).unwrap();
    for (name, value) in neutral {
        let key = format!("llama.{name}");
        let config = llama_with([(&key, value.clone())]);
        assert_eq!(config, Ok(plain.clone()), "{key} = {value}");
    }
}

#[test]
fn what_is_no_model_for_univi_is_named() {
    let adapter = llama_with([("general.type", "adapter".into())]).unwrap_err();
    assert!(adapter.to_string().contains("LoRA adapter"), "{adapter}");
    let without = |(key, _): &(&str, &Value)| !key.starts_with("univi.");
    let projector: Metadata = vision()
        .iter()
        .filter(without)
        .map(|(key, value)| (key.to_string(), value.clone()))
        .collect();
    let error = VisionConfig::from_metadata(&projector).unwrap_err();
    assert!(error.to_string().contains("mmproj"), "{error}");
}

/// Whatever one backend can't run, no backend is asked to.
#[test]
fn the_limits_of_kernels_are_checked() {
    let heads = |width: u32, heads: u32| {
        llama_with([
            ("llama.embedding_length", width.into()),
            ("llama.attention.head_count", heads.into()),
        ])
    };
    assert_eq!(heads(60, 5).unwrap().heads.head_dim, 12);
    for (width, count) in [(50, 5), (66, 3), (63, 3), (64, 32)] {
        let error = heads(width, count).unwrap_err().to_string();
        assert!(
            error.contains("multiple of 4"),
            "{width} / {count}: {error}"
        );
    }
    let length = |head_dim: u32| llama_with([("llama.attention.key_length", head_dim.into())]);
    assert!(length(20).is_ok() && length(18).is_err());

    for (key, value) in [
        ("clip.vision.attention.head_count", Value::from(512u32)),
        ("univi.spatial_cluster_k", vec![33i32, 3, 3].into()),
        ("univi.spatial_cluster_k", vec![5i32, 3, 33].into()),
        ("univi.temporal_cluster_k", 33u32.into()),
    ] {
        let mut metadata = vision();
        metadata.insert(key, value);
        let error = VisionConfig::from_metadata(&metadata).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
    }
    let mut metadata = vision();
    metadata.insert("univi.spatial_cluster_k", vec![32i32, 32, 32]);
    metadata.insert("univi.temporal_cluster_k", 32u32);
    VisionConfig::from_metadata(&metadata).unwrap();
}

#[test]
fn patches_are_pooled_in_equal_rectangles_nearly_square() {
    for (side, tokens, grid) in [
        (8, 64, [8, 8]),
        (8, 63, [4, 8]),
        (8, 42, [4, 8]),
        (8, 21, [4, 4]),
        (8, 14, [2, 4]),
        (8, 7, [2, 2]),
        (16, 112, [8, 8]),
        (6, 13, [2, 6]),
        (5, 3, [1, 1]),
    ] {
        assert_eq!(super::pooled_grid(side, tokens), grid, "{tokens} of {side}");
    }
}
