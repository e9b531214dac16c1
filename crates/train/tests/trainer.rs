//! Stages learn, stop and go on.

use std::ops::ControlFlow;

use candle_core::Device;
use safetensors::SafeTensors;
use univi::{Result, image::Rgb8};
use univi_train::{
    conversations::{Conversations, Examples, Shape},
    dataset::{self, Dataset, Media, Medium, Skipped},
    nano::blueprint::{Blueprint, Variant},
    optimizer::Rates,
    parameters::Parameters,
    reader::Reader,
    trainer::{Plan, Restart, Schedule, Share, Task, Trainer},
    vocabulary,
};

const COLOURS: [(&str, [u8; 3]); 5] = [
    ("red", [220, 30, 30]),
    ("green", [30, 200, 30]),
    ("blue", [30, 30, 220]),
    ("white", [240, 240, 240]),
    ("black", [10, 10, 10]),
];

/// One colour each: the name says which.
struct Paint;

impl Media for Paint {
    fn image(&self, name: &str) -> Result<Rgb8> {
        let (_, colour) = COLOURS.iter().find(|(colour, _)| *colour == name).unwrap();
        Rgb8::new(96, 96, colour.repeat(96 * 96))
    }

    fn video(&self, name: &str) -> Result<Vec<Rgb8>> {
        name.split(' ').map(|name| self.image(name)).collect()
    }

    fn check(&self, _: &Medium) -> Result<()> {
        Ok(())
    }
}

/// Fifty samples: colours of pictures, and of the first and the last frame of clips.
fn toy() -> String {
    let mut samples = Vec::new();
    for (i, (a, _)) in COLOURS.iter().enumerate() {
        for question in ["What colour is it?", "Which colour?"] {
            samples.push(serde_json::json!({ "id": samples.len(), "image": a, "conversations": [
                { "from": "human", "value": format!("<image>\n{question}") }, { "from": "gpt", "value": a },
            ] }));
        }
        for (j, (b, _)) in COLOURS.iter().enumerate() {
            if i == j {
                continue;
            }
            let clip = [*a, *b].join(" ");
            for (question, answer) in [("What comes first?", a), ("What comes last?", b)] {
                samples.push(serde_json::json!({ "id": samples.len(), "video": clip, "conversations": [
                    { "from": "human", "value": format!("<image>\n{question}") }, { "from": "gpt", "value": answer },
                ] }));
            }
        }
    }
    assert_eq!(samples.len(), 50);
    serde_json::to_string(&samples).unwrap()
}

fn blueprint() -> Blueprint {
    let text = [
        "USER: What colour is it? Which colour? What comes first? What comes last?",
        "ASSISTANT: red green blue white black",
    ];
    Blueprint::new(vocabulary::learn(text, 1), Variant::default(), 5).unwrap()
}

fn toy_set() -> Dataset<Paint> {
    let skipped = Skipped::new(0);
    Dataset {
        samples: dataset::read(toy().as_bytes(), &skipped).unwrap(),
        skipped,
        media: Paint,
        template: univi::prompt::Template::Bare,
        wraps_visuals: false,
        batch: 10,
        seed: 1,
        order: Default::default(),
    }
}

fn plan(steps: u64) -> Plan {
    Plan {
        steps,
        batch: 10,
        micro_batch: 5,
        threads: 2,
        rates: Rates {
            adam: 2e-3,
            muon: Some(4e-3),
            weight_decay: 0.,
        },
        schedule: Schedule {
            warmup_steps: 0.05,
            hold: 0.5,
            floor: 0.05,
            restart: None,
        },
        clip_norm: 1.,
    }
}

