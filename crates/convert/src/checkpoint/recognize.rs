//! Names of tensors that are well known, and are no checkpoint that can be read: what they are, and
//! what to do.

use super::{
    config::Config,
    other_folder::{lora, projector},
    weights::Weights,
};

/// What a checkpoint is by the names of its tensors, where it is not a LLaMA in the layout that is
/// read; `None` where it may be one.
pub(super) fn other_layout(weights: &Weights, config: &Config) -> Option<String> {
    let any = |test: &dyn Fn(&str) -> bool| weights.names().any(test);
    let all = |test: &dyn Fn(&str) -> bool| weights.names().all(test);
    weights.names().next()?;
    if any(&|name| name.contains(".lora_A.") || name.contains(".lora_B.")) {
        return Some(lora(None));
    }
    if all(&|name| name.contains("mm_projector") || name.contains("multi_modal_projector")) {
        return Some(projector());
    }
    let quantized = [".qweight", ".qzeros", ".absmax", ".quant_map", ".SCB"];
    if any(&|name| quantized.iter().any(|end| name.ends_with(end))) {
        return Some(
            "holds weights that are quantized already (GPTQ, AWQ or bitsandbytes): take the \
             model's original weights"
                .into(),
        );
    }
    let phi = config.model_type.as_deref().is_some_and(|kind| {
        let kind = kind.to_lowercase();
        kind.contains("phi") || kind == "mixformer-sequential"
    });
    if phi || any(&|name| name.ends_with(".self_attn.dense.weight") || name.contains(".mixer.Wqkv"))
    {
        return Some("is a Phi model: only LLaMA's language models are supported".into());
    }
    if all(&|name| name.starts_with("module.")) {
        return Some(
            "has module. before the name of every tensor, as torch's DataParallel writes them: \
             save the state_dict of model.module again"
                .into(),
        );
    }
    let hf = |name: &str| {
        name.starts_with("language_model.")
            || name.starts_with("model.language_model.")
            || name.contains("multi_modal_projector.")
    };
    if any(&hf) {
        return Some(
            "is in the layout of llava-hf (language_model.*, multi_modal_projector.*): take the \
             same model in its original layout (model.layers.*, model.mm_projector.*)"
                .into(),
        );
    }
    if any(&|name| name == "tok_embeddings.weight") {
        return Some(
            "has Meta's own names of tensors (tok_embeddings): take the same model in Hugging \
             Face's layout"
                .into(),
        );
    }
    if any(&|name| name.starts_with("base_model.model.")) {
        return Some(lora(None));
    }
    if any(&|name| name.contains("vision_tower") && name.contains(".blocks.")) {
        return Some("has a vision tower of EVA: only CLIP's are supported".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Checkpoint;
    use super::super::tests::{LLAMA, checkpoint, folder, llama_tensors};

    /// What is said about a folder of these files.
    fn said(files: &[(&str, &[u8])]) -> String {
        let files = folder(files);
        let error = Checkpoint::open(&files).and_then(|c| c.llm().map(|_| ()));
        error.unwrap_err().to_string()
    }

    #[test]
    fn folders_that_hold_something_else() {
        let config = ("config.json", LLAMA.as_bytes());
        let adapter = br#"{"base_model_name_or_path":"lmsys/vicuna-7b-v1.5","r":8}"#;
        let adapter = ("adapter_config.json", &adapter[..]);
        for files in [
            &[config, adapter, ("adapter_model.bin", b"PK")][..],
            &[adapter, ("adapter_model.safetensors", b"")],
        ] {
            let said = said(files);
            assert!(
                said.contains("LoRA adapter on lmsys/vicuna-7b-v1.5") && said.contains("merge"),
                "{said}"
            );
        }
        for (name, says) in [
            ("mm_projector.bin", "a projector alone"),
            ("non_lora_trainables.bin", "LoRA"),
            ("consolidated.00.pth", "Meta"),
            ("tf_model.h5", "TensorFlow"),
            (
                "model-00001-of-00003.safetensors",
                "model.safetensors.index.json",
            ),
            (
                "pytorch_model-00001-of-00002.bin",
                "pytorch_model.bin.index.json",
            ),
        ] {
            let said = said(&[config, (name, b"")]);
            assert!(said.contains(says), "{name}: {said}");
        }
        let said = said(&[("manifest.json", b"{}")]);
        assert!(said.contains("converted model already"), "{said}");
    }

    #[test]
    fn files_that_are_something_else() {
        let pointer: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
        let config = ("config.json", LLAMA.as_bytes());
        let weights = checkpoint(LLAMA, &llama_tensors());
        let weights = &weights["model.safetensors"];
        let page: &[u8] = b"<!DOCTYPE html><html>Not found</html>";
        for (files, file, says) in [
            (
                &[config, ("model.safetensors", pointer)][..],
                "model.safetensors",
                "git lfs pull",
            ),
            (
                &[config, ("pytorch_model.bin", pointer)],
                "pytorch_model.bin",
                "git lfs pull",
            ),
            (
                &[config, ("pytorch_model.bin", page)],
                "pytorch_model.bin",
                "web page",
            ),
            (
                &[config, ("model.safetensors", b"PK\x03\x04..")],
                "model.safetensors",
                "zip",
            ),
            (
                &[config, ("pytorch_model.bin", weights)],
                "pytorch_model.bin",
                "safetensors",
            ),
            (
                &[config, ("pytorch_model.bin", b"\x80\x02}.")],
                "pytorch_model.bin",
                "pickle",
            ),
            (&[("config.json", pointer)], "config.json", "git lfs pull"),
            (
                &[
                    config,
                    ("model.safetensors", weights),
                    ("tokenizer.model", pointer),
                ],
                "tokenizer.model",
                "git lfs pull",
            ),
            (
                &[
                    config,
                    ("model.safetensors", weights),
                    ("tokenizer.json", page),
                ],
                "tokenizer.json",
                "web page",
            ),
        ] {
            let said = said(files);
            assert!(said.starts_with(file) && said.contains(says), "{said}");
        }
    }

    #[test]
    fn layouts_of_other_tools() {
        let with = |rename: &dyn Fn(&str) -> String, config: &str| {
            let tensors: Vec<(String, &[usize])> = llama_tensors()
                .into_iter()
                .map(|(name, shape)| (rename(name), shape))
                .collect();
            let files = checkpoint(config, &tensors);
            let error = Checkpoint::open(&files).and_then(|c| c.llm().map(|_| ()));
            error.unwrap_err().to_string()
        };
        let phi = LLAMA.replace('{', r#"{"model_type":"ChatUniViPhi","#);
        for (said, says) in [
            (with(&|name| format!("module.{name}"), LLAMA), "module."),
            (
                with(&|name| format!("language_model.{name}"), LLAMA),
                "llava-hf",
            ),
            (
                with(&|name| format!("base_model.model.{name}"), LLAMA),
                "LoRA",
            ),
            (
                with(
                    &|name| name.replace("up_proj.weight", "up_proj.qweight"),
                    LLAMA,
                ),
                "quantized",
            ),
            (with(&|name| name.replace("o_proj", "dense"), LLAMA), "Phi"),
            (with(&str::to_string, &phi), "Phi"),
            (
                with(
                    &|name| name.replace("model.embed_tokens", "tok_embeddings"),
                    LLAMA,
                ),
                "Meta",
            ),
        ] {
            assert!(said.contains(says), "{said:?} does not say {says:?}");
        }
    }
}
