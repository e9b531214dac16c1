use std::collections::BTreeMap;

use univi::config::VisionConfig;

use super::super::{
    Checkpoint,
    tests::{LLAMA, checkpoint, llama_tensors},
};

type Folder = BTreeMap<String, Vec<u8>>;

/// Names and shapes.
type Tensors = Vec<(String, Vec<usize>)>;

/// A tower that is 8 wide, in patches of 14 pixels.
fn tower(prefix: &str, grid: usize, blocks: usize) -> Tensors {
    let mut tensors: Tensors = vec![
        ("embeddings.class_embedding".into(), vec![8]),
        (
            "embeddings.patch_embedding.weight".into(),
            vec![8, 3, 14, 14],
        ),
        (
            "embeddings.position_embedding.weight".into(),
            vec![grid * grid + 1, 8],
        ),
        ("pre_layrnorm.weight".into(), vec![8]),
        ("pre_layrnorm.bias".into(), vec![8]),
        ("post_layernorm.weight".into(), vec![8]),
        ("post_layernorm.bias".into(), vec![8]),
    ];
    for block in 0..blocks {
        for (name, shape) in [
            ("layer_norm1", &[8][..]),
            ("self_attn.q_proj", &[8, 8]),
            ("self_attn.k_proj", &[8, 8]),
            ("self_attn.v_proj", &[8, 8]),
            ("self_attn.out_proj", &[8, 8]),
            ("layer_norm2", &[8]),
            ("mlp.fc1", &[12, 8]),
            ("mlp.fc2", &[8, 12]),
        ] {
            let name = format!("encoder.layers.{block}.{name}");
            tensors.push((format!("{name}.weight"), shape.to_vec()));
            tensors.push((format!("{name}.bias"), shape[..1].to_vec()));
        }
    }
    for (name, _) in &mut tensors {
        name.insert_str(0, prefix);
    }
    tensors
}

/// A model with a projector, whose shards hold these tensors besides.
fn model(named: &str, more: Tensors) -> Folder {
    let config = LLAMA.replacen(
        '{',
        &format!(
            r#"{{"mm_hidden_size":8,"mm_vision_tower":{named:?},"mm_use_im_patch_token":false,"#
        ),
        1,
    );
    let language = llama_tensors().into_iter();
    let mut tensors: Tensors = language
        .map(|(name, shape)| (name.to_string(), shape.to_vec()))
        .collect();
    tensors.push(("model.mm_projector.weight".into(), vec![8, 8]));
    tensors.push(("model.mm_projector.bias".into(), vec![8]));
    tensors.extend(more);
    checkpoint(&config, &tensors)
}

/// The folder of a tower of `blocks` blocks, of which the first ones are `stored`.
fn folder_of(image_px: usize, heads: usize, blocks: usize, stored: Tensors) -> Folder {
    let config = format!(
        r#"{{"hidden_size":8,"intermediate_size":12,"num_hidden_layers":{blocks},
            "num_attention_heads":{heads},"image_size":{image_px},"patch_size":14}}"#
    );
    checkpoint(&config, &stored)
}

fn vision(model: &Folder, beside: Option<&Folder>) -> Result<VisionConfig, String> {
    let model = Checkpoint::open(model).unwrap();
    let beside = beside.map(|folder| Checkpoint::open(folder).unwrap());
    model.llm().map_err(|e| e.to_string())?;
    let part = model.vision(beside.as_ref()).map_err(|e| e.to_string())?;
    Ok(VisionConfig::from_metadata(&part.metadata).unwrap())
}

const PREFIXES: [&str; 4] = [
    "model.vision_tower.vision_tower.vision_model.",
    "model.vision_tower.vision_model.",
    "vision_tower.vision_model.",
    "vision_model.",
];

#[test]
fn weights_are_the_checkpoints_own_under_any_name() {
    let beside = folder_of(28, 2, 3, tower("vision_model.", 2, 3));
    let tower_folder = Checkpoint::open(&beside).unwrap();
    let outside = vision(&model("some/tower", Vec::new()), Some(&beside)).unwrap();
    for prefix in PREFIXES {
        let files = model("some/tower", tower(prefix, 2, 3));
        let inside = vision(&files, Some(&beside)).unwrap();
        assert_eq!(inside, outside, "{prefix}");
        assert_eq!((inside.clip.blocks, inside.clip.heads), (2, 2));
        let checkpoint = Checkpoint::open(&files).unwrap();
        assert!(checkpoint.has_tower());
        let part = checkpoint.vision(Some(&tower_folder)).unwrap();
        assert!(part.tensors.iter().all(|tensor| !tensor.is_beside));
        let encoder = part.tensors.iter().filter(|t| t.name.starts_with("v."));
        assert!(encoder.clone().count() > 20);
        assert!(encoder.clone().all(|t| t.source.starts_with(prefix)));
    }
}

