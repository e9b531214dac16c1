//! Training computes what inference computes, and its derivatives are right.

use std::{collections::BTreeMap, rc::Rc};

use candle_core::{Device, Tensor, Var, backprop::GradStore};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use univi::{
    Backend, Cpu,
    backend::{Activation, Heads, KvType},
    gguf::QuantizationPlan,
    image::Rgb8,
    loader::{LoadOptions, Loader, ModelFile},
    model::{ChatUniVi, PromptToken},
    prompt::{Conversation, PromptPart, PromptVisual, Template, Turn},
};
use univi_convert::checkpoint::Checkpoint;
use univi_train::{
    autograd::{Autograd, Packing, Sequence, cross_entropy},
    conversations::{Conversations, Example, Shape, VisualInput},
    nano::blueprint::{Blueprint, Variant},
    parameters::Parameters,
    reader::Reader,
    vocabulary,
};

/// Sums of a few hundred products in f32, in another order.
const TOLERANCE: f32 = 2e-5;

fn random(rng: &mut ChaCha8Rng, rows: usize, cols: usize) -> Tensor {
    let values: Vec<f32> = (0..rows * cols)
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap()
}

fn f32s(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1f32, |most, x| most.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs() / size;
        assert!(
            off <= tolerance,
            "{what}: number {i} is {found}, expected {expected}"
        );
    }
}

/// Computes the same with both backends, and compares results and gradients of all inputs.
fn same(
    what: &str,
    inputs: &[Tensor],
    fused: impl Fn(&[Tensor]) -> Tensor,
    composed: impl Fn(&[Tensor]) -> Tensor,
) {
    let run = |f: &dyn Fn(&[Tensor]) -> Tensor| {
        let vars: Vec<Var> = inputs
            .iter()
            .map(|x| Var::from_tensor(x).unwrap())
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let y = f(&tensors);
        // Every number of the result counts differently.
        let weights: Vec<f32> = (0..y.elem_count())
            .map(|i| (i as f32 * 0.7).sin())
            .collect();
        let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu).unwrap();
        let grads = (&y * weights)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let grads: Vec<Vec<f32>> = tensors
            .iter()
            .map(|x| f32s(grads.get(x).unwrap()))
            .collect();
        (f32s(&y), grads)
    };
    let ((y, grads), (expected_y, expected)) = (run(&fused), run(&composed));
    assert_close(what, &y, &expected_y, TOLERANCE);
    for (i, (found, expected)) in grads.iter().zip(&expected).enumerate() {
        assert_close(
            &format!("{what}, derivative {i}"),
            found,
            expected,
            TOLERANCE,
        );
    }
}

#[test]
fn fused_operations_and_their_derivatives_equal_the_composed_ones() {
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let b = Autograd::new(&Device::Cpu, Packing::default());
    // 37 columns are no whole number of lanes.
    let (x, row) = (random(rng, 12, 37), random(rng, 1, 37));
    let scaled = (&x * 4.).unwrap();
    same(
        "matmul",
        &[x.clone(), random(rng, 5, 37)],
        |x| b.matmul(&x[0], &x[1]),
        |x| x[0].matmul(&x[1].t().unwrap()).unwrap(),
    );
    let table = random(rng, 4, 37);
    for y in [&row, &table] {
        same(
            "add",
            &[x.clone(), y.clone()],
            |x| b.add(&x[0], &x[1]),
            |x| Cpu.add(&x[0], &x[1]),
        );
    }
    let quick = Activation::QuickGelu;
    same(
        "quick gelu",
        std::slice::from_ref(&scaled),
        |x| b.activate(&x[0], quick),
        |x| Cpu.activate(&x[0], quick),
    );
    same(
        "silu mul",
        &[scaled.clone(), x.clone()],
        |x| b.silu_mul(&x[0], &x[1]),
        |x| Cpu.silu_mul(&x[0], &x[1]),
    );
    same(
        "layer norm",
        &[scaled.clone(), row.clone(), random(rng, 1, 37)],
        |x| b.layer_norm(&x[0], &x[1], &x[2], 1e-5),
        |x| Cpu.layer_norm(&x[0], &x[1], &x[2], 1e-5),
    );
    same(
        "rms norm",
        &[scaled, row],
        |x| b.rms_norm(&x[0], &x[1], 1e-5),
        |x| Cpu.rms_norm(&x[0], &x[1], 1e-5),
    );
    let heads = Heads {
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
    };
    let (q, k, v) = (
        random(rng, 10, 32),
        random(rng, 10, 16),
        random(rng, 10, 16),
    );
    same(
        "attention",
        &[q, k, v],
        |x| b.attention(&x[0], &x[1], &x[2], heads, 2),
        |x| Cpu.attention(&x[0], &x[1], &x[2], heads, 2),
    );
    let groups = Cpu.ids(&[0, 1, 1, 0, 2, 2, 0, 1, 2, 0, 0, 1]);
    same(
        "merge",
        &[x],
        |x| b.merge(&x[0], &groups, 2, 3),
        |x| Cpu.merge(&x[0], &groups, 2, 3),
    );
}

