//! `univi train nano`.

use std::{fs, ops::ControlFlow};

use candle_core::Device;
use univi::{Error, Result};
use univi_train::{
    nano::{
        blueprint::Variant,
        recipe::{Stage, TrainingRecipe, vision_accuracy},
    },
    world::{Styles, World},
};

use super::{diary::Diary, write_folder};
use crate::{args::NanoArgs, files, interrupt::Listener, out};

/// Scenes that the vision encoder is measured on when it has learned.
const HELD_OUT_SCENES: usize = 256;

/// Makes the model, or goes on making it.
///
/// # Errors
/// `Io` where the artwork is not there or the folder can't be written; `Aborted` where Ctrl-C was
/// pressed.
pub fn run(args: &NanoArgs) -> Result<()> {
    let world = World::open(&args.world.artwork)?;
    fs::create_dir_all(&args.out).map_err(|e| files::io_error(&args.out, &e))?;
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
