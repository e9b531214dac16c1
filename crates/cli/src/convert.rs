//! `univi convert`: a checkpoint as published becomes a model folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sha2::{Digest, Sha256};
use univi::gguf::QuantizationPlan;
use univi::manifest::Manifest;
use univi::{Error, Result};
use univi_convert::checkpoint::Checkpoint;
use univi_convert::{Conversion, ConversionOptions, PlannedTensor};

use crate::checkpoint_folder::Folder;
use crate::model_folder::{ModelFolder, OutArgs};
use crate::progress::{Progress, Unit, bytes};
use crate::pull::{Pull, Source, Sources, tensors_of};
use crate::values::quantization_plan;
use crate::{files, out};

/// Make a model folder of a checkpoint as it is published.
///
/// HF_DIR has config.json, safetensors or pytorch_model-*.bin, and a tokenizer. The vision tower is
/// the one in the shards, else the one of --vision-tower, else the one that config.json names,
/// inside or beside HF_DIR. The model is loaded once before it gets its name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi convert Chat-UniVi --vision-tower clip-vit-large-patch14 --out models/chat-univi-7b
  univi convert Chat-UniVi --quant q8_0 --shard-size 256MiB --out models/chat-univi-7b-q8
  univi convert SmolLM2-135M-Instruct --quant f16 --out models/smollm2

Exit codes: 0 converted, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct ConvertArgs {
    /// The checkpoint's folder.
    #[arg(value_name = "HF_DIR")]
    pub checkpoint: PathBuf,
    /// The folder of the CLIP that the model was made with. It has what the shards lack, and is
    /// refused where its sizes are others than theirs.
    #[arg(long, value_name = "DIR")]
    pub vision_tower: Option<PathBuf>,
    /// How the language model is stored: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, q6_k,
    /// q5_k_m, q5_k_s, q4_k_m, q4_k_s, q3_k_l, q3_k_m, q3_k_s, q2_k.
    #[arg(long, value_name = "TYPE", default_value = "q4_k_m", value_parser = quantization_plan)]
    pub quant: QuantizationPlan,
    /// How the vision side is stored.
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = quantization_plan)]
    pub vision_quant: QuantizationPlan,
    /// The prompt template that the model was tuned with: simple, simpleqa, v1 or bare [default:
    /// what the checkpoint says, else simple].
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// What to call the model [default: the folder's name].
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    #[command(flatten)]
    pub out: OutArgs,
}

/// Converts a checkpoint and says where the model is.
///
/// # Errors
/// Whatever is wrong with the checkpoint, named with the file; `BadRequest` where the folder is
/// taken; `Io`.
pub fn run(args: ConvertArgs) -> Result<()> {
    let source = Folder::open(&args.checkpoint)?;
    let checkpoint = Checkpoint::open(&source).map_err(|e| source.explain(e))?;
    let tower_folder = source.tower(args.vision_tower.as_deref(), &checkpoint)?;
    let tower = tower_folder
        .as_ref()
        .map(|folder| Checkpoint::open(folder).map_err(|e| folder.explain(e)))
        .transpose()?;
    let options = ConversionOptions {
        name: match &args.name {
            Some(name) => name.clone(),
            None => folder_name(&args.checkpoint)?,
        },
        quantization: args.quant,
        vision_quantization: args.vision_quant,
        template: args.template.clone(),
        shard_bytes: args.out.shard_size,
    };
    let conversion = Conversion::plan(&checkpoint, tower.as_ref(), &options);
    let conversion = conversion.map_err(|e| source.explain(e))?;
    drop((checkpoint, tower));

    refuse_input_as_output(
        &args.out.out,
        &args.checkpoint,
        "the checkpoint's own folder",
    )?;
    if let Some(tower) = &tower_folder {
        refuse_input_as_output(&args.out.out, &tower.path, "the vision tower's folder")?;
    }
    let tower_note = tower_folder
        .as_ref()
        .and_then(|tower| note_tower(&conversion, tower));
    let sources = Sources {
        checkpoint: Arc::new(source),
        tower: tower_folder.map(|folder| Arc::new(folder) as Arc<dyn Source>),
    };
    let manifest = write(&args.out, &conversion, &sources)?;
    print_summary(&manifest, &args.out.out);
    if let Some(note) = tower_note {
        out::note(&note);
    }
    Ok(())
}