#[test]
fn what_the_shards_lack_is_taken_from_the_folder() {
    let beside = folder_of(28, 2, 3, tower("vision_model.", 2, 3));
    let mut partly = tower("model.vision_tower.vision_model.", 2, 3);
    partly.retain(|(name, _)| !name.contains("layers.1."));
    let files = model("some/tower", partly);
    let checkpoint = Checkpoint::open(&files).unwrap();
    let tower = Checkpoint::open(&beside).unwrap();
    let part = checkpoint.vision(Some(&tower)).unwrap();
    for tensor in &part.tensors {
        let of_folder = tensor.name.starts_with("v.blk.1.");
        assert_eq!(tensor.is_beside, of_folder, "{}", tensor.name);
    }
    let alone = checkpoint.vision(None).err().unwrap().to_string();
    assert!(alone.contains("how many heads"), "{alone}");
}

#[test]
fn a_folder_that_disagrees_is_refused() {
    let own = |grid| tower(PREFIXES[0], grid, 3);
    for (files, beside, says) in [
        (
            model("some/tower", own(3)),
            folder_of(28, 2, 3, tower("vision_model.", 2, 3)),
            "pictures of 42 pixels in the checkpoint's shards, but 28 in the folder",
        ),
        (
            model("some/tower", own(2)),
            folder_of(28, 2, 2, tower("vision_model.", 2, 2)),
            "3 blocks in the checkpoint's shards, but 2 in the folder",
        ),
        (
            // Nothing in the shards, but the name says how large pictures are.
            model("openai/clip-vit-large-patch14-336", Vec::new()),
            folder_of(224, 2, 3, tower("vision_model.", 16, 3)),
            "pictures of 336 pixels by the name openai/clip-vit-large-patch14-336, but 224",
        ),
        (
            model("/data/clip-vit-base-patch32/", Vec::new()),
            folder_of(224, 2, 3, tower("vision_model.", 16, 3)),
            "patches of 32 pixels",
        ),
    ] {
        let error = vision(&files, Some(&beside)).unwrap_err();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
}

#[test]
fn tensors_without_a_place_are_listed() {
    let beside = folder_of(28, 2, 3, tower("vision_model.", 2, 3));
    let mut odd = tower(PREFIXES[1], 2, 3);
    odd.push((format!("{}adapter.down.weight", PREFIXES[1]), vec![2, 8]));
    odd.push((format!("{}adapter.up.weight", PREFIXES[1]), vec![8, 2]));
    let error = vision(&model("some/tower", odd), Some(&beside)).unwrap_err();
    assert!(
        error.contains("adapter.down.weight") && error.contains("adapter.up.weight"),
        "{error}"
    );
    let mlp = vec![("model.mm_projector.2.weight".into(), vec![8, 8])];
    let error = vision(&model("some/tower", mlp), Some(&beside)).unwrap_err();
    assert!(error.contains("model.mm_projector.2.weight"), "{error}");
    let mut two = tower(PREFIXES[0], 2, 3);
    two.extend(tower(PREFIXES[1], 2, 3));
    let error = vision(&model("some/tower", two), Some(&beside)).unwrap_err();
    assert!(error.contains("two vision towers"), "{error}");
    let error = vision(&model("eva_vit_g", Vec::new()), Some(&beside)).unwrap_err();
    assert!(error.contains("EVA"), "{error}");
}

/// What names say of towers, as far as they do.
#[test]
fn names_say_sizes() {
    let sizes = |name: &str| {
        let config = super::sizes_of_name(name);
        (config.patch_size, config.image_size)
    };
    assert_eq!(
        sizes("openai/clip-vit-large-patch14"),
        (Some(14), Some(224))
    );
    assert_eq!(
        sizes("/models/clip-vit-large-patch14-336/"),
        (Some(14), Some(336))
    );
    assert_eq!(sizes("own/clip-vit-tiny-patch16"), (Some(16), None));
    assert_eq!(sizes("vision-tower"), (None, None));
    let large = super::published("C:\\models\\clip-vit-large-patch14-336").unwrap();
    assert_eq!(large.num_attention_heads, Some(16));
    assert!(super::published("openai/clip-vit-tiny-random-patch14").is_none());
}

/// Blocks that never run are counted all the same: what is written again and read again is the
/// same model.
#[test]
fn round_trips_keep_every_block() {
    let beside = folder_of(28, 2, 4, tower("vision_model.", 2, 4));
    let tower_folder = Checkpoint::open(&beside).unwrap();
    let mut files = model("some/tower", tower(PREFIXES[1], 2, 4));
    for _ in 0..3 {
        let checkpoint = Checkpoint::open(&files).unwrap();
        let part = checkpoint.vision(Some(&tower_folder)).unwrap();
        let config = VisionConfig::from_metadata(&part.metadata).unwrap();
        assert_eq!(config.clip.blocks, 3);
        let again: Tensors = part
            .tensors
            .iter()
            .chain(&part.unused)
            .filter(|tensor| tensor.source.starts_with(PREFIXES[1]))
            .map(|tensor| (tensor.source.clone(), tensor.shape.clone()))
            .collect();
        assert_eq!(again.len(), 7 + 4 * 16);
        files = model("some/tower", again);
    }
}
