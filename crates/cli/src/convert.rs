//! `univi convert`: a checkpoint as published becomes a model folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest, Sha256};
use univi::gguf::QuantizationPlan;
use univi::manifest::Manifest;
use univi::{Error, Result};
use univi_convert::checkpoint::Checkpoint;
use univi_convert::{
    CARD_MARK, CARD_NAME, Conversion, ConversionOptions, ImportanceMatrix, MAX_IMPORTANCE_BYTES,
    PlannedTensor,
};

use crate::model_folder::{ModelFolder, OutArgs};
use crate::progress::{Progress, Unit, bytes};
use crate::pull::{Pull, Sources, tensors_of};
use crate::values::quantization_plan;
use crate::{files, hub, out};

/// Make a model folder of a checkpoint as it is published.
///
/// CHECKPOINT has config.json, safetensors or pytorch_model-*.bin, and a tokenizer. A repository of
/// the Hugging Face Hub, hf:OWNER/NAME, is read over the network as it is converted: nothing but
/// the model is written to the disk. The vision tower is the one in the shards, else the one of
/// --vision-tower, else the one that config.json names, inside or beside a folder, or on the Hub.
/// The model is loaded once before it gets its name.
///
/// A run that was interrupted keeps the files that it has finished, and the same command goes on
/// from there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi convert hf:Chat-UniVi/Chat-UniVi --quant q4_k_m --out models/chat-univi-7b
  univi convert Chat-UniVi --vision-tower clip-vit-large-patch14 --out models/chat-univi-7b
  univi convert Chat-UniVi --quant q8_0 --shard-size 256MiB --out models/chat-univi-7b-q8
  univi convert SmolLM2-135M-Instruct --quant f16 --out models/smollm2

Exit codes: 0 converted, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct ConvertArgs {
    /// The checkpoint: a folder, or hf:OWNER/NAME, or hf:OWNER/NAME@REVISION.
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// The CLIP that the model was made with, a folder or hf:OWNER/NAME. It has what the shards
    /// lack, and is refused where its sizes are others than theirs.
    #[arg(long, value_name = "CHECKPOINT")]
    pub vision_tower: Option<PathBuf>,
    /// How the language model is stored: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, q6_k,
    /// q5_k_m, q5_k_s, q4_k_m, q4_k_s, iq4_nl, iq4_xs, q3_k_l, q3_k_m, q3_k_s, q2_k.
    #[arg(long, value_name = "TYPE", default_value = "q4_k_m", value_parser = quantization_plan)]
    pub quant: QuantizationPlan,
    /// How the vision side is stored.
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = quantization_plan)]
    pub vision_quant: QuantizationPlan,
    /// An importance matrix of llama.cpp's, GGUF or the form before it: how much each column of the
    /// language model's matrices matters. It has to be of the same model.
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
    /// The prompt template that the model was tuned with: simple, simpleqa, v1 or bare [default:
    /// what the checkpoint says, else simple].
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// What to call the model [default: the name of the folder or the repository].
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
    let source = hub::checkpoint(&args.checkpoint)?;
    let checkpoint = Checkpoint::open(&*source).map_err(|e| source.explain(e))?;
    let tower = match &args.vision_tower {
        Some(path) => Some(hub::checkpoint(path)?),
        None => source.tower_of(&checkpoint)?,
    };
    let tower_checkpoint = tower
        .as_ref()
        .map(|tower| Checkpoint::open(&**tower).map_err(|e| tower.explain(e)))
        .transpose()?;
    let options = ConversionOptions {
        name: match &args.name {
            Some(name) => name.clone(),
            None => source.model_name()?,
        },
        quantization: args.quant,
        vision_quantization: args.vision_quant,
        template: args.template.clone(),
        importance: args.imatrix.as_deref().map(importance).transpose()?,
        shard_bytes: args.out.shard_size,
    };
    let conversion = Conversion::plan(&checkpoint, tower_checkpoint.as_ref(), &options);
    let conversion = conversion.map_err(|e| source.explain(e))?;
    drop((checkpoint, tower_checkpoint));
    note_unused(&conversion.unused_importance);

    let out = &args.out.out;
    if let Some(folder) = source.folder() {
        refuse_input_as_output(out, folder, "the checkpoint's own folder")?;
    }
    if let Some(folder) = tower.as_ref().and_then(|tower| tower.folder()) {
        refuse_input_as_output(out, folder, "the vision tower's folder")?;
    }
    let tower_note = tower
        .as_ref()
        .and_then(|tower| note_tower(&conversion, &tower.place()));
    let sources = Sources {
        checkpoint: source,
        tower,
    };
    let manifest = write(&args.out, &conversion, &sources)?;
    print_summary(&manifest, out);
    if let Some(note) = tower_note {
        out::note(&note);
    }
    Ok(())
}

