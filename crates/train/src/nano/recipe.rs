//! From nothing to `univi-nano`: the two stages of the paper, and before them one for the vision
//! encoder and one for the language model, which a small model can't borrow from elsewhere.
//!
//! | stage | learns | from |
//! |---|---|---|
//! | sight | vision encoder | what is where, patch by patch |
//! | speech | language model | scenes and stories told in symbols |
//! | projector | projector | captions of pictures (stage 1 of the paper) |
//! | joint | projector and language model | conversations about pictures and clips, mixed (stage 2) |
//! | whole | everything, the vision encoder from pictures alone | the same, fewer of them about clips; the mean of two falls of the rates |
//! | clips | as before | the same, half of them about clips; the mean of two falls, and of that and what `whole` made |

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use candle_core::Device;
use univi::{
    Result,
    model::{Vision, vision_tensors},
};

use super::{
    blueprint::{Blueprint, Variant},
    data::{self, LabelledScenes, Mixture, SymbolicConversations, WorldConversations},
    vision_pretraining::{Labelled, VisionPretraining},
};
use crate::{
    autograd::{Autograd, Packing},
    conversations::{Conversations, Shape},
    optimizer::Rates,
    parameters::{Parameters, candle, f32s},
    reader::Reader,
    state::RunIdentity,
    trainer::{Plan, Report, Restart, Schedule, Task, Trainer},
    vocabulary,
    world::{COLOURS, Styles, THINGS, World},
};

/// The stages, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The vision encoder learns to see.
    Vision,
    /// The language model learns to speak.
    Speech,
    /// The projector learns to translate.
    Projector,
    /// Projector and language model learn together.
    Joint,
    /// Everything learns together, the vision encoder from answers.
    Whole,
    /// So it goes on, with more about clips. What comes out is the mean of what was and what it
    /// made: either alone is right about fewer questions.
    Clips,
}

impl Stage {
    /// All of them.
    pub const ALL: [Stage; 6] = [
        Stage::Vision,
        Stage::Speech,
        Stage::Projector,
        Stage::Joint,
        Stage::Whole,
        Stage::Clips,
    ];

    /// As files and progress name it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Vision => "sight",
            Stage::Speech => "speech",
            Stage::Projector => "projector",
            Stage::Joint => "joint",
            Stage::Whole => "whole",
            Stage::Clips => "clips",
        }
    }

    /// What learns in it.
    fn learns(self) -> fn(&str) -> bool {
        match self {
            Stage::Vision => |name| name.starts_with("v.") || name.starts_with("head."),
            Stage::Speech => |name| !name.starts_with("v.") && !name.starts_with("mm."),
            Stage::Projector => |name| name.starts_with("mm."),
            Stage::Joint => |name| !name.starts_with("v."),
            Stage::Whole | Stage::Clips => |_| true,
        }
    }

    /// Returns how it runs; `scale` shortens it.
    pub fn plan(self, threads: usize, scale: f64) -> Plan {
        let (steps, batch, muon, adam, schedule) = match self {
            Stage::Vision => (9_000, 16, Some(2e-3), 1e-3, LONG),
            Stage::Speech => (4_000, 8, Some(2e-3), 1e-3, LONG),
            Stage::Projector => (200, 8, None, 2e-3, Schedule::COSINE),
            Stage::Joint => (6_000, 8, Some(1.5e-3), 1e-3, LONG),
            // Slower: what was learned is moved, not made.
            Stage::Whole => (24_000, 8, Some(1e-3), 6e-4, TWICE),
            Stage::Clips => (6_000, 8, Some(7e-4), 4e-4, EVENLY_TWICE),
        };
        Plan {
            steps: ((steps as f64 * scale).round() as u64).max(1),
            batch,
            micro_batch: 8,
            threads,
            rates: Rates {
                adam,
                muon,
                weight_decay: if self == Stage::Projector { 0. } else { 0.05 },
            },
            schedule,
            clip_norm: 1.,
        }
    }
}

/// High for long, and then down.
const LONG: Schedule = Schedule {
    warmup_steps: 0.02,
    hold: 0.45,
    floor: 0.01,
    restart: None,
};

