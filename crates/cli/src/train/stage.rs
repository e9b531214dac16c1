//! `univi train pretrain` and `univi train tune`: the two stages of the paper on data of one's own.

use std::{
    collections::HashSet,
    fs,
    ops::ControlFlow,
    path::{Component, Path, PathBuf},
};

use candle_core::Device;
use clap::{Args, ValueEnum};
use univi::{
    Error, Result,
    config::{LlamaConfig, VisionConfig},
    frames::FrameOptions,
    image::Rgb8,
    prompt::{TEMPLATE_KEY, Template, WRAPS_VISUALS_KEY},
    tokenizer::Tokenizer,
};
use univi_convert::checkpoint::{Checkpoint, CheckpointPart};
use univi_train::{
    conversations::{Conversations, Shape},
    dataset::{self, Dataset, Media, Order},
    export::{self, Folder as Files, Tensors},
    optimizer::Rates,
    parameters::Parameters,
    reader::Reader,
    trainer::{Plan, Schedule, Trainer},
};

use super::{diary::Diary, write_folder};
use crate::{
    checkpoint_folder::Folder,
    files,
    interrupt::Listener,
    out,
    values::{positive, positive_f32},
    video,
};

/// Train one stage on conversations about images and videos.
///
/// `pretrain` is the paper's first stage: the projector alone learns, from captions. `tune` is its
/// second: projector and language model learn, from conversations about images and videos mixed in
/// one file. Images and videos go through the code that inference runs. A folder of a checkpoint in
/// Hugging Face's layout goes in, and one comes out.
#[derive(Debug, Args)]
#[command(after_help = "\
The data is JSON as LLaVA and Chat-UniVi publish it:
  [{ \"id\": \"1\", \"image\": \"coco/1.jpg\", \"conversations\": [
      { \"from\": \"human\", \"value\": \"<image>\\nWhat is this?\" }, { \"from\": \"gpt\", \"value\": \"A dog.\" }] }]
with `image` (a path or several) or `video`, below the folder --media.

Examples:
  univi train pretrain vicuna-7b --vision-tower clip-vit-large-patch14 --data captions.json --media images --out stage1
  univi train tune stage1 --vision-tower clip-vit-large-patch14 --data mixed.json --media media --out stage2 --epochs 2
  univi train tune stage1 --data toy.json --media toy --out toy-out --batch 4 --rate 1e-3 --optimizer muon

Exit codes: 0 trained, 1 failed, 2 wrong command line, 130 interrupted: the same command goes on.")]
pub struct StageArgs {
    /// The checkpoint's folder; also what an earlier stage wrote.
    #[arg(value_name = "HF_DIR")]
    pub checkpoint: PathBuf,
    /// The folder of the CLIP that the model was made with. It has what the shards lack, and is
    /// refused where its sizes are others than theirs.
    #[arg(long, value_name = "DIR")]
    pub vision_tower: Option<PathBuf>,
    /// The conversations.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// The folder that paths in the data are relative to.
    #[arg(long, value_name = "DIR")]
    pub media: PathBuf,
    /// Where the trained checkpoint, the state and the curve go.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How often everything is learned [default: 1 for pretrain, 2 for tune].
    #[arg(long, value_name = "X", value_parser = positive)]
    pub epochs: Option<f64>,
    /// Samples of a step.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Samples that a thread computes at a time: fewer take less memory.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub micro_batch: u32,
    /// The learning rate at its highest [default: 2e-3 for pretrain, 2e-5 for tune].
    #[arg(long, value_name = "X", value_parser = positive_f32)]
    pub rate: Option<f32>,
    /// What the blocks' matrices learn by.
    #[arg(long, value_enum, default_value_t = OptimizerChoice::Adamw)]
    pub optimizer: OptimizerChoice,
    /// The vision encoder learns, too; where it comes from a folder of its own, it goes into
    /// `vision-tower`, as far as the block that the features come from.
    #[arg(long)]
    pub learn_vision: bool,
    /// The prompt template [default: v1 for models without one of their own].
    #[arg(long, value_name = "NAME", value_parser = ["simple", "simpleqa", "v1", "bare"])]
    pub template: Option<String>,
    /// Where chance starts: the order of samples.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Threads; another number gives other last bits.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Compute on an NVIDIA GPU; needs a `univi` that was built with `--features cuda`.
    #[arg(long)]
    pub cuda: bool,
}

/// What a matrix learns by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OptimizerChoice {
    /// AdamW for everything.
    Adamw,
    /// Muon for the matrices inside of blocks, AdamW for the rest.
    Muon,
}

/// A stage of the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The projector learns.
    Pretrain,
    /// Projector and language model learn.
    Tune,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Pretrain => "pretrain",
            Stage::Tune => "tune",
        }
    }

    fn learns(self, vision: bool) -> fn(&str) -> bool {
        match (self, vision) {
            (Stage::Pretrain, false) => |name| name.starts_with("mm."),
            (Stage::Pretrain, true) => |name| name.starts_with("mm.") || name.starts_with("v."),
            (Stage::Tune, false) => |name| !name.starts_with("v."),
            (Stage::Tune, true) => |_| true,
        }
    }

    /// The paper's learning rate and epochs.
    fn defaults(self) -> (f32, f64) {
        match self {
            Stage::Pretrain => (2e-3, 1.),
            Stage::Tune => (2e-5, 2.),
        }
    }
}

