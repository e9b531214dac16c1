//! `univi convert`: a checkpoint as published becomes a model folder.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args;
use univi::config::LlamaConfig;
use univi::gguf::{GgmlType, Metadata, QuantizationPlan};
use univi::manifest::{Manifest, Role};
use univi::prompt::TEMPLATE_KEY;
use univi::{Error, Result};
use univi_convert::TensorSpec;
use univi_convert::checkpoint::{Checkpoint, CheckpointPart, CheckpointTensor, Files};

use crate::checkpoint_folder::Folder;
use crate::model_folder::{ModelFolder, OutArgs, Sink, file_stem};
use crate::progress::{Progress, Unit, bytes};
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

/// Numbers that one thread turns into blocks at a time.
const BATCH_NUMBERS: usize = 1 << 20;

/// Converts a checkpoint and says where the model is.
///
/// # Errors
/// Whatever is wrong with the checkpoint, named with the file; `BadRequest` where the folder is
/// taken; `Io`.
pub fn run(args: ConvertArgs) -> Result<()> {
    let source = Folder::open(&args.checkpoint)?;
    let checkpoint = Checkpoint::open(&source).map_err(|e| source.explain(e))?;
    let tower_folder = source.tower(args.vision_tower.as_deref(), &checkpoint)?;
    let given = args.vision_tower.is_some();
    let (mut llm, vision) = source.parts(&checkpoint, tower_folder.as_ref(), given)?;
    if let Some(template) = &args.template {
        llm.metadata.insert(TEMPLATE_KEY, template.as_str());
    }

    let name = match &args.name {
        Some(name) => name.clone(),
        None => folder_name(&args.checkpoint)?,
    };
    let license = checkpoint.license()?;
    let describe = |metadata: &mut Metadata| {
        metadata.insert("general.name", name.as_str());
        if let Some(license) = &license {
            metadata.insert("general.license", license.as_str());
        }
    };
    let (mut llm_metadata, llm_specs) = llm.plan(args.quant);
    describe(&mut llm_metadata);
    let vision_plan = vision.as_ref().map(|vision| {
        let (mut metadata, specs) = vision.plan(args.vision_quant);
        describe(&mut metadata);
        (metadata, specs)
    });

    refuse_input_as_output(
        &args.out.out,
        &args.checkpoint,
        "the checkpoint's own folder",
    )?;
    if let Some(tower) = &tower_folder {
        refuse_input_as_output(&args.out.out, &tower.path, "the vision tower's folder")?;
    }
    let vision_specs = vision_plan.iter().flat_map(|(_, specs)| specs);
    let total = llm_specs
        .iter()
        .chain(vision_specs)
        .map(TensorSpec::bytes)
        .sum::<Result<u64>>()?;
    let mut folder = ModelFolder::create(&args.out.out, args.out.force, total)?;
    let mut progress = Progress::new("converting", Unit::Bytes, total);
    let stem = file_stem(&name);
    let quant = args.quant.name();
    let mut data = |i: usize, sink: Sink<'_>| {
        write_tensor(&llm.tensors[i], llm_specs[i].ty, sink, &mut progress)
    };
    let llm_stem = format!("{stem}-{quant}");
    folder
        .add_gguf(
            Role::Llm,
            &llm_stem,
            &llm_metadata,
            &llm_specs,
            Some(args.out.shard_size),
            &mut data,
        )
        .map_err(|e| source.explain(e))?;
    if let (Some(vision), Some((metadata, specs))) = (&vision, &vision_plan) {
        let mut data = |i: usize, sink: Sink<'_>| {
            write_tensor(&vision.tensors[i], specs[i].ty, sink, &mut progress)
        };
        let vision_stem = format!("{stem}-vision-{}", args.vision_quant.name());
        folder
            .add_gguf(Role::Vision, &vision_stem, metadata, specs, None, &mut data)
            .map_err(|e| source.explain(e))?;
    }
    for tokenizer in ["tokenizer.json", "tokenizer.model"] {
        if source.len(tokenizer)?.is_some() {
            folder.add_file(
                Role::Tokenizer,
                tokenizer,
                &files::read(&args.checkpoint.join(tokenizer))?,
            )?;
            break;
        }
    }
    let llm_config = LlamaConfig::from_metadata(&llm_metadata)?;
    let image_px = match &vision_plan {
        Some((metadata, _)) => metadata.opt_u64("clip.vision.image_size")?,
        None => None,
    };
    drop(progress);
    let manifest = folder.finish(|entries| {
        let mut manifest = Manifest::new(name, entries);
        manifest.quantization = Some(quant.to_string());
        manifest.parameters =
            Some(llm.parameters() + vision.as_ref().map_or(0, CheckpointPart::parameters));
        manifest.context_length = Some(llm_config.context as u64);
        manifest.kv_numbers = Some(llm_config.kv_numbers());
        manifest.image_px = image_px;
        manifest.license = license;
        manifest
    })?;
    print_summary(&manifest, &args.out.out);
    if let (Some(tower), Some(vision)) = (&tower_folder, &vision) {
        note_tower(vision, tower);
    }
    Ok(())
}

/// Says where the vision tower's tensors are from, where a folder was given beside the checkpoint.
fn note_tower(vision: &CheckpointPart, tower: &Folder) {
    let of_tower = vision.tensors.iter().filter(|t| t.name.starts_with("v."));
    let (beside, own): (Vec<_>, Vec<_>) = of_tower.partition(|t| t.is_beside);
    let tower = files::name(&tower.path);
    match (own.len(), beside.len()) {
        (0, _) => out::note(&format!("vision tower: {tower}")),
        (_, 0) => out::note(&format!(
            "vision tower: the checkpoint's own; {tower} describes it"
        )),
        (own, beside) => out::note(&format!(
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

/// Reads, quantizes and writes a tensor in batches, as many at a time as there are threads.
fn write_tensor(
    tensor: &CheckpointTensor,
    ty: GgmlType,
    sink: Sink<'_>,
    progress: &mut Progress,
) -> Result<()> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let rows_per_batch = (BATCH_NUMBERS / tensor.cols()).max(1);
    let batch = |first: usize| first..(first + rows_per_batch).min(tensor.rows());
    let mut firsts = (0..tensor.rows()).step_by(rows_per_batch).peekable();
    while firsts.peek().is_some() {
        let batches: Vec<Range<usize>> = firsts.by_ref().take(threads).map(batch).collect();
        let encoded: Vec<Result<Vec<u8>>> = thread::scope(|scope| {
            let running: Vec<_> = batches
                .into_iter()
                .map(|rows| scope.spawn(|| tensor.encode(ty, rows)))
                .collect();
            running
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        for bytes in encoded {
            let bytes = bytes?;
            sink(&bytes)?;
            progress.advance(bytes.len() as u64);
        }
    }
    Ok(())
}