/// So, and once more for a quarter of the steps.
const TWICE: Schedule = Schedule {
    restart: Some(Restart {
        at: 0.75,
        height: 0.7,
    }),
    ..LONG
};

/// Two falls of the same length from the same height.
const EVENLY_TWICE: Schedule = Schedule {
    restart: Some(Restart {
        at: 0.5,
        height: 1.,
    }),
    ..LONG
};

/// How the model is made.
pub struct TrainingRecipe<'a> {
    /// What it learns from.
    pub world: &'a World,
    /// Everything random follows from it.
    pub seed: u64,
    /// Threads that share the work. Another number gives other last bits.
    pub threads: usize,
    /// Shortens all stages: 1 for the model that ships.
    pub scale: f64,
    /// What is trained.
    pub variant: Variant,
    /// Where it computes.
    pub device: Device,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// The step that was made.
    pub report: Report,
    /// Steps of the stage.
    pub steps: u64,
    /// Items of a step.
    pub batch: usize,
}

impl TrainingRecipe<'_> {
    /// A model that knows nothing, with the vocabulary of the world.
    ///
    /// # Errors
    /// As [`Blueprint::new`].
    pub fn begin(&self) -> Result<Blueprint> {
        let speech = data::speech(self.seed ^ 1, 20_000);
        let vocabulary = vocabulary::learn(speech.iter().map(|line| &**line), data::OFTEN);
        Blueprint::new(vocabulary, self.variant, self.seed)
    }

    /// Returns what the states of a stage belong to.
    pub fn identity(&self, stage: Stage) -> RunIdentity {
        let facts = [
            ("stage", stage.name().to_string()),
            ("seed", self.seed.to_string()),
            ("scale", self.scale.to_string()),
            ("variant", format!("{:?}", self.variant)),
        ];
        let facts = facts.map(|(key, value)| (key.to_string(), value));
        facts.into_iter().collect()
    }

    /// Runs a stage, from the state in `state` where there is one, to its end or until `on_step`
    /// breaks off; then false. The state is kept up to date; each stage goes on from the
    /// blueprint that the one before left.
    ///
    /// # Errors
    /// As [`Trainer::run`] and [`Trainer::resume`].
    pub fn stage(
        &self,
        blueprint: &mut Blueprint,
        stage: Stage,
        state: &Path,
        on_step: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<bool> {
        let seed = self.seed ^ (stage as u64 + 2) << 32;
        let world = self.world;
        if stage == Stage::Vision {
            let (clip, parameters) = blueprint.open_tower(&self.device)?;
            let grid = clip.grid();
            let task = VisionPretraining {
                clip,
                pictures: LabelledScenes { world, seed, grid },
                classes: THINGS.len(),
                colours: COLOURS.len(),
                device: self.device.clone(),
            };
            let parameters = parameters.join(task.heads()?);
            return self.train(blueprint, stage, parameters, &task, state, on_step);
        }
        let (shape, parameters) = blueprint.open(&self.device)?;
        let (shape, learns) = (&shape, stage.learns());
        let device = self.device.clone();
        if stage == Stage::Speech {
            let examples = SymbolicConversations {
                tokenizer: &shape.tokenizer,
                width: shape.llama.width,
                seed,
                mixture: Mixture::JOINT,
            };
            let reader = Reader::Model;
            let task = Conversations {
                shape,
                examples,
                device,
                learns,
                eyes_learn_from_clips: false,
                reader,
            };
            return self.train(blueprint, stage, parameters, &task, state, on_step);
        }
        if stage == Stage::Projector {
            self.fit_projector(shape, &parameters)?;
        }
        let examples = WorldConversations {
            world,
            seed,
            mixture: Mixture {
                clips: match stage {
                    Stage::Projector => 0.,
                    // The vision encoder learns from pictures.
                    Stage::Whole => 0.2,
                    // What so few of them left to learn.
                    Stage::Clips => 0.5,
                    _ => Mixture::JOINT.clips,
                },
                ..Mixture::JOINT
            },
            captions: stage == Stage::Projector,
        };
        let reader = Reader::Model;
        let task = Conversations {
            shape,
            examples,
            device,
            learns,
            eyes_learn_from_clips: false,
            reader,
        };
        self.train(blueprint, stage, parameters, &task, state, on_step)
    }

    fn train(
        &self,
        blueprint: &mut Blueprint,
        stage: Stage,
        parameters: Parameters,
        task: &impl Task,
        state: &Path,
        on_step: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<bool> {
        let plan = stage.plan(self.threads, self.scale);
        let mut trainer = Trainer::new(parameters, stage.learns());
        trainer.identity = self.identity(stage);
        let before = match stage {
            Stage::Clips => trainer.learning.snapshot()?,
            _ => BTreeMap::new(),
        };
        if state.exists() {
            trainer.resume(state)?;
        }
        let mut stopped = false;
        trainer.run(task, &plan, |trainer, report| {
            let progress = Progress {
                stage,
                report,
                steps: plan.steps,
                batch: plan.batch,
            };
            stopped = on_step(progress).is_break();
            if stopped || trainer.step % SAVE_EVERY == 0 || trainer.step == plan.steps {
                trainer.save(state)?;
            }
            Ok(if stopped {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        // The state of a longer plan is finished, too.
        let finished = trainer.step >= plan.steps;
        if finished {
            trainer.learning.average(before)?;
        }
        blueprint.put(&trainer.parameters)?;
        Ok(finished)
    }

    /// Scales the random projector so that visual embeddings begin as large as words.
    ///
    /// # Errors
    /// `Gpu` where the device fails.
    pub fn fit_projector(&self, shape: &Shape, parameters: &Parameters) -> Result<()> {
        let b = Autograd::new(&self.device, Packing::default());
        let mut weights = parameters.weights(&b, vision_tensors(&shape.vision), |_| false);
        let vision = Vision::new(&mut weights, &shape.vision)?;
        let mut rng = data::rng(self.seed, 0, 0);
        let scenes: Vec<_> = (0..32)
            .map(|_| self.world.scene(&mut rng, Styles::Training))
            .collect();
        let features =
            pollster::block_on(vision.features(scenes.into_iter().map(|scene| Ok(scene.pixels))))?;
        let deviation = |x: &[f32]| (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt();
        let seen = deviation(&f32s(&features)?);
        let words = deviation(&parameters.f32s("token_embd.weight")?);
        let name = "mm.0.weight";
        let now =
            deviation(&parameters.f32s(name)?) * seen * (shape.vision.clip.width as f32).sqrt();
        let var = parameters.var(name);
        let scaled = var.affine((words / now) as f64, 0.);
        scaled.and_then(|x| var.set(&x)).map_err(candle)
    }
}

/// Steps between two states.
const SAVE_EVERY: u64 = 250;

/// Returns how many of the patches that show something are told right, over `count` scenes.
///
/// # Errors
/// As [`VisionPretraining::right`].
pub fn vision_accuracy(
    world: &World,
    blueprint: &Blueprint,
    state: &Path,
    styles: Styles,
    count: usize,
) -> Result<f32> {
    let device = Device::Cpu;
    let (clip, parameters) = blueprint.open_tower(&device)?;
    let grid = clip.grid();
    let task = VisionPretraining {
        clip,
        pictures: (),
        classes: THINGS.len(),
        colours: COLOURS.len(),
        device,
    };
    let parameters = parameters.join(task.heads()?);
    let mut trainer = Trainer::new(parameters, Stage::Vision.learns());
    trainer.resume(state)?;
    let mut right = [0; 2];
    for step in 0..count.div_ceil(16) as u64 {
        let scenes = (0..16).map(|item| {
            let mut rng = data::rng(HELD_OUT, step, item);
            Labelled::of(world.scene(&mut rng, styles), grid)
        });
        let scenes: Vec<Labelled> = scenes.collect();
        let found = task.right(&trainer.parameters, &scenes.iter().collect::<Vec<_>>())?;
        right = [right[0] + found[0], right[1] + found[1]];
    }
    Ok(right[0] as f32 / right[1].max(1) as f32)
}

/// The seed of what no stage learns from.
pub const HELD_OUT: u64 = 0x6865_6c64;