/// Writes the files of a conversion.
fn write(args: &OutArgs, conversion: &Conversion, sources: &Sources) -> Result<Manifest> {
    let identity = identity(conversion, sources)?;
    let mut folder = ModelFolder::resume(&args.out, args.force, &conversion.files, &identity)?;
    let missing = tensors_of(conversion, |name| folder.has(name));
    let total = missing.iter().map(|tensor| tensor.bytes).sum();
    let mut progress = Progress::new("converting", Unit::Bytes, total);
    let mut pull = Pull::start(sources, missing);
    for file in &conversion.files {
        let mut on_bytes = |bytes| progress.advance(bytes);
        if let Err(error) = folder.add_planned(file, &mut pull, &mut on_bytes) {
            drop(progress);
            return Err(folder.give_up(error));
        }
    }
    drop(progress);
    folder.finish(|entries| {
        let sha256: Vec<String> = entries.into_iter().map(|entry| entry.sha256).collect();
        conversion.manifest(&sha256)
    })
}

/// Returns what is another text for any other result: the files that are written, and the weights
/// that they are made of.
fn identity(conversion: &Conversion, sources: &Sources) -> Result<String> {
    let mut digest = Sha256::new();
    let mut add = |text: &[u8]| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    };
    add(env!("CARGO_PKG_VERSION").as_bytes());
    let mut stamped = BTreeSet::new();
    for file in &conversion.files {
        add(file.name.as_bytes());
        add(&file.head);
        for PlannedTensor { tensor, .. } in &file.tensors {
            let from = tensor.file();
            add(from.as_bytes());
            add(&[u8::from(tensor.is_beside)]);
            if stamped.insert((tensor.is_beside, from)) {
                add(sources.of(tensor).stamp(from)?.as_bytes());
            }
        }
    }
    Ok(hex::encode(digest.finalize()))
}

/// Returns where the vision tower's tensors are from, where a folder was given beside the
/// checkpoint.
fn note_tower(conversion: &Conversion, tower: &Folder) -> Option<String> {
    let tensors = conversion.tensors().map(|planned| &planned.tensor);
    let of_tower = tensors.filter(|tensor| tensor.name.starts_with("v."));
    let (beside, own): (Vec<_>, Vec<_>) = of_tower.partition(|tensor| tensor.is_beside);
    let tower = files::name(&tower.path);
    match (own.len(), beside.len()) {
        (0, 0) => None,
        (0, _) => Some(format!("vision tower: {tower}")),
        (_, 0) => Some(format!(
            "vision tower: the checkpoint's own; {tower} describes it"
        )),
        (own, beside) => Some(format!(
            "vision tower: {own} tensors of the checkpoint, {beside} that it lacks of {tower}"
        )),
    }
}

/// Refuses to write a model among the files that it is made of.
fn refuse_input_as_output(out: &Path, input: &Path, what: &str) -> Result<()> {
    match (out.canonicalize(), input.canonicalize()) {
        (Ok(out), Ok(input)) if out == input => Err(Error::BadRequest {
            reason: format!("the model can't be written into {what}: name another with --out"),
        }),
        _ => Ok(()),
    }
}

/// Says what was written.
pub fn print_summary(manifest: &Manifest, folder: &Path) {
    let size = bytes(manifest.total_bytes());
    let count = manifest.files.len();
    out::note(&format!(
        "{}: {}, {size} in {count} files",
        files::name(folder),
        manifest.name
    ));
}

fn folder_name(path: &Path) -> Result<String> {
    let path = path.canonicalize().map_err(|e| files::io_error(path, &e))?;
    Ok(path.file_name().map_or_else(
        || "model".into(),
        |name| name.to_string_lossy().into_owned(),
    ))
}