/// Runs until step `until`: the losses.
fn losses(trainer: &mut Trainer, task: &impl Task, plan: &Plan, until: u64) -> Vec<f32> {
    let mut losses = Vec::new();
    let run = trainer.run(task, plan, |_, report| {
        losses.push(report.loss);
        Ok(match report.step + 1 == until {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    });
    run.unwrap();
    losses
}

const LEARNS: fn(&str) -> bool = |name| !name.starts_with("v.");

/// The toy set as what a model of this shape learns.
fn toy_task(shape: &Shape) -> Conversations<'_, Dataset<Paint>> {
    Conversations {
        shape,
        examples: toy_set(),
        device: Device::Cpu,
        learns: LEARNS,
        eyes_learn_from_clips: true,
        reader: Reader::Model,
    }
}

#[test]
fn a_toy_set_is_learned_by_heart_and_told_after_export() {
    let mut blueprint = blueprint();
    let (shape, parameters) = blueprint.open(&Device::Cpu).unwrap();
    let task = toy_task(&shape);
    let plan = plan(80);
    let mut trainer = Trainer::new(parameters, LEARNS);
    let losses = losses(&mut trainer, &task, &plan, plan.steps);
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    assert!(mean(&losses[..5]) > 2., "it knew: {:?}", &losses[..5]);
    assert!(
        mean(&losses[losses.len() - 5..]) < 0.05,
        "it did not learn: {:?}",
        &losses[losses.len() - 20..]
    );

    // What was learned is what the exported checkpoint says.
    blueprint.put(&trainer.parameters).unwrap();
    let (shape, parameters) = blueprint.open(&Device::Cpu).unwrap();
    for (name, var) in trainer.parameters.iter() {
        let values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(parameters.f32s(name).unwrap(), values, "{name}");
    }
    let task = Conversations {
        shape: &shape,
        ..task
    };
    let examples: Vec<_> = (0..5)
        .flat_map(|step| (0..10).map(move |item| (step, item)))
        .collect();
    let examples: Vec<_> = examples
        .into_iter()
        .map(|(step, item)| task.examples.example(step, item).unwrap())
        .collect();
    let (logits, targets) = task.logits(&parameters, &examples).unwrap();
    let said: Vec<u32> = logits.argmax(1).unwrap().to_vec1().unwrap();
    assert_eq!(said, targets);
}

#[test]
fn after_a_break_the_losses_are_the_same_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    let blueprint = blueprint();
    let begin = || {
        let (shape, parameters) = blueprint.open(&Device::Cpu).unwrap();
        (shape, Trainer::new(parameters, LEARNS))
    };
    // Rates rise again after step 6, and the last of three pieces begins behind that.
    let mut plan = plan(8);
    plan.schedule.restart = Some(Restart {
        at: 0.75,
        height: 0.7,
    });
    let run =
        |shape, trainer: &mut Trainer, until| losses(trainer, &toy_task(&shape), &plan, until);
    let (shape, mut trainer) = begin();
    let whole = run(shape, &mut trainer, 8);

    let mut parts = Vec::new();
    let mut in_parts = begin().1;
    for until in [3, 7, 8] {
        let (shape, trainer) = begin();
        in_parts = trainer;
        if until > 3 {
            in_parts.resume(&state).unwrap();
        }
        parts.extend(run(shape, &mut in_parts, until));
        in_parts.save(&state).unwrap();
    }
    let bits = |losses: Vec<f32>| losses.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(parts), bits(whole));
    for (name, _) in trainer.parameters.iter() {
        let values = |trainer: &Trainer| bits(trainer.parameters.f32s(name).unwrap());
        assert_eq!(values(&in_parts), values(&trainer), "{name}");
    }
}

#[test]
fn after_a_restart_what_was_learned_is_the_mean_of_both_ends() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    let blueprint = blueprint();
    let (shape, parameters) = blueprint.open(&Device::Cpu).unwrap();
    let task = toy_task(&shape);
    let mut plan = plan(4);
    // The rates stay where they were, so that one trainer goes through all steps and another stops
    // at the first end.
    plan.schedule = Schedule {
        warmup_steps: 0.,
        hold: 0.,
        floor: 1.,
        restart: None,
    };
    let name = "mm.0.weight";
    let values = |trainer: &Trainer| trainer.parameters.f32s(name).unwrap();
    let mut straight = Trainer::new(parameters, LEARNS);
    losses(&mut straight, &task, &plan, 2);
    let first = values(&straight);
    straight.save(&state).unwrap();
    losses(&mut straight, &task, &plan, 4);
    let second = values(&straight);

    plan.schedule.restart = Some(Restart {
        at: 0.5,
        height: 1.,
    });
    let mut again = Trainer::new(blueprint.open(&Device::Cpu).unwrap().1, LEARNS);
    losses(&mut again, &task, &plan, 4);
    assert_ne!(first, second);
    let mean = first.iter().zip(&second).map(|(a, b)| 0.5 * (a + b));
    assert_eq!(values(&again), mean.collect::<Vec<_>>());
    let before = blueprint.open(&Device::Cpu).unwrap().1;
    let encoders = "v.patch_embd.weight";
    assert_eq!(
        again.parameters.f32s(encoders).unwrap(),
        before.f32s(encoders).unwrap()
    );

    // A state without the first end can't become a mean.
    let mut other = Trainer::new(blueprint.open(&Device::Cpu).unwrap().1, LEARNS);
    other.resume(&state).unwrap();
    let error = other.run(&task, &plan, |_, _| Ok(ControlFlow::Continue(())));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("remove its file to begin"), "{error}");
}

