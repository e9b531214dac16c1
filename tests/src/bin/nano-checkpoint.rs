//! Writes the model that ships as the checkpoint that it was made of would be published, for tests
//! of conversion: `nano-checkpoint MODEL_DIR OUT_DIR OWNER`. Its vision tower goes into a
//! repository of its own, as the original's is:
//!
//! ```text
//! OUT_DIR/OWNER/univi-nano          language model, projector, vocabulary
//! OUT_DIR/OWNER/univi-nano-tower    vision encoder
//! ```
//!
//! Its numbers are those of the shipped files, which are rounded.

use std::{fs, path::Path};

use candle_core::Device;
use univi::{Result, gguf, manifest::Manifest};
use univi_train::{
    nano::blueprint::{Blueprint, Variant},
    parameters::Parameters,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, out, owner] = &arguments[..] else {
        panic!("expected MODEL_DIR OUT_DIR OWNER");
    };
    let (model, out) = (Path::new(model), Path::new(out).join(owner));
    let blueprint = trained(model, &format!("{owner}/univi-nano-tower"));
    let blueprint = blueprint.unwrap_or_else(|e| panic!("{}: {e}", model.display()));
    for (name, files) in [
        ("univi-nano", &blueprint.model),
        ("univi-nano-tower", &blueprint.tower),
    ] {
        let folder = out.join(name);
        fs::create_dir_all(&folder).expect("the folder can be made");
        for (file, bytes) in files {
            fs::write(folder.join(file), bytes).expect("the folder can be written to");
        }
    }
}

/// The checkpoint of a model folder, which names its tower so.
fn trained(model: &Path, tower: &str) -> Result<Blueprint> {
    let read = |name: &str| fs::read(model.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let manifest = Manifest::parse(&read("manifest.json"))?;
    let tokenizer = manifest.tokenizer().expect("it has a vocabulary");
    let mut blueprint = Blueprint::new(read(&tokenizer.path), Variant::default(), 0)?;
    let device = Device::Cpu;
    // Blocks that no feature depends on are not part of a model: they stay as chance made them.
    let (_, encoder) = blueprint.open_tower(&device)?;
    let mut parameters = encoder.join(blueprint.open(&device)?.1);
    for file in manifest
        .files
        .iter()
        .filter(|file| file.path.ends_with(".gguf"))
    {
        add(&mut parameters, &read(&file.path), &device)?;
    }
    blueprint.put(&parameters)?;
    let config = blueprint.model.get_mut("config.json").expect("it has one");
    let mut json: serde_json::Value = serde_json::from_slice(config).expect("JSON of ours");
    json["mm_vision_tower"] = tower.into();
    *config = serde_json::to_vec_pretty(&json).expect("JSON of ours");
    Ok(blueprint)
}

/// Adds all tensors of a GGUF file.
fn add(parameters: &mut Parameters, file: &[u8], device: &Device) -> Result<()> {
    for tensor in gguf::parse(file)?.tensors {
        let start = tensor.offset as usize;
        let mut values = vec![0.; tensor.elements()];
        tensor
            .ty
            .dequantize(&file[start..start + tensor.bytes as usize], &mut values);
        let shape = [tensor.rows(), tensor.cols()];
        parameters.insert(&tensor.name, shape, values, device)?;
    }
    Ok(())
}