/// Steps between two states.
const SAVE_EVERY: u64 = 100;

/// Trains a stage, or goes on.
///
/// # Errors
/// Whatever is wrong with checkpoint, data or media, named with the file; `Aborted` where Ctrl-C
/// was pressed.
pub fn run(args: &StageArgs, stage: Stage) -> Result<()> {
    let device = device(args.cuda)?;
    let samples =
        dataset::read(&files::read(&args.data)?).map_err(|e| e.in_file(files::name(&args.data)))?;
    let source = Folder::open(&args.checkpoint)?;
    let checkpoint = Checkpoint::open(&source).map_err(|e| source.explain(e))?;
    let tower = source.tower(args.vision_tower.as_deref(), &checkpoint)?;
    let (llm, vision) = source.parts(&checkpoint, tower.as_ref(), args.vision_tower.is_some())?;
    let vision = vision.ok_or_else(|| Error::BadRequest {
        reason: format!(
            "{} has no vision side: its config.json names no vision tower and no projector",
            files::name(&args.checkpoint)
        ),
    })?;
    let shape = Shape {
        vision: VisionConfig::from_metadata(&vision.metadata)?,
        llama: LlamaConfig::from_metadata(&llm.metadata)?,
        tokenizer: Tokenizer::from_gguf(&llm.metadata)?,
    };
    let template = match &args.template {
        Some(name) => Template::from_name(name)?,
        // Chat-UniVi was trained with Vicuna's words, whatever it is asked with.
        None => match llm.metadata.opt_str(TEMPLATE_KEY)? {
            Some("simple") | None => Template::V1,
            Some(name) => Template::from_name(name)?,
        },
    };
    let merge = &shape.vision.merge;
    let dataset = Dataset {
        samples,
        media: Disk {
            folder: args.media.clone(),
            frames: FrameOptions {
                max_frames: merge.max_frames,
                frame_rate: merge.frame_rate,
                ..FrameOptions::default()
            },
            image_px: shape.vision.clip.image_px,
        },
        template,
        wraps_visuals: llm.metadata.opt_bool(WRAPS_VISUALS_KEY)?.unwrap_or(false),
        batch: args.batch as usize,
        seed: args.seed,
        order: Order::default(),
    };
    let (rate, epochs) = stage.defaults();
    let rate = args.rate.unwrap_or(rate);
    let plan = Plan {
        steps: dataset.steps(args.epochs.unwrap_or(epochs)),
        batch: args.batch as usize,
        micro_batch: args.micro_batch as usize,
        threads: (args.threads as usize).min(args.batch as usize),
        rates: Rates {
            adam: rate,
            muon: (args.optimizer == OptimizerChoice::Muon).then_some(rate),
            weight_decay: 0.,
        },
        schedule: Schedule::COSINE,
        clip_norm: 1.,
    };
    let parameters = Parameters::read(&llm, &device)?.join(Parameters::read(&vision, &device)?);
    let learns = stage.learns(args.learn_vision);
    let mut trainer = Trainer::new(parameters, learns);
    fs::create_dir_all(&args.out).map_err(|e| files::io_error(&args.out, &e))?;
    let state = args.out.join("state.safetensors");
    if state.is_file() {
        trainer.resume(&state)?;
    }
    out::note(&format!(
        "{}: {} of {} parameters learn, {} steps of {} samples",
        stage.name(),
        trainer.learning.count(),
        trainer.parameters.count(),
        plan.steps,
        plan.batch
    ));
    let mut diary = Diary::open(
        &args.out,
        stage.name(),
        trainer.step,
        plan.steps,
        plan.batch,
    )?;
    let task = Conversations {
        shape: &shape,
        examples: dataset,
        device,
        learns,
        eyes_learn_from_clips: true,
        reader: Reader::Model,
    };
    let listener = Listener::new();
    trainer.run(&task, &plan, |trainer, report| {
        diary.step(report)?;
        let stop = listener.pressed();
        if stop || trainer.step % SAVE_EVERY == 0 || trainer.step == plan.steps {
            trainer.save(&state)?;
        }
        Ok(if stop {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    diary.draw()?;
    if trainer.step < plan.steps {
        out::note("stopped; the same command goes on from here");
        return Err(Error::Aborted);
    }
    write_checkpoint(args, tower.as_ref(), &llm, &vision, &trainer.parameters)
}

/// The device that tensors live on.
fn device(cuda: bool) -> Result<Device> {
    match cuda {
        false => Ok(Device::Cpu),
        true => Device::new_cuda(0).map_err(|e| Error::NoGpu {
            reason: format!("{e}; --cuda wants an NVIDIA GPU and `cargo install --features cuda`"),
        }),
    }
}

/// Writes a folder like the one that training began with: its small files, and all tensors in one
/// file. A tower that learned, and that lay in a folder of its own, goes into `vision-tower`.
fn write_checkpoint(
    args: &StageArgs,
    tower_folder: Option<&Folder>,
    llm: &CheckpointPart,
    vision: &CheckpointPart,
    parameters: &Parameters,
) -> Result<()> {
    let mut folder = Files::new();
    let names = [
        "config.json",
        "tokenizer.model",
        "tokenizer.json",
        "tokenizer_config.json",
        "added_tokens.json",
        "preprocessor_config.json",
        "README.md",
    ];
    copy_small(&mut folder, &args.checkpoint, &names)?;
    let mut vision_tensors = export::tensors(vision, parameters)?;
    vision_tensors.extend(export::unused(vision)?);
    let beside: HashSet<&str> = vision
        .tensors
        .iter()
        .chain(&vision.unused)
        .filter(|tensor| tensor.is_beside)
        .map(|tensor| &*tensor.source)
        .collect();
    let (tower, projector): (Tensors, Tensors) = vision_tensors
        .into_iter()
        .partition(|(name, _)| beside.contains(&**name));
    let mut tensors = export::tensors(llm, parameters)?;
    tensors.extend(projector);
    export::write(&mut folder, &tensors)?;
    write_folder(&args.out, &folder)?;
    if args.learn_vision && !tower.is_empty() {
        let mut folder = Files::new();
        let described = tower_folder.map_or(&args.checkpoint, |folder| &folder.path);
        copy_small(
            &mut folder,
            described,
            &["config.json", "preprocessor_config.json"],
        )?;
        export::write(&mut folder, &tower)?;
        let path = args.out.join("vision-tower");
        write_folder(&path, &folder)?;
        out::note(&format!(
            "{}: what the encoder learned; name it with --vision-tower from now on",
            files::name(&path)
        ));
    }
    out::note(&format!("{}: the checkpoint", files::name(&args.out)));
    Ok(())
}

/// Takes those of the named files that a folder has.
fn copy_small(into: &mut Files, from: &Path, names: &[&str]) -> Result<()> {
    for &name in names {
        let path = from.join(name);
        if path.is_file() {
            into.insert(name.to_string(), files::read(&path)?);
        }
    }
    Ok(())
}

/// Media below a folder.
struct Disk {
    folder: PathBuf,
    frames: FrameOptions,
    image_px: usize,
}

impl Disk {
    /// A path of the data, which may not lead out of the folder.
    fn path(&self, name: &str) -> Result<PathBuf> {
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        match Path::new(name).components().all(inside) {
            true => Ok(self.folder.join(name)),
            false => Err(Error::BadRequest {
                reason: format!("{name:?} leads out of the folder of media"),
            }),
        }
    }
}

impl Media for Disk {
    fn image(&self, name: &str) -> Result<Rgb8> {
        files::picture(&self.path(name)?)
    }

    fn video(&self, name: &str) -> Result<Vec<Rgb8>> {
        video::read(&self.path(name)?, &self.frames, self.image_px).map(|clip| clip.frames)
    }
}