/// Reads an importance matrix.
fn importance(path: &Path) -> Result<ImportanceMatrix> {
    let length = std::fs::metadata(path).map_err(|e| files::io_error(path, &e))?;
    if length.len() > MAX_IMPORTANCE_BYTES {
        let reason = format!(
            "is too long for an importance matrix: {}",
            bytes(length.len())
        );
        return Err(Error::BadRequest { reason }.in_file(files::name(path)));
    }
    let file = std::fs::read(path).map_err(|e| files::io_error(path, &e))?;
    ImportanceMatrix::parse(&file).map_err(|e| e.in_file(files::name(path)))
}

/// Names what an importance matrix has and the model does not.
fn note_unused(names: &[String]) {
    const SHOWN: usize = 5;
    if names.is_empty() {
        return;
    }
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = names[..names.len().min(SHOWN)].join(", ");
    out::note(&format!(
        "the importance matrix has what the model has not: {shown}{more}"
    ));
}

/// Writes the files of a conversion.
fn write(args: &OutArgs, conversion: &Conversion, sources: &Sources) -> Result<Manifest> {
    let identity = identity(conversion, sources)?;
    let mut folder = ModelFolder::resume(&args.out, args.force, &conversion.files, &identity)?;
    let missing = tensors_of(conversion, |name| folder.has(name));
    let bytes_of = |tensors: &mut dyn Iterator<Item = &PlannedTensor>| -> u64 {
        tensors.map(|tensor| tensor.bytes).sum()
    };
    let total = bytes_of(&mut conversion.tensors());
    let left = bytes_of(&mut missing.iter());
    let origin = sources.checkpoint.origin();
    let label = match &origin {
        None => "converting",
        Some(origin) => {
            let stored = missing.iter().map(|planned| planned.tensor.stored_bytes());
            out::note(&format!(
                "{} at commit {}: fetching {}, writing {}",
                sources.checkpoint.place(),
                origin.commit,
                bytes(stored.sum()),
                bytes(left)
            ));
            "fetching and converting"
        }
    };
    let mut progress = Progress::new(label, Unit::Bytes, total);
    progress.skip_to(total - left);
    let mut pull = Pull::start(sources, missing);
    for file in &conversion.files {
        let mut on_bytes = |bytes| progress.advance(bytes);
        if let Err(error) = folder.add_planned(file, &mut pull, &mut on_bytes) {
            drop(progress);
            return Err(folder.give_up(error));
        }
    }
    drop(progress);
    let manifest = folder.finish(|entries| {
        let sha256: Vec<String> = entries.into_iter().map(|entry| entry.sha256).collect();
        conversion.manifest(&sha256)
    })?;
    write_companions(&args.out, &conversion.companions(origin.as_ref()))?;
    Ok(manifest)
}

/// Writes the card and the licence beside a model, unless there is a card that a person wrote.
fn write_companions(folder: &Path, companions: &[(String, Vec<u8>)]) -> Result<()> {
    let card = folder.join(CARD_NAME);
    if let Ok(found) = std::fs::read_to_string(&card)
        && !found.contains(CARD_MARK)
    {
        out::note(&format!("{} stays as it is", files::name(&card)));
        return Ok(());
    }
    for (name, bytes) in companions {
        files::write(&folder.join(name), bytes)?;
    }
    Ok(())
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
        for planned in &file.tensors {
            let tensor = &planned.tensor;
            if let Some(importance) = &planned.importance {
                let bytes: Vec<u8> = importance.iter().flat_map(|x| x.to_le_bytes()).collect();
                add(&bytes);
            }
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

/// Returns where the vision tower's tensors are from, where there is a tower beside the checkpoint.
fn note_tower(conversion: &Conversion, tower: &str) -> Option<String> {
    let tensors = conversion.tensors().map(|planned| &planned.tensor);
    let of_tower = tensors.filter(|tensor| tensor.name.starts_with("v."));
    let (beside, own): (Vec<_>, Vec<_>) = of_tower.partition(|tensor| tensor.is_beside);
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
