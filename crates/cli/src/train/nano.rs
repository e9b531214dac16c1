//! `univi train nano`.

use std::{fs, ops::ControlFlow, path::PathBuf};

use candle_core::Device;
use clap::Args;
use univi::{Error, Result};
use univi_train::{
    nano::{
        blueprint::Variant,
        recipe::{Stage, TrainingRecipe, vision_accuracy},
    },
    world::{Styles, World},
};

use super::{
    diary::Diary,
    folder::{claim, lock, write_folder},
};
use crate::{args::WorldArgs, files, interrupt::Listener, out, values::positive};

/// Make univi-nano from nothing: vision encoder, language, projector, and all together.
///
/// What was learned is written to the folder as it goes; the same command goes on after a break. At
/// the end the folder holds a checkpoint in Hugging Face's layout, `checkpoint`, with its
/// `checkpoint/vision-tower`, for `univi convert`. It takes hours; models/univi-nano/README.md says
/// how many, and on what.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask artwork
  univi train nano --out training/nano
  univi convert training/nano/checkpoint --quant q8_0 --vision-quant q8_0 --name univi-nano --out models/univi-nano
  univi train nano --out training/try --scale 0.02

Exit codes: 0 trained, 1 failed, 2 wrong command line, 130 interrupted: what was learned is kept.")]
pub struct NanoArgs {
    /// Where states, curves and the checkpoint go.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Begin anew and overwrite what another run, or another program, has left in the folder.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub world: WorldArgs,
    /// Makes all stages shorter or longer; 1 is the recipe of the model card.
    #[arg(long, value_name = "X", default_value_t = 1., value_parser = positive)]
    pub scale: f64,
    /// Where chance starts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Threads; another number gives other last bits.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Leave out what tells the frames of an event apart.
    #[arg(long)]
    pub no_temporal_position: bool,
}

/// Scenes that the vision encoder is measured on when it has learned.
const HELD_OUT_SCENES: usize = 256;

/// Makes the model, or goes on making it.
///
/// # Errors
/// `Io` where the artwork is not there or the folder can't be written; `Aborted` where Ctrl-C was
/// pressed.
pub fn run(args: &NanoArgs) -> Result<()> {
    let world = World::open(&args.world.artwork)?;
    let recipe = TrainingRecipe {
        world: &world,
        seed: args.seed,
        threads: args.threads as usize,
        scale: args.scale,
        variant: Variant {
            temporal_position: !args.no_temporal_position,
            ..Variant::default()
        },
        device: Device::Cpu,
    };
    let first = args
        .out
        .join(format!("{}.safetensors", Stage::ALL[0].name()));
    let names: Vec<String> = Stage::ALL
        .iter()
        .flat_map(|stage| {
            ["safetensors", "csv", "svg"].map(|end| format!("{}.{end}", stage.name()))
        })
        .chain(["checkpoint".to_string()])
        .collect();
    let resumes = claim(
        &args.out,
        &first,
        &recipe.identity(Stage::ALL[0]),
        args.force,
        &names,
    )?;
    let _lock = lock(&args.out)?;
    if !resumes {
        for stage in Stage::ALL {
            let state = args.out.join(format!("{}.safetensors", stage.name()));
            if state.exists() {
                fs::remove_file(&state).map_err(|e| files::io_error(&state, &e))?;
            }
        }
    }
    let mut blueprint = recipe.begin()?;
    let listener = Listener::new();
    for stage in Stage::ALL {
        let state = args.out.join(format!("{}.safetensors", stage.name()));
        let mut diary: Option<Diary> = None;
        let mut failed = None;
        let finished = recipe.stage(&mut blueprint, stage, &state, &mut |progress| {
            let mut report = || -> Result<()> {
                if diary.is_none() {
                    let (step, steps) = (progress.report.step, progress.steps);
                    diary = Some(Diary::open(
                        &args.out,
                        stage.name(),
                        step,
                        steps,
                        progress.batch,
                    )?);
                }
                diary
                    .as_mut()
                    .map_or(Ok(()), |diary| diary.step(progress.report))
            };
            failed = report().err();
            match failed.is_some() || listener.pressed() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(diary) = &diary {
            diary.draw()?;
        }
        if finished && stage == Stage::Vision && diary.is_some() {
            for (name, styles) in [("seen", Styles::Seen), ("unseen", Styles::Unseen)] {
                let right = vision_accuracy(&world, &blueprint, &state, styles, HELD_OUT_SCENES)?;
                out::note(&format!(
                    "sight: {:.1} % of the patches that show something are told right, {name} styles",
                    100. * right
                ));
            }
        }
        if !finished {
            out::note("stopped; the same command goes on from here");
            return Err(Error::Aborted);
        }
    }
    let checkpoint = args.out.join("checkpoint");
    write_folder(&checkpoint, &blueprint.model)?;
    write_folder(&checkpoint.join("vision-tower"), &blueprint.tower)?;
    out::note(&format!(
        "{0}: the checkpoint; `univi convert {0} --quant q8_0 --vision-quant q8_0 --name univi-nano --out models/univi-nano` \
         makes a model of it",
        files::name(&checkpoint)
    ));
    Ok(())
}
