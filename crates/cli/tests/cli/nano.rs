//! The model that ships answers right, on both backends, and a model can be trained from the
//! command line.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{path, refused, run, said, scratch, univi};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What `univi eval nano` counts: (kind, asked, right, majority).
fn scores(device: &str, questions: &str, styles: &str) -> Vec<(String, u64, u64, u64)> {
    scores_with(device, questions, styles, "f32")
}

fn scores_with(
    device: &str,
    questions: &str,
    styles: &str,
    kv_cache: &str,
) -> Vec<(String, u64, u64, u64)> {
    let out = univi(&[
        "eval",
        "nano",
        "--model",
        path(&root().join("models/univi-nano")),
        "--artwork",
        path(&root().join("crates/train/artwork/node_modules")),
        "--device",
        device,
        "--kv-cache",
        kv_cache,
        "--questions",
        questions,
        "--styles",
        styles,
        "--json",
    ]);
    let report: Value = serde_json::from_str(&out).unwrap();
    let scores = report["sets"][0]["scores"].as_array().unwrap().clone();
    let number = |score: &Value, key: &str| score[key].as_u64().unwrap();
    let scores = scores.iter().map(|score| {
        (
            score["kind"].as_str().unwrap().to_string(),
            number(score, "asked"),
            number(score, "right"),
            number(score, "majority"),
        )
    });
    scores.collect()
}

fn sum(scores: &[(String, u64, u64, u64)], of: fn(&(String, u64, u64, u64)) -> u64) -> f64 {
    scores.iter().map(of).sum::<u64>() as f64
}

#[test]
fn the_model_that_ships_is_right_about_scenes_and_clips_that_it_has_not_seen() {
    let scores = scores("cpu", "150", "seen");
    let (asked, right, majority) = (
        sum(&scores, |s| s.1),
        sum(&scores, |s| s.2),
        sum(&scores, |s| s.3),
    );
    assert!(right / asked > 0.9, "{scores:?}");
    assert!(
        majority / asked < 0.5,
        "the questions give themselves away: {scores:?}"
    );
}

#[test]
fn it_knows_many_things_in_a_style_that_it_has_not_seen() {
    let scores = scores("cpu", "150", "unseen");
    assert!(
        sum(&scores, |s| s.2) / sum(&scores, |s| s.1) > 0.7,
        "{scores:?}"
    );
}

#[test]
fn an_end_that_the_answer_does_not_show_is_told() {
    let (model, picture) = (
        root().join("models/univi-nano"),
        root().join("www/public/samples/penguin-cookie.png"),
    );
    let ask = |answer: &str, max_tokens: &str| {
        let prompt = format!("USER: <image>\nCan you see a penguin? ASSISTANT:{answer}");
        let mut args = vec!["ask", "--model", path(&model), "--image", path(&picture)];
        args.extend(["--device", "cpu", "--greedy", "--max-tokens", max_tokens]);
        args.extend(["--raw-prompt", &prompt]);
        let output = run(&args, "");
        let stderr = String::from_utf8(output.stderr.clone()).unwrap();
        (said(&args, output), stderr)
    };
    assert_eq!(ask("", "9"), ("yes\n".into(), String::new()));
    // The prompt has the whole answer: nothing is left to say.
    let (answer, stderr) = ask(" yes", "9");
    assert_eq!(answer, "\n");
    assert!(stderr.contains("no answer"), "{stderr}");
    let (answer, stderr) = ask("", "1");
    assert_eq!(answer, "yes\n");
    assert!(stderr.contains("--max-tokens"), "{stderr}");
}

#[test]
fn both_backends_are_right_about_the_same() {
    let (cpu, gpu) = (scores("cpu", "18", "seen"), scores("gpu", "18", "seen"));
    // A sum in another order may tip one answer.
    let apart: u64 = cpu.iter().zip(&gpu).map(|(a, b)| a.2.abs_diff(b.2)).sum();
    assert!(apart <= 1, "{cpu:?}\n{gpu:?}");
}

#[test]
fn it_is_as_right_with_keys_and_values_in_bytes() {
    let exact = scores("cpu", "18", "seen");
    for device in ["cpu", "gpu"] {
        let rounded = scores_with(device, "18", "seen", "q8");
        let apart: u64 = exact
            .iter()
            .zip(&rounded)
            .map(|(a, b)| a.2.abs_diff(b.2))
            .sum();
        assert!(apart <= 1, "{device}: {exact:?}\n{rounded:?}");
    }
}