#[test]
fn one_sequence_is_causal_attention_with_rotary_places() {
    let rng = &mut ChaCha8Rng::seed_from_u64(2);
    let rows = 11;
    let packing = Packing::new(vec![Sequence {
        prefix: rows,
        questions: Vec::new(),
    }]);
    let b = Autograd::new(&Device::Cpu, packing);
    let heads = Heads {
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
    };
    let table = random(rng, rows, 8);
    fn attention_of<B: Backend<Tensor = Tensor>>(
        b: &B,
        x: &[Tensor],
        table: &Tensor,
        heads: Heads,
    ) -> Tensor {
        let (q, k) = (b.rope(&x[0], table, 8, 0), b.rope(&x[1], table, 8, 0));
        let mut cache = b.kv_cache(16, 11, KvType::F32);
        pollster::block_on(b.reserve(&mut cache, 11)).unwrap();
        b.append(&mut cache, 0, &k, &x[2]);
        b.attention_causal(&q, &cache, heads, 0)
    }
    let inputs = [
        random(rng, rows, 32),
        random(rng, rows, 16),
        random(rng, rows, 16),
    ];
    same(
        "causal attention",
        &inputs,
        |x| attention_of(&b, x, &table, heads),
        |x| attention_of(&Cpu, x, &table, heads),
    );
}

#[test]
fn cross_entropy_is_the_mean_surprise() {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let logits = (random(rng, 3, 21) * 5.).unwrap();
    let (targets, weights) = ([4u32, 0, 20], [1f32, 0.5, 2.]);
    same(
        "cross entropy",
        &[logits],
        |x| cross_entropy(&x[0], &targets, &weights).unwrap(),
        |x| {
            let all = x[0].exp().unwrap().sum_keepdim(1).unwrap().log().unwrap();
            let targets = Tensor::from_slice(&targets, (3, 1), &Device::Cpu).unwrap();
            let weights = Tensor::from_slice(&weights, (3, 1), &Device::Cpu).unwrap();
            let surprise = (all - x[0].gather(&targets, 1).unwrap()).unwrap();
            (surprise * weights)
                .unwrap()
                .sum_all()
                .unwrap()
                .reshape(1)
                .unwrap()
        },
    );
}

fn words() -> Vec<u8> {
    let text = [
        "USER: What is in the picture? ASSISTANT: a dog and a cat",
        "Which way does it move? left, right",
    ];
    vocabulary::learn(text, 1)
}

fn picture(seed: u64) -> Rgb8 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Rgb8::new(96, 96, (0..96 * 96 * 3).map(|_| rng.random()).collect()).unwrap()
}

fn talk(visual: PromptVisual, turns: &[(&str, &str)]) -> Conversation {
    let turns = turns.iter().enumerate().map(|(i, (question, answer))| {
        let mut parts = Vec::new();
        if i == 0 {
            parts.push(PromptPart::Visual(visual));
        }
        parts.push(PromptPart::Text(question.to_string()));
        Turn {
            parts,
            answer: Some(answer.to_string()),
        }
    });
    Conversation {
        template: Template::Bare,
        system: None,
        wraps_visuals: false,
        turns: turns.collect(),
    }
}

