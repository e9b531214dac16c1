//! `univi convert`: a checkpoint as published becomes a model folder.

use std::ops::Range;
use std::path::Path;
use std::thread;

use univi::config::LlamaConfig;
use univi::gguf::{GgmlType, Metadata};
use univi::manifest::{Manifest, Role};
use univi::prompt::TEMPLATE_KEY;
use univi::{Error, Result};
use univi_convert::TensorSpec;
use univi_convert::checkpoint::{Checkpoint, CheckpointPart, CheckpointTensor, Files};

use crate::args::ConvertArgs;
use crate::checkpoint_folder::Folder;
use crate::model_folder::{ModelFolder, Sink, file_stem};
use crate::progress::{Progress, Unit, bytes};
use crate::{files, out};

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

    if let (Ok(out), Ok(checkpoint)) = (args.out.out.canonicalize(), args.checkpoint.canonicalize())
        && out == checkpoint
    {
        let reason =
            "the model can't be written into the checkpoint's own folder: name another with --out"
                .into();
        return Err(Error::BadRequest { reason });
    }
    let mut folder = ModelFolder::create(&args.out.out, args.out.force)?;
    let vision_specs = vision_plan.iter().flat_map(|(_, specs)| specs);
    let total = llm_specs
        .iter()
        .chain(vision_specs)
        .map(TensorSpec::bytes)
        .sum::<Result<u64>>()?;
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
    let number = |metadata: &Metadata, key| metadata.opt_u64(key);
    let context_length = number(&llm_metadata, "llama.context_length")?;
    let kv_numbers = LlamaConfig::from_metadata(&llm_metadata)?.kv_numbers();
    let image_px = match &vision_plan {
        Some((metadata, _)) => number(metadata, "clip.vision.image_size")?,
        None => None,
    };
    let manifest = folder.finish(|entries| {
        let mut manifest = Manifest::new(name, entries);
        manifest.quantization = Some(quant.to_string());
        manifest.parameters =
            Some(llm.parameters() + vision.as_ref().map_or(0, CheckpointPart::parameters));
        manifest.context_length = context_length;
        manifest.kv_numbers = Some(kv_numbers);
        manifest.image_px = image_px;
        manifest.license = license;
        manifest
    })?;
    drop(progress);
    print_summary(&manifest, &args.out.out);
    Ok(())
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
