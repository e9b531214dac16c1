//! `univi train pretrain` and `univi train tune`: the two stages of the paper on data of one's own.

use std::{
    fs,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use candle_core::Device;
use sha2::{Digest, Sha256};
use univi::{
    Error, Result,
    config::{LlamaConfig, VisionConfig},
    frames::FrameOptions,
    prompt::{TEMPLATE_KEY, Template, WRAPS_VISUALS_KEY},
    tokenizer::Tokenizer,
};
use univi_convert::checkpoint::{Checkpoint, CheckpointPart, CheckpointTensor};
use univi_train::{
    conversations::{Conversations, Shape},
    dataset::{self, Dataset, Order, Sample, Skipped},
    export,
    optimizer::Rates,
    parameters::Parameters,
    reader::Reader,
    state::RunIdentity,
    trainer::{Plan, Schedule, Trainer},
};

use super::{
    base::Base,
    diary::Diary,
    folder::{claim, lock, refuse_input},
    media::Disk,
    stage_args::{OptimizerChoice, Stage, StageArgs},
};
use crate::{checkpoint_folder::Folder, files, interrupt::Listener, out, pull::Source};

/// Steps between two states, and the time, whichever comes first.
const SAVE_EVERY: u64 = 100;
const SAVE_AFTER: Duration = Duration::from_secs(600);

/// The state's file.
const STATE_NAME: &str = "state.safetensors";

/// Trains a stage, or goes on.
///
/// # Errors
/// Whatever is wrong with checkpoint, data or media, named with the file; `BadRequest` for a folder
/// that holds something else; `Aborted` where Ctrl-C was pressed. What was learned is saved before.
pub fn run(args: &StageArgs, stage: Stage) -> Result<()> {
    let device = device(args.cuda)?;
    let inputs = [Some(&args.checkpoint), args.vision_tower.as_ref()];
    refuse_input(&args.out, inputs.into_iter().flatten().map(|path| &**path))?;
    let base = Base::open(args, stage)?;
    let folder = &base.folder;
    let checkpoint = Checkpoint::open(&base).map_err(|e| folder.explain(e))?;
    let tower = folder.tower(args.vision_tower.as_deref(), &checkpoint)?;
    let (llm, vision) = folder.parts(&checkpoint, tower.as_ref())?;
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
    let mut identity = RunIdentity::new();
    let (samples, skipped) = read_data(args, &mut identity)?;
    let mut dataset = Dataset {
        samples,
        skipped,
        media: Disk {
            folders: args.media.clone(),
            frames: FrameOptions::default()
                .max_frames(merge.max_frames)
                .frame_rate(merge.frame_rate),
            image_px: shape.vision.clip.image_px,
        },
        template,
        wraps_visuals: llm.metadata.opt_bool(WRAPS_VISUALS_KEY)?.unwrap_or(false),
        batch: args.batch as usize,
        seed: args.seed,
        order: Order::default(),
    };
    let mut skipped = SkipReport::default();
    let usable = dataset.skip_unusable(
        &shape.tokenizer,
        shape.llama.context,
        shape.vision.image_tokens(),
    );
    skipped.print(&dataset.skipped);
    usable?;
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
    let facts = [
        ("stage", stage.name().to_string()),
        ("base", digest_parts(&[&llm, &vision])?),
        ("samples", dataset.samples.len().to_string()),
        ("batch", plan.batch.to_string()),
        ("steps", plan.steps.to_string()),
        ("rate", rate.to_string()),
        ("optimizer", format!("{:?}", args.optimizer).to_lowercase()),
        ("seed", args.seed.to_string()),
        ("template", format!("{:?}", dataset.template).to_lowercase()),
        ("learn-vision", args.learn_vision.to_string()),
    ];
    identity.extend(facts.map(|(key, value)| (key.to_string(), value)));
    let state = args.out.join(STATE_NAME);
    let resumes = claim(
        &args.out,
        &state,
        &identity,
        args.force,
        &written_names(stage),
    )?;
    let _lock = lock(&args.out)?;

    let parameters = Parameters::read(&llm, &device)?.join(Parameters::read(&vision, &device)?);
    let learns = stage.learns(args.learn_vision);
    let mut trainer = Trainer::new(parameters, learns);
    trainer.identity = identity;
    if resumes {
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
    let mut saved = (trainer.step, Instant::now());
    let ended = trainer.run(&task, &plan, |trainer, report| {
        skipped.print(&task.examples.skipped);
        diary.step(report)?;
        let stop = listener.pressed();
        let due = trainer.step % SAVE_EVERY == 0 || saved.1.elapsed() >= SAVE_AFTER;
        if stop || due || trainer.step == plan.steps {
            trainer.save(&state)?;
            saved = (trainer.step, Instant::now());
        }
        Ok(if stop {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    });
    if let Err(error) = ended {
        skipped.print(&task.examples.skipped);
        if trainer.step > saved.0 {
            // The error that ended it says more than one that follows.
            match trainer.save(&state) {
                Ok(()) => out::note(&format!(
                    "{}: what was learned in {} steps; the same command goes on",
                    files::name(&state),
                    trainer.step
                )),
                Err(e) => out::note(&format!("what was learned can't be saved: {e}")),
            }
        }
        return Err(error);
    }
    diary.draw()?;
    skipped.print_count();
    if trainer.step < plan.steps {
        out::note("stopped; the same command goes on from here");
        return Err(Error::Aborted);
    }
    let learned = |name: &str| learns(name);
    write_checkpoint(
        args,
        &base,
        tower.as_ref(),
        [&llm, &vision],
        &trainer.parameters,
        learned,
    )
}

/// Reads the samples of all files; `identity` gets their digest.
fn read_data(args: &StageArgs, identity: &mut RunIdentity) -> Result<(Vec<Sample>, Skipped)> {
    let mut skipped = Skipped::new(usize::MAX);
    let mut samples = Vec::new();
    let mut digest = Sha256::new();
    for path in &args.data {
        let json = files::read(path)?;
        digest.update((json.len() as u64).to_le_bytes());
        digest.update(&json);
        samples.extend(dataset::read(&json, &skipped).map_err(|e| e.in_file(files::name(path)))?);
    }
    identity.insert("data".into(), short(digest));
    let all = samples.len() + skipped.reasons().len();
    let limit = args.skip_limit.unwrap_or((all / 100).max(10));
    skipped.set_limit(limit)?;
    Ok((samples, skipped))
}

/// Names skipped samples, each once.
#[derive(Default)]
struct SkipReport {
    /// How many were reported.
    count: usize,
}

/// Samples that are named; more are counted.
const NAMED: usize = 20;

impl SkipReport {
    fn print(&mut self, skipped: &Skipped) {
        let reasons = skipped.reasons();
        for (number, (id, reason)) in reasons.iter().enumerate().skip(self.count) {
            if number < NAMED {
                out::note(&format!("skipped sample {id}: {reason}"));
            }
        }
        self.count = reasons.len();
    }

    fn print_count(&self) {
        if self.count > 0 {
            let plural = if self.count == 1 { "" } else { "s" };
            out::note(&format!("{} sample{plural} skipped", self.count));
        }
    }
}

/// What a checkpoint is known by: names, shapes, and two rows of each tensor.
fn digest_parts(parts: &[&CheckpointPart]) -> Result<String> {
    let mut digest = Sha256::new();
    let tensors = parts.iter().flat_map(|part| {
        let tensors = part.tensors.iter();
        tensors.map(move |tensor| (part, tensor))
    });
    for (part, tensor) in tensors {
        digest.update(tensor.name.as_bytes());
        for row in [0, tensor.rows() / 2] {
            for number in part.read(tensor, row..row + 1)? {
                digest.update(number.to_le_bytes());
            }
        }
        digest.update((tensor.rows() as u64).to_le_bytes());
    }
    Ok(short(digest))
}

/// A digest as people compare it.
fn short(digest: Sha256) -> String {
    let bytes = digest.finalize();
    bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
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

/// The small files that go along with a checkpoint.
const SMALL_FILES: [&str; 7] = [
    "config.json",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "README.md",
];

/// All that a stage writes into its folder.
fn written_names(stage: Stage) -> Vec<String> {
    let curves = ["csv", "svg"].map(|ending| format!("{}.{ending}", stage.name()));
    let names = SMALL_FILES
        .into_iter()
        .chain([STATE_NAME, export::WEIGHTS_NAME, TOWER_NAME]);
    names.map(str::to_string).chain(curves).collect()
}

/// The folder of a tower that learned.
const TOWER_NAME: &str = "vision-tower";

/// Writes a folder like the one that training began with: its small files, and all tensors in one
/// file, those that did not learn as they were. A tower that learned, and that lay in a folder of
/// its own, goes into `vision-tower`.
fn write_checkpoint(
    args: &StageArgs,
    base: &Base,
    tower_folder: Option<&Folder>,
    parts: [&CheckpointPart; 2],
    parameters: &Parameters,
    learned: impl Fn(&str) -> bool,
) -> Result<()> {
    // A tower that lies in the checkpoint stays there.
    let is_tower = |tensor: &CheckpointTensor| tensor.is_beside;
    for name in SMALL_FILES {
        if let Some(bytes) = base.small_file(name)? {
            files::write(&args.out.join(name), &bytes)?;
        }
    }
    let has_tower = parts.iter().any(|part| part.tensors.iter().any(is_tower));
    if args.learn_vision && has_tower {
        let path = args.out.join(TOWER_NAME);
        fs::create_dir_all(&path).map_err(|e| files::io_error(&path, &e))?;
        let described = tower_folder.map_or(&args.checkpoint, |folder| &folder.path);
        for name in ["config.json", "preprocessor_config.json"] {
            let from = described.join(name);
            if from.is_file() {
                files::write(&path.join(name), &files::read(&from)?)?;
            }
        }
        let weights = path.join(export::WEIGHTS_NAME);
        export::write_file(&weights, &parts, parameters, &learned, is_tower)?;
        out::note(&format!(
            "{}: what the encoder learned; name it with --vision-tower from now on",
            files::name(&path)
        ));
    }
    let weights = args.out.join(export::WEIGHTS_NAME);
    export::write_file(&weights, &parts, parameters, &learned, |tensor| {
        !is_tower(tensor)
    })?;
    out::note(&format!("{}: the checkpoint", files::name(&args.out)));
    Ok(())
}