#[test]
fn a_batch_in_several_pieces_is_the_same_batch() {
    let blueprint = blueprint();
    let step = |micro_batch| {
        let (shape, parameters) = blueprint.open(&Device::Cpu).unwrap();
        let mut trainer = Trainer::new(parameters, LEARNS);
        let plan = Plan {
            micro_batch,
            ..plan(1)
        };
        let mut reports = Vec::new();
        let run = trainer.run(&toy_task(&shape), &plan, |_, report| {
            reports.push(report);
            Ok(ControlFlow::Continue(()))
        });
        run.unwrap();
        reports[0]
    };
    // Ten at once; four, four and two.
    let (whole, pieces) = (step(5), step(2));
    assert!(
        (whole.loss / pieces.loss - 1.).abs() < 1e-4,
        "{whole:?} {pieces:?}"
    );
    assert!(
        (whole.norm / pieces.norm - 1.).abs() < 1e-3,
        "{whole:?} {pieces:?}"
    );
}

#[test]
fn a_damaged_state_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    let (_, parameters) = blueprint().open(&Device::Cpu).unwrap();
    let mut trainer = Trainer::new(parameters, LEARNS);
    trainer.save(&state).unwrap();
    let bytes = std::fs::read(&state).unwrap();
    for damaged in [&b""[..], b"{}", &bytes[..bytes.len() / 2]] {
        std::fs::write(&state, damaged).unwrap();
        let error = trainer.resume(&state).unwrap_err();
        assert_eq!(error.code(), "bad-file", "{error}");
        assert!(error.to_string().contains("state.safetensors"), "{error}");
    }
}

#[test]
fn a_state_with_a_part_of_its_first_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    let blueprint = blueprint();
    let (shape, parameters) = blueprint.open(&Device::Cpu).unwrap();
    let mut plan = plan(2);
    plan.schedule.restart = Some(Restart {
        at: 0.5,
        height: 1.,
    });
    let mut trainer = Trainer::new(parameters, LEARNS);
    losses(&mut trainer, &toy_task(&shape), &plan, 1);
    trainer.save(&state).unwrap();
    trainer.resume(&state).unwrap();

    let bytes = std::fs::read(&state).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let left_out = "before_restart/mm.0.weight";
    let rest = file.tensors();
    let rest: Vec<_> = rest.into_iter().filter(|(n, _)| n != left_out).collect();
    assert_eq!(rest.len() + 1, file.len());
    std::fs::write(
        &state,
        safetensors::serialize(rest, header.metadata().clone()).unwrap(),
    )
    .unwrap();
    let error = trainer.resume(&state).unwrap_err();
    assert_eq!(error.code(), "bad-file", "{error}");
    assert!(error.to_string().contains("before the restart"), "{error}");
}

/// A loss that is no number.
struct Broken;

impl Task for Broken {
    type Item = ();

    fn item(&self, _: u64, _: usize) -> Result<Option<()>> {
        Ok(Some(()))
    }

    fn cost(&self, (): &()) -> f64 {
        1.
    }

    fn loss(&self, parameters: &Parameters, _: &[&()]) -> Result<Share> {
        let loss = parameters.var("mm.0.bias").sum_all().unwrap();
        let loss = (loss * f64::NAN).unwrap().reshape(1).unwrap();
        Ok(Share { loss, weight: 1. })
    }
}

#[test]
fn a_loss_that_is_no_number_ends_the_stage_and_changes_nothing() {
    let (_, parameters) = blueprint().open(&Device::Cpu).unwrap();
    let before = parameters.f32s("mm.0.bias").unwrap();
    let mut trainer = Trainer::new(parameters, LEARNS);
    let error = trainer
        .run(&Broken, &plan(2), |_, _| Ok(ControlFlow::Continue(())))
        .unwrap_err();
    assert!(
        error.to_string().contains("lower the learning rate"),
        "{error}"
    );
    assert_eq!(trainer.parameters.f32s("mm.0.bias").unwrap(), before);
}