#[test]
fn a_stage_trains_a_checkpoint_that_converts_and_answers() {
    let dir = scratch("train");
    let picture = image::RgbImage::from_pixel(40, 40, image::Rgb([200, 30, 30]));
    fs::create_dir_all(dir.join("media")).unwrap();
    picture.save(dir.join("media/red.png")).unwrap();
    let data = r#"[{ "id": "1", "image": "red.png", "conversations": [
        { "from": "human", "value": "<image>\nWhat colour?" }, { "from": "gpt", "value": "red" }] }]"#;
    fs::write(dir.join("data.json"), data).unwrap();
    let checkpoint = crate::e2e().join("checkpoint");
    let tower = crate::e2e().join("openai/clip-vit-tiny-random-patch14");
    let out = dir.join("out");
    for stage in ["pretrain", "tune"] {
        let from = if stage == "pretrain" {
            checkpoint.clone()
        } else {
            dir.join("pretrain")
        };
        univi(&[
            "train",
            stage,
            path(&from),
            "--vision-tower",
            path(&tower),
            "--data",
            path(&dir.join("data.json")),
            "--media",
            path(&dir.join("media")),
            "--out",
            path(&dir.join(stage)),
            "--epochs",
            "12",
            "--batch",
            "1",
            "--rate",
            "0.02",
        ]);
        assert!(
            fs::read_to_string(dir.join(stage).join(format!("{stage}.csv")))
                .unwrap()
                .lines()
                .count()
                == 13
        );
        assert!(
            fs::read_to_string(dir.join(stage).join(format!("{stage}.svg")))
                .unwrap()
                .starts_with("<svg")
        );
    }
    // What is exported is what the reference reads: the same names, the same shapes, all of them.
    let bytes = fs::read(dir.join("tune/model.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let names = fs::read_to_string(crate::e2e().join("state_dict_names.json")).unwrap();
    let names: Value = serde_json::from_str(&names).unwrap();
    let mut count = 0;
    for (name, shape) in names["checkpoint"].as_object().unwrap() {
        if !name.ends_with("inv_freq") && !name.contains("vision_tower") {
            assert_eq!(&header[name]["shape"], shape, "{name}");
            count += 1;
        }
    }
    assert_eq!(
        header.as_object().unwrap().len(),
        count + 1,
        "nothing else but the header's own entry"
    );

    univi(&[
        "convert",
        path(&dir.join("tune")),
        "--vision-tower",
        path(&tower),
        "--template",
        "v1",
        "--quant",
        "f32",
        "--vision-quant",
        "f32",
        "--out",
        path(&out),
    ]);
    let said = univi(&[
        "ask",
        "--model",
        path(&out),
        "--device",
        "cpu",
        "--greedy",
        "--max-tokens",
        "8",
        "--image",
        path(&dir.join("media/red.png")),
        "What colour?",
    ]);
    assert_eq!(said.trim(), "red");

    // An encoder that learned is a tower of its own.
    let seeing = dir.join("seeing");
    univi(&[
        "train",
        "tune",
        path(&dir.join("tune")),
        "--vision-tower",
        path(&tower),
        "--data",
        path(&dir.join("data.json")),
        "--media",
        path(&dir.join("media")),
        "--out",
        path(&seeing),
        "--epochs",
        "1",
        "--batch",
        "1",
        "--rate",
        "1e-4",
        "--learn-vision",
    ]);
    let learned = fs::read(seeing.join("vision-tower/model.safetensors")).unwrap();
    assert_ne!(learned, fs::read(tower.join("model.safetensors")).unwrap());
    univi(&[
        "convert",
        path(&seeing),
        "--vision-tower",
        path(&seeing.join("vision-tower")),
        "--quant",
        "f16",
        "--out",
        path(&dir.join("seeing-model")),
    ]);

    // A tower inside the shards stays there, with the block that no feature depends on: the next
    // stage and `convert` count its blocks alike.
    let nested = dir.join("nested");
    fs::create_dir_all(&nested).unwrap();
    for name in ["config.json", "tokenizer.model", "tokenizer_config.json"] {
        fs::copy(seeing.join(name), nested.join(name)).unwrap();
    }
    let inside = nest(
        &fs::read(seeing.join("model.safetensors")).unwrap(),
        &fs::read(tower.join("model.safetensors")).unwrap(),
    );
    let of_tower = |file: &[u8]| -> Vec<String> {
        let (header, _) = safetensors(file);
        let names = header.keys().filter(|name| name.contains("vision_tower"));
        names.cloned().collect()
    };
    let all = of_tower(&inside);
    assert!(
        all.iter().any(|name| name.contains("layers.3.")) && all.len() == 71,
        "{all:?}"
    );
    fs::write(nested.join("model.safetensors"), inside).unwrap();
    let again = dir.join("nested-tuned");
    univi(&[
        "train",
        "tune",
        path(&nested),
        "--vision-tower",
        path(&tower),
        "--data",
        path(&dir.join("data.json")),
        "--media",
        path(&dir.join("media")),
        "--out",
        path(&again),
        "--epochs",
        "1",
        "--batch",
        "1",
        "--rate",
        "1e-4",
        "--learn-vision",
    ]);
    assert!(!again.join("vision-tower").exists());
    assert_eq!(
        of_tower(&fs::read(again.join("model.safetensors")).unwrap()),
        all
    );
    let blocks = |checkpoint: &Path, out: &str| {
        let out = dir.join(out);
        let convert = ["convert", path(checkpoint), "--vision-tower", path(&tower)];
        univi(&[&convert[..], &["--quant", "f16", "--out", path(&out)]].concat());
        let report: Value =
            serde_json::from_str(&univi(&["inspect", path(&out), "--json"])).unwrap();
        let mut sides = report["sides"].as_array().unwrap().iter();
        let vision = sides.find(|side| side["kind"] == "vision").unwrap();
        vision["blocks"].as_u64().unwrap()
    };
    assert_eq!(blocks(&nested, "nested-model"), 3);
    assert_eq!(blocks(&again, "nested-tuned-model"), 3);
}

/// The header of a safetensors file, and the data behind it.
fn safetensors(file: &[u8]) -> (serde_json::Map<String, Value>, &[u8]) {
    let end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&file[8..end]).unwrap();
    header.remove("__metadata__");
    (header, &file[end..])
}