/// The examples that the tests below learn from: a picture with three conversations, and a clip.
fn examples() -> Vec<Example> {
    let frames: Vec<Rgb8> = (10..15).map(picture).collect();
    let video = PromptVisual::Video {
        frames: frames.len(),
    };
    vec![
        Example {
            sights: vec![VisualInput::Image(picture(1))],
            conversations: vec![
                talk(
                    PromptVisual::Image,
                    &[("What is in the picture?", "a dog and a cat")],
                ),
                talk(
                    PromptVisual::Image,
                    &[
                        ("What is it?", "a dog"),
                        ("Which way does it move?", "left"),
                    ],
                ),
                talk(PromptVisual::Image, &[("Which?", "a cat")]),
            ],
        },
        Example {
            sights: vec![VisualInput::Video(frames)],
            conversations: vec![talk(video, &[("Which way does it move?", "left, right")])],
        },
    ]
}

/// The model as the command line would convert and load it, in f32.
fn loaded(blueprint: &Blueprint) -> Rc<ChatUniVi<Cpu>> {
    let (model, tower) = (
        Checkpoint::open(&blueprint.model).unwrap(),
        Checkpoint::open(&blueprint.tower).unwrap(),
    );
    let f32 = QuantizationPlan::parse("f32").unwrap();
    let files = BTreeMap::from([
        (
            "llm.gguf".to_string(),
            model.llm().unwrap().to_gguf(f32).unwrap(),
        ),
        (
            "vision.gguf".to_string(),
            model.vision(Some(&tower)).unwrap().to_gguf(f32).unwrap(),
        ),
    ]);
    let mut loader = Loader::new(
        Cpu,
        ModelFile::set("llm.gguf")
            .into_iter()
            .chain(ModelFile::set("vision.gguf"))
            .collect(),
    )
    .unwrap();
    while let Some(name) = loader.next_file().map(|file| file.name.clone()) {
        loader.push(&files[&name]).unwrap();
        loader.end_file().unwrap();
    }
    Rc::new(pollster::block_on(loader.finish(&LoadOptions::default())).unwrap())
}

/// What is learned of conversations that the tests bring themselves.
fn task(
    shape: &Shape,
    learns: fn(&str) -> bool,
    eyes_learn_from_clips: bool,
) -> Conversations<'_, ()> {
    Conversations {
        shape,
        examples: (),
        device: Device::Cpu,
        learns,
        eyes_learn_from_clips,
        reader: Reader::Model,
    }
}

#[test]
fn packed_conversations_get_the_logits_that_inference_gives() {
    let blueprint = Blueprint::new(words(), Variant::default(), 3).unwrap();
    let (shape, parameters) = blueprint.open(&Device::Cpu).unwrap();
    let task = task(&shape, |_| true, true);
    let (logits, targets) = task.logits(&parameters, &examples()).unwrap();
    let logits = logits.to_vec2::<f32>().unwrap();

    let model = loaded(&blueprint);
    let mut row = 0;
    for example in examples() {
        let visual = match &example.sights[0] {
            VisualInput::Image(picture) => {
                pollster::block_on(model.vision().unwrap().image(picture))
            }
            VisualInput::Video(frames) => pollster::block_on(
                model
                    .vision()
                    .unwrap()
                    .video(frames.iter().map(|frame| Ok(frame.clone()))),
            ),
            VisualInput::Symbols { .. } => unreachable!("the examples have none"),
        }
        .unwrap();
        for conversation in example.conversations {
            // Answer by answer, each as inference would read it.
            for turn in 0..conversation.turns.len() {
                let mut asked = conversation.clone();
                asked.turns.truncate(turn + 1);
                let answered = model
                    .prompt_tokens(&asked.prompt().unwrap(), std::slice::from_ref(&visual))
                    .unwrap();
                asked.turns[turn].answer = None;
                let question = model
                    .prompt_tokens(&asked.prompt().unwrap(), std::slice::from_ref(&visual))
                    .unwrap();
                let x = model.embed(&answered);
                let mut caches = model.llama().caches();
                let room = model.llama().reserve(&mut caches, answered.len());
                pollster::block_on(room).unwrap();
                let hidden = model.llama().forward(&x, &mut caches, 0);
                let expected = model.llama().logits(&hidden).to_vec2::<f32>().unwrap();
                for prompt_token in question.len()..answered.len() {
                    assert!(
                        matches!(answered[prompt_token], PromptToken::Token(id) if id == targets[row])
                    );
                    let what = format!("row {row}");
                    assert_close(&what, &logits[row], &expected[prompt_token - 1], 1e-4);
                    row += 1;
                }
            }
        }
    }
    assert_eq!(
        row,
        targets.len(),
        "every word of the assistant's is learned"
    );
}

