//! The paper's claims in small: dynamic merging beside other ways to visual tokens, and images,
//! clips and both, each trained for equally many steps from the same vision encoder and the same
//! language model.
//!
//! `cargo run --release -p univi-train --example ablation -- training/nano 400`
//! takes the states of `univi train nano` and prints a table. Answers are right where every token
//! is, the one that ends them included: what greedy decoding would say.

use std::{collections::BTreeMap, env, ops::ControlFlow, path::Path, time::Instant};

use candle_core::Device;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use univi::Result;
use univi_train::{
    conversations::{Conversations, Example, VisualInput},
    nano::{
        blueprint::{Blueprint, Variant, normal},
        data::{self, Mixture, WorldConversations},
        eval,
        recipe::{Stage, TrainingRecipe},
    },
    reader::Reader,
    trainer::Trainer,
    world::{Kind, Styles, World},
};

/// Questions that each run is measured on, for each choice of styles.
const QUESTIONS: usize = 700;

struct Run {
    name: &'static str,
    reader: Reader,
    variant: Variant,
    mixture: Mixture,
}

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let folder = args.next().unwrap_or("training/nano".into());
    let folder = Path::new(&folder);
    let steps: u64 = args.next().and_then(|n| n.parse().ok()).unwrap_or(400);
    let artwork = Path::new(env!("CARGO_MANIFEST_DIR")).join("artwork/node_modules");
    let world = World::open(&artwork)?;
    let whole = Run {
        name: "merging, three stages",
        reader: Reader::Model,
        variant: Variant::default(),
        mixture: Mixture::JOINT,
    };
    let runs = [
        Run {
            name: "all patches",
            variant: Variant {
                merges: false,
                ..whole.variant
            },
            ..whole
        },
        Run {
            name: "average pooling, 6 x 7",
            reader: Reader::Pooled { rows: 6, cols: 7 },
            ..whole
        },
        Run {
            name: "42 learned queries",
            reader: Reader::Queries { count: 42 },
            ..whole
        },
        Run {
            name: "finest stage alone",
            reader: Reader::Finest,
            ..whole
        },
        Run {
            name: "no temporal position",
            variant: Variant {
                temporal_position: false,
                ..whole.variant
            },
            ..whole
        },
        Run {
            name: "images alone",
            mixture: Mixture {
                clips: 0.,
                ..whole.mixture
            },
            ..whole
        },
        Run {
            name: "clips alone",
            mixture: Mixture {
                clips: 1.,
                ..whole.mixture
            },
            ..whole
        },
    ];
    println!("{steps} steps each\n");
    println!(
        "| trained | tokens, picture / clip of 8 frames | ms to read a picture and a question | seen: pictures | seen: clips | unseen: pictures | unseen: clips |"
    );
    println!("|---|---|---|---|---|---|---|");
    for run in std::iter::once(&whole).chain(&runs) {
        let line = run.measure(&world, folder, steps)?;
        println!("{line}");
    }
    Ok(())
}

impl Run {
    fn measure(&self, world: &World, folder: &Path, steps: u64) -> Result<String> {
        let device = Device::Cpu;
        let recipe = TrainingRecipe {
            world,
            seed: 1,
            threads: 2,
            scale: 1.,
            variant: self.variant,
            device: device.clone(),
        };
        let mut blueprint: Blueprint = recipe.begin()?;
        // The stages before are done: nothing but their states is read.
        for stage in [Stage::Vision, Stage::Speech] {
            let state = folder.join(format!("{}.safetensors", stage.name()));
            recipe.stage(&mut blueprint, stage, &state, &mut |_| {
                ControlFlow::Break(())
            })?;
        }
        let (shape, parameters) = blueprint.open(&device)?;
        recipe.fit_projector(&shape, &parameters)?;
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let own = self
            .reader
            .parameters(&shape.vision, &mut || normal(&mut rng))?;
        let learns: fn(&str) -> bool = |name| !name.starts_with("v.");
        let task = Conversations {
            shape: &shape,
            examples: WorldConversations {
                world,
                seed: 77,
                mixture: self.mixture,
                captions: false,
            },
            device,
            learns,
            eyes_learn_from_clips: true,
            reader: self.reader,
        };
        let mut trainer = Trainer::new(parameters.join(own), learns);
        let mut plan = Stage::Joint.plan(2, 1.);
        plan.steps = steps;
        trainer.run(&task, &plan, |_, _| Ok(ControlFlow::Continue(())))?;

        let still = Conversations {
            examples: (),
            learns: |_| false,
            eyes_learn_from_clips: true,
            device: Device::Cpu,
            shape: &shape,
            reader: self.reader,
        };
        let mut shares = Vec::new();
        for styles in [Styles::Seen, Styles::Unseen] {
            let mut right: BTreeMap<bool, [usize; 2]> = BTreeMap::new();
            for (number, kind) in eval::kinds(QUESTIONS).into_iter().enumerate() {
                let (view, exchange) = eval::question(world, styles, number, kind);
                let example = data::example(view, &exchange);
                let (logits, targets) = still.logits(&trainer.parameters, &[example])?;
                let said: Vec<u32> = logits
                    .argmax(1)
                    .and_then(|x| x.to_vec1())
                    .expect("on the CPU");
                let counts = right.entry(kind.of_clip()).or_default();
                counts[0] += usize::from(said == targets);
                counts[1] += 1;
            }
            for counts in right.values() {
                shares.push(format!(
                    "{:.1} %",
                    100. * counts[0] as f64 / counts[1] as f64
                ));
            }
        }
        let (tokens, ms) = self.cost(world, &still, &trainer)?;
        Ok(format!(
            "| {} | {tokens} | {ms:.1} | {} |",
            self.name,
            shares.join(" | ")
        ))
    }

    /// Visual tokens, and the time of one thread to read a picture and a question.
    fn cost(
        &self,
        world: &World,
        task: &Conversations<()>,
        trainer: &Trainer,
    ) -> Result<(String, f64)> {
        let (view, exchange) = eval::question(world, Styles::Seen, 0, Kind::Where);
        let picture = data::example(view, &exchange);
        let pixels = match &picture.sights[0] {
            VisualInput::Image(pixels) => pixels.clone(),
            _ => unreachable!("where is asked about pictures"),
        };
        let clip = Example {
            sights: vec![VisualInput::Video(vec![pixels; 8])],
            conversations: Vec::new(),
        };
        let tokens = |example: &Example| task.visual_tokens(&trainer.parameters, example);
        let tokens = format!("{} / {}", tokens(&picture)?[0], tokens(&clip)?[0]);
        let mut times: Vec<f64> = Vec::new();
        for _ in 0..21 {
            let start = Instant::now();
            task.logits(&trainer.parameters, std::slice::from_ref(&picture))?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok((tokens, times[10]))
    }
}
