//! `univi models`: the published models, and which of them this machine holds.

use std::collections::BTreeMap;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use univi::{Error, ModelLoader, OpenDevice, Result, backend::KvType, loader::Needs};

use crate::{args::DeviceChoice, open, out, values::size_bytes};

/// Print the published models: where they are, what they need, and whether this machine has it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi models
  univi models --memory 8GB
  univi models --memory 12GB --context 4096 --json

Memory is that of the weights and one conversation of --context tokens; a picture is 112 of them. A
device needs some more for what is being computed.

Exit codes: 0 printed, whatever fits; 1 the device can't be opened, 2 wrong command line.")]
pub struct ModelsArgs {
    /// The memory to compare with, such as 8GB, in place of this machine's GPU.
    #[arg(long, value_name = "SIZE", value_parser = size_bytes, conflicts_with = "device")]
    memory: Option<u64>,
    /// The compute device whose memory is asked for.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
    /// Tokens of a conversation.
    #[arg(long, value_name = "N", default_value_t = 2048)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    context: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is suggested where nothing is known of the memory.
const USUAL: &str = "q4_k_m";

/// `catalogue.json`.
#[derive(Debug, Deserialize)]
struct Catalogue {
    models: Vec<PublishedModel>,
}

/// A checkpoint that was published.
#[derive(Debug, Deserialize)]
struct PublishedModel {
    /// Names the folder it is converted into.
    id: String,
    name: String,
    /// On the Hub.
    repository: String,
    /// What it is good at.
    good_at: String,
    license: String,
    license_address: String,
    /// On the Hub: the vision tower that it was made with.
    tower: String,
    /// Tokens that a conversation may have.
    context: u32,
    /// The prompt template to convert it with, where it is not the default.
    template: Option<String>,
    /// Length of what a conversion fetches.
    fetch_mb: u64,
    /// Width and height of its pictures in pixels.
    picture_side: u32,
    /// Numbers in the KV cache for each token.
    kv_numbers_per_token: u64,
    /// Lengths of the converted model by quantization.
    files_mb: BTreeMap<String, u64>,
    /// The authors' results by benchmark, in percent.
    figures: BTreeMap<String, f64>,
}

/// What a model needs with one quantization.
#[derive(Debug, Serialize)]
struct Choice<'a> {
    quantization: &'a str,
    file_bytes: u64,
    caches: Vec<Cache>,
}

/// What a model needs with one type of the KV cache.
#[derive(Debug, Serialize)]
struct Cache {
    kv_cache: &'static str,
    memory_bytes: u64,
    /// `None` where it can't be told.
    fits: Option<bool>,
}

/// Where the memory is that models are compared with.
enum Memory {
    Limit(u64),
    Device(OpenDevice),
}

impl Memory {
    fn name(&self) -> String {
        match self {
            Memory::Limit(bytes) => gigabytes(*bytes),
            Memory::Device(device) => device.name(),
        }
    }

    async fn fits(&self, needs: &Needs) -> Result<Option<bool>> {
        let device = match self {
            Memory::Limit(bytes) => return Ok(Some(needs.bytes() <= *bytes)),
            Memory::Device(device) => device,
        };
        if device.adapter_info().is_none() {
            return Ok(None); // The system lends memory that it does not have.
        }
        match ModelLoader::check_memory(device, needs).await {
            Ok(()) => Ok(Some(true)),
            Err(Error::OutOfMemory { .. }) => Ok(Some(false)),
            Err(error) => Err(error),
        }
    }
}

/// Prints the catalogue.
///
/// # Errors
/// Those of opening the device.
pub async fn run(args: &ModelsArgs) -> Result<()> {
    let catalogue: Catalogue = serde_json::from_str(include_str!("../catalogue.json"))
        .expect("a test reads the same file");
    let memory = match args.memory {
        Some(bytes) => Memory::Limit(bytes),
        None => Memory::Device(open::device(args.device.into()).await?),
    };
    let mut models = Vec::new();
    for model in &catalogue.models {
        models.push((model, choices(model, args.context, &memory).await?));
    }
    if args.json {
        let models = models.iter().map(|(model, choices)| {
            json!({
                "id": model.id, "name": model.name, "repository": model.repository,
                "tower": model.tower, "context": model.context,
                "fetch_bytes": model.fetch_mb * 1_000_000, "license": model.license,
                "figures": model.figures, "choices": choices,
            })
        });
        return out::json(&json!({
            "memory": memory.name(), "context": args.context, "models": models.collect::<Vec<_>>(),
        }));
    }
    for (model, choices) in &models {
        out::line(&described(model, choices))?;
    }
    let fits = match &memory {
        Memory::Device(device) if device.adapter_info().is_none() => {
            "on the CPU, in this machine's memory; --memory SIZE compares with a size".into()
        }
        memory => format!("compared with {}", memory.name()),
    };
    out::line(&format!(
        "Memory: weights and a conversation of {} tokens, {fits}.",
        args.context
    ))
}