#[test]
fn the_projectors_gradient_is_the_slope() {
    let blueprint = Blueprint::new(words(), Variant::default(), 4).unwrap();
    let (shape, parameters) = blueprint.open(&Device::Cpu).unwrap();
    let task = task(&shape, |name| name.starts_with("mm."), true);
    let grads = slopes(&task, &parameters, &["mm.0.weight", "mm.0.bias"]);
    assert!(
        grads
            .get(parameters.var("blk.0.attn_q.weight").as_tensor())
            .is_none(),
        "the language model is frozen"
    );
}

#[test]
fn the_eyes_gradient_is_the_slope_through_merging_too() {
    let blueprint = Blueprint::new(words(), Variant::default(), 4).unwrap();
    let (shape, parameters) = blueprint.open(&Device::Cpu).unwrap();
    let task = task(&shape, |_| true, true);
    let names = [
        "v.patch_embd.weight",
        "v.position_embd.weight",
        "v.blk.4.ffn_down.weight",
    ];
    slopes(&task, &parameters, &names);
}

#[test]
fn eyes_learn_from_clips_only_where_that_is_wanted() {
    let blueprint = Blueprint::new(words(), Variant::default(), 4).unwrap();
    let (shape, parameters) = blueprint.open(&Device::Cpu).unwrap();
    let [of_picture, of_clip] = examples().try_into().unwrap_or_else(|_| unreachable!());
    let learned = |example: &Example, eyes_learn_from_clips| {
        let task = task(&shape, |_| true, eyes_learn_from_clips);
        let examples = std::slice::from_ref(example);
        let (logits, targets) = task.logits(&parameters, examples).unwrap();
        let weights = vec![1.; targets.len()];
        let loss = cross_entropy(&logits, &targets, &weights).unwrap();
        let grads = loss.backward().unwrap();
        ["v.patch_embd.weight", "mm.0.weight"]
            .map(|name| grads.get(parameters.var(name).as_tensor()).is_some())
    };
    assert_eq!(learned(&of_picture, true), [true, true]);
    assert_eq!(learned(&of_picture, false), [true, true]);
    assert_eq!(learned(&of_clip, true), [true, true]);
    assert_eq!(learned(&of_clip, false), [false, true]);
}

/// Compares the gradients of these parameters with how the loss changes along them, and gives all
/// gradients.
fn slopes(task: &Conversations<()>, parameters: &Parameters, names: &[&str]) -> GradStore {
    let loss = || {
        let (logits, targets) = task.logits(parameters, &examples()).unwrap();
        cross_entropy(&logits, &targets, &vec![1.; targets.len()]).unwrap()
    };
    let grads = loss().backward().unwrap();
    for name in names {
        let var = parameters.var(name);
        let gradient = f32s(grads.get(var.as_tensor()).unwrap());
        let before = parameters.f32s(name).unwrap();
        // Along the gradient the loss is steepest, and rounding matters least.
        let length = gradient.iter().map(|x| x * x).sum::<f32>().sqrt();
        let moved = |by: f32| {
            let x: Vec<f32> = before
                .iter()
                .zip(&gradient)
                .map(|(x, g)| x + by * g / length)
                .collect();
            var.set(&Tensor::from_vec(x, var.shape(), &Device::Cpu).unwrap())
                .unwrap();
            f32s(&loss())[0]
        };
        // So short that no patch of these pictures changes its cluster: there the loss jumps.
        let step = 1e-3;
        let slope = (moved(step) - moved(-step)) / (2. * step);
        moved(0.);
        assert!(
            (slope - length).abs() <= 1e-2 * length,
            "{name}: slope {slope}, gradient {length}"
        );
    }
    grads
}