/// A model with a vision tower in its shards, under the names of newer transformers.
fn nest(model: &[u8], tower: &[u8]) -> Vec<u8> {
    let (mut header, data) = safetensors(model);
    let (tower, tower_data) = safetensors(tower);
    let mut data = data.to_vec();
    for (name, mut info) in tower {
        if name.starts_with("vision_model.") && info["dtype"] != "I64" {
            let [start, end] = [0, 1].map(|i| info["data_offsets"][i].as_u64().unwrap() as usize);
            let at = data.len();
            data.extend(&tower_data[start..end]);
            info["data_offsets"] = serde_json::json!([at, data.len()]);
            header.insert(format!("model.vision_tower.{name}"), info);
        }
    }
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], &header, &data].concat()
}

#[test]
fn answers_are_held_to_a_json_schema() {
    let dir = scratch("schema");
    let (schema, wrong) = (dir.join("schema.json"), dir.join("wrong.json"));
    let text = r#"{"type": "object", "properties": {"seen": {"type": "boolean"}, "count": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["seen", "count"]}"#;
    fs::write(&schema, text).unwrap();
    fs::write(&wrong, r#"{"type": "objekt"}"#).unwrap();
    let (model, picture) = (
        root().join("models/univi-nano"),
        root().join("www/public/samples/trophies-bee.png"),
    );
    let args = |schema| {
        [
            "ask",
            "-m",
            path(&model),
            "--device",
            "cpu",
            "--greedy",
            "--image",
            path(&picture),
            "--json-schema",
            schema,
            "How many trophies are there?",
        ]
    };
    let said: Value = serde_json::from_str(&univi(&args(path(&schema)))).unwrap();
    assert!(said["seen"].is_boolean(), "{said}");
    assert!(said["count"].as_u64().unwrap() <= 9, "{said}");
    assert_eq!(said.as_object().unwrap().len(), 2);
    refused(
        &args(path(&wrong)),
        "wrong.json: the JSON schema can't be used: #/type is \"objekt\"",
    );
}