/// What a model needs, from the smallest file on.
async fn choices<'a>(
    model: &'a PublishedModel,
    context: u32,
    memory: &Memory,
) -> Result<Vec<Choice<'a>>> {
    let mut choices = Vec::new();
    for (quantization, megabytes) in &model.files_mb {
        let file_bytes = megabytes * 1_000_000;
        let mut caches = Vec::new();
        for kv_cache in KvType::NAMES {
            let ty = KvType::from_name(kv_cache)?;
            let needs = Needs {
                weights_bytes: file_bytes,
                context: context.into(),
                kv_bytes_per_token: ty.bytes(model.kv_numbers_per_token),
            };
            caches.push(Cache {
                kv_cache,
                memory_bytes: needs.bytes(),
                fits: memory.fits(&needs).await?,
            });
        }
        choices.push(Choice {
            quantization,
            file_bytes,
            caches,
        });
    }
    choices.sort_by_key(|choice| choice.file_bytes);
    Ok(choices)
}

/// A model and its choices, as lines.
fn described(model: &PublishedModel, choices: &[Choice<'_>]) -> String {
    let figures: Vec<String> = model
        .figures
        .iter()
        .map(|(benchmark, percent)| format!("{benchmark} {percent}"))
        .collect();
    let mut text = format!(
        "{}: {}\n  {} at https://huggingface.co/{}, pictures of {side} x {side} pixels, up to {} tokens\n  \
         {}, {}\n  its authors report, in percent: {}\n",
        model.name,
        model.good_at,
        gigabytes(model.fetch_mb * 1_000_000),
        model.repository,
        model.context,
        model.license,
        model.license_address,
        figures.join(", "),
        side = model.picture_side,
    );
    text += "  quantization     file   memory, f32 cache   memory, q8 cache\n";
    for choice in choices {
        text += &format!(
            "  {:12} {:>8}",
            choice.quantization,
            gigabytes(choice.file_bytes)
        );
        for cache in &choice.caches {
            let verdict = match cache.fits {
                Some(true) => "fits",
                Some(false) => "too large",
                None => "",
            };
            text += &format!("   {:>7} {verdict:9}", gigabytes(cache.memory_bytes));
        }
        text = text.trim_end().to_string() + "\n";
    }
    let mut caches = choices.iter().flat_map(|choice| &choice.caches);
    let best = match caches.any(|cache| cache.fits.is_some()) {
        true => best_that_fits(choices),
        false => Some((USUAL, "f32")),
    };
    let Some((quantization, kv_cache)) = best else {
        return text + "  none of them fits\n";
    };
    let template = model.template.as_ref();
    let template = template.map_or(String::new(), |name| format!(" --template {name}"));
    text += &format!(
        "  univi convert hf:{} --quant {quantization}{template} --out models/{}\n",
        model.repository, model.id
    );
    if kv_cache != "f32" {
        text += &format!("  and then, wherever it is used, --kv-cache {kv_cache}\n");
    }
    text
}

/// The largest quantization that fits, with its KV cache.
fn best_that_fits<'a>(choices: &[Choice<'a>]) -> Option<(&'a str, &'static str)> {
    choices.iter().rev().find_map(|choice| {
        let is_quantized = choice.quantization != "f16"; // Twice the file of q8_0, and no better.
        let fitting = choice.caches.iter().find(|cache| cache.fits == Some(true));
        let cache = fitting.filter(|_| is_quantized)?;
        Some((choice.quantization, cache.kv_cache))
    })
}

/// A size as files and adapters are sold.
fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}
