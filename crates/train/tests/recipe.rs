//! The small model's recipe, stage by stage. The artwork is the real one: `cargo xtask artwork`
//! brings it.

use std::{ops::ControlFlow, path::Path};

use candle_core::Device;
use univi_train::{
    nano::{
        blueprint::{Blueprint, Variant},
        recipe::{Stage, TrainingRecipe},
    },
    parameters::Parameters,
    trainer::Trainer,
    world::World,
};

fn world() -> World {
    let artwork = Path::new(env!("CARGO_MANIFEST_DIR")).join("artwork/node_modules");
    World::open(&artwork).unwrap_or_else(|error| panic!("{error}"))
}

/// A scale at which each stage is one step.
const ONE_STEP: f64 = 0.;

fn recipe(world: &World, scale: f64) -> TrainingRecipe<'_> {
    TrainingRecipe {
        world,
        seed: 3,
        threads: 2,
        scale,
        variant: Variant::default(),
        device: Device::Cpu,
    }
}

/// Runs a stage, or as many steps of it: (whether it is finished, the steps that were made).
fn run(world: &World, scale: f64, state: &Path, most: u64) -> (bool, u64) {
    let recipe = recipe(world, scale);
    let mut blueprint = recipe.begin().unwrap();
    let mut made = 0;
    let finished = recipe.stage(&mut blueprint, Stage::Speech, state, &mut |_| {
        made += 1;
        match made == most {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    (finished.unwrap(), made)
}

#[test]
fn a_stage_goes_on_where_it_was_and_does_nothing_once_it_is_finished() {
    let world = world();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("speech.safetensors");
    // Four steps in all.
    let scale = 4. / Stage::Speech.plan(2, 1.).steps as f64;
    assert_eq!(run(&world, scale, &state, 3), (false, 3));
    assert_eq!(run(&world, scale, &state, u64::MAX), (true, 1));
    assert_eq!(run(&world, scale, &state, u64::MAX), (true, 0));
    // The state is of this run alone.
    let other = recipe(&world, scale / 2.);
    let mut blueprint = other.begin().unwrap();
    let before = std::fs::read(&state).unwrap();
    let refused = other.stage(&mut blueprint, Stage::Speech, &state, &mut |_| {
        ControlFlow::Continue(())
    });
    let error = refused.unwrap_err();
    assert_eq!(error.code(), "bad-request");
    assert!(error.to_string().contains("scale was"), "{error}");
    assert_eq!(std::fs::read(&state).unwrap(), before);
}

#[test]
fn each_stage_moves_what_learns_in_it_and_nothing_else() {
    let world = world();
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&world, ONE_STEP);
    let mut blueprint = recipe.begin().unwrap();
    let mut before = parts(&blueprint);
    let moved = Stage::ALL.map(|stage| {
        let state = folder.path().join(stage.name());
        let on_step = &mut |_| ControlFlow::Continue(());
        assert!(
            recipe
                .stage(&mut blueprint, stage, &state, on_step)
                .unwrap()
        );
        let after = parts(&blueprint);
        let moved = [0, 1, 2].map(|part| after[part] != before[part]);
        before = after;
        (stage, moved)
    });
    assert_eq!(
        moved,
        [
            (Stage::Vision, [true, false, false]),
            (Stage::Speech, [false, false, true]),
            (Stage::Projector, [false, true, false]),
            (Stage::Joint, [false, true, true]),
            (Stage::Whole, [true, true, true]),
            (Stage::Clips, [true, true, true]),
        ]
    );
}

#[test]
fn what_comes_out_of_clips_is_the_mean_of_what_was_and_what_it_made() {
    let world = world();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("clips.safetensors");
    let recipe = recipe(&world, ONE_STEP);
    let projector =
        |parameters: Parameters| -> Vec<f32> { parameters.f32s("mm.0.weight").unwrap() };
    let open = |blueprint: &Blueprint| blueprint.open(&Device::Cpu).unwrap().1;
    let run = || {
        let mut blueprint = recipe.begin().unwrap();
        let on_step = &mut |_| ControlFlow::Continue(());
        let finished = recipe.stage(&mut blueprint, Stage::Clips, &state, on_step);
        assert!(finished.unwrap());
        projector(open(&blueprint))
    };
    let begun = recipe.begin().unwrap();
    let before = projector(open(&begun));
    let after = run();
    let mut trainer = Trainer::new(open(&begun), |_| true);
    trainer.resume(&state).unwrap();
    let made = projector(trainer.parameters);
    assert_ne!(before, made);
    let mean = made.iter().zip(&before).map(|(a, b)| 0.5 * (a + b));
    assert_eq!(after, mean.collect::<Vec<_>>());
    // Once it is finished, too.
    assert_eq!(run(), after);
}

/// The numbers of vision encoder, projector and language model.
fn parts(blueprint: &Blueprint) -> [Vec<Vec<f32>>; 3] {
    let (_, parameters) = blueprint.open(&Device::Cpu).unwrap();
    let part = |fits: fn(&str) -> bool| {
        let names = parameters.iter().filter(|(name, _)| fits(name));
        names
            .map(|(name, _)| parameters.f32s(name).unwrap())
            .collect()
    };
    [
        part(|name| name.starts_with("v.")),
        part(|name| name.starts_with("mm.")),
        part(|name| !name.starts_with("v.") && !name.starts_with("mm.")),
    ]
}
