//! Folders that are well known, and are no checkpoint that can be read: what they are, and what to
//! do.

use serde::Deserialize;
use univi::{Result, manifest::MANIFEST_NAME};

use super::files::{CONFIG_NAME, Files, read_json};

/// What a folder without weights, or without `config.json`, is instead; `None` where it is nothing
/// well known.
///
/// # Errors
/// `Io`.
pub(super) fn other_folder(files: &dyn Files) -> Result<Option<String>> {
    let has = |name: &str| files.len(name).map(|len| len.is_some());
    let any = |names: &[&str]| -> Result<bool> {
        for name in names {
            if has(name)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if any(&[
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter_model.bin",
    ])? {
        #[derive(Default, Deserialize)]
        struct Adapter {
            base_model_name_or_path: Option<String>,
        }
        let adapter: Adapter = read_json(files, "adapter_config.json")?.unwrap_or_default();
        let base = adapter.base_model_name_or_path;
        return Ok(Some(lora(base.as_deref())));
    }
    if any(&["mm_projector.bin", "mm_projector.safetensors"])? {
        return Ok(Some(projector()));
    }
    if any(&["non_lora_trainables.bin"])? {
        return Ok(Some(lora(None)));
    }
    if any(&["consolidated.00.pth", "params.json"])? {
        return Ok(Some(
            "is in the layout of Meta's own downloads (consolidated.*.pth): take the same model \
             in Hugging Face's layout, or convert it with transformers first"
                .into(),
        ));
    }
    if any(&["tf_model.h5", "flax_model.msgpack", "model.onnx"])? {
        return Ok(Some(
            "holds weights of TensorFlow, Flax or ONNX alone: take the PyTorch or safetensors \
             weights of the same model"
                .into(),
        ));
    }
    if any(&["model_index.json"])? {
        return Ok(Some("is a diffusion pipeline, not a language model".into()));
    }
    for count in 2..=64 {
        for (shard, index) in [
            (
                format!("model-00001-of-{count:05}.safetensors"),
                "model.safetensors.index.json",
            ),
            (
                format!("pytorch_model-00001-of-{count:05}.bin"),
                "pytorch_model.bin.index.json",
            ),
        ] {
            if has(&shard)? && !has(index)? {
                return Ok(Some(format!(
                    "has shards of weights, but not their table {index}: download that, too"
                )));
            }
        }
    }
    if has(MANIFEST_NAME)? && !has(CONFIG_NAME)? {
        return Ok(Some(
            "is a converted model already: `--model` takes it as it is".into(),
        ));
    }
    Ok(None)
}

pub(super) fn lora(base: Option<&str>) -> String {
    let base = base.unwrap_or("its base model");
    format!(
        "is a LoRA adapter on {base}, not a model: merge it into that model first \
         (peft's merge_and_unload), and convert what that saves"
    )
}

pub(super) fn projector() -> String {
    "holds a projector alone (mm_projector), not a model: put its tensors into the checkpoint of \
     the language model that it was trained with, and convert that"
        .into()
}
