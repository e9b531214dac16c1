//! The catalogue's sizes are those of conversions of checkpoints of the same shapes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use univi::gguf::QuantizationPlan;
use univi::manifest::Role;
use univi_convert::checkpoint::Checkpoint;
use univi_convert::{Conversion, ConversionOptions};
use univi_tests::random_checkpoint::{Shapes, Sizes};

/// Lengths of the tokenizer, of headers and of names are not known from shapes.
fn in_megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

/// What the catalogue says of a model, of a checkpoint of these sizes.
fn sizes_of(sizes: &Sizes, quantizations: impl Iterator<Item = String>) -> Value {
    let shapes = Shapes::new(sizes).unwrap();
    let checkpoint = Checkpoint::open(&shapes).unwrap();
    let (mut files_mb, mut kv_numbers) = (BTreeMap::new(), 0);
    for name in quantizations {
        let options = ConversionOptions {
            name: "model".into(),
            quantization: QuantizationPlan::parse(&name).unwrap(),
            vision_quantization: QuantizationPlan::F16,
            template: None,
            importance: None,
            shard_bytes: 1 << 30,
        };
        let plan = Conversion::plan(&checkpoint, None, &options).unwrap();
        let models = plan
            .files
            .iter()
            .filter(|file| file.role != Role::Tokenizer);
        files_mb.insert(name, in_megabytes(models.map(|file| file.bytes).sum()));
        kv_numbers = 2 * sizes.layers * sizes.width;
    }
    json!({
        "fetch_mb": in_megabytes(shapes.weights_bytes()),
        "picture_side": sizes.clip_grid * 14,
        "kv_numbers_per_token": kv_numbers,
        "files_mb": files_mb,
    })
}

#[test]
fn sizes_are_those_of_conversions() {
    let catalogue: Value =
        serde_json::from_str(include_str!("../../crates/cli/catalogue.json")).unwrap();
    for model in catalogue["models"].as_array().unwrap() {
        let base = match model["parameters"].as_str().unwrap() {
            "7B" => Sizes::CHAT_UNIVI_7B,
            "13B" => Sizes::CHAT_UNIVI_13B,
            other => panic!("{other}: which sizes are these?"),
        };
        let tower = model["tower"].as_str().unwrap();
        let clip_grid = if tower.ends_with("336") { 24 } else { 16 };
        let names = model["files_mb"].as_object().unwrap().keys().cloned();
        let right = sizes_of(&Sizes { clip_grid, ..base }, names);
        for (key, value) in right.as_object().unwrap() {
            assert_eq!(&model[key], value, "{} of {}: {right}", key, model["id"]);
        }
    }
}
