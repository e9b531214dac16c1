//! The two stages on data of one's own: from a plain LLaMA, from data as it is published, and with
//! what goes wrong on the way.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{e2e, path, run, scratch, univi};

fn tower() -> PathBuf {
    e2e().join("openai/clip-vit-tiny-random-patch14")
}

/// The tensors of a safetensors file: (type, shape, bytes) by name.
type Tensors = BTreeMap<String, (String, Vec<u64>, Vec<u8>)>;

fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..data]).unwrap();
    let tensors = header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__");
    let tensors = tensors.map(|(name, info)| {
        let offset = |i: usize| data + info["data_offsets"][i].as_u64().unwrap() as usize;
        let shape: Vec<u64> = serde_json::from_value(info["shape"].clone()).unwrap();
        let dtype = info["dtype"].as_str().unwrap().to_string();
        (name, (dtype, shape, bytes[offset(0)..offset(1)].to_vec()))
    });
    tensors.collect()
}

fn write_tensors(path: &Path, tensors: &Tensors) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
    for (name, (dtype, shape, bytes)) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(
            name.clone(),
            json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }),
        );
        data.extend(bytes);
    }
    let header = Value::Object(header).to_string().into_bytes();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    fs::write(path, file).unwrap();
}

/// A folder with pictures and a clip.
fn media(dir: &Path) -> PathBuf {
    let media = dir.join("media");
    fs::create_dir_all(media.join("train/1")).unwrap();
    let picture = |colour: [u8; 3]| image::RgbImage::from_pixel(40, 40, image::Rgb(colour));
    picture([200, 30, 30]).save(media.join("red.png")).unwrap();
    picture([30, 30, 200])
        .save(media.join("train/1/image.png"))
        .unwrap();
    let noise = image::RgbImage::from_fn(64, 64, |x, y| {
        image::Rgb([
            (x * 37 + y * 101) as u8,
            (x * y) as u8,
            ((x * 7) ^ (y * 13)) as u8,
        ])
    });
    noise.save(media.join("whole.png")).unwrap();
    let whole = fs::read(media.join("whole.png")).unwrap();
    fs::write(media.join("cut.png"), &whole[..whole.len() / 3]).unwrap();
    fs::write(media.join("empty.png"), "").unwrap();
    // A folder of frames is a clip, too.
    fs::create_dir_all(media.join("v_1.mp4")).unwrap();
    for i in 0..3u8 {
        let frame = picture([80 * i, 40, 40]);
        frame.save(media.join(format!("v_1.mp4/{i}.png"))).unwrap();
    }
    media
}

fn talk(question: &str, answer: &str) -> Value {
    json!([{ "from": "human", "value": question }, { "from": "gpt", "value": answer }])
}

/// `univi train STAGE BASE .. --batch 1 --threads 1`, on the small reference checkpoint's tower.
fn train(stage: &str, base: &Path, dir: &Path, out: &Path, more: &[&str]) -> std::process::Output {
    let (tower, data, media) = (tower(), dir.join("data.json"), dir.join("media"));
    let mut args = vec!["train", stage, path(base), "--vision-tower", path(&tower)];
    args.extend([
        "--data",
        path(&data),
        "--media",
        path(&media),
        "--out",
        path(out),
    ]);
    args.extend(["--batch", "1", "--threads", "1"]);
    args.extend(more);
    run(&args, "")
}

#[track_caller]
fn succeeds(output: &std::process::Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    stderr
}

#[track_caller]
fn fails(output: &std::process::Output, says: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("error: ") && last.contains(says),
        "{stderr:?} does not say {says:?}"
    );
}

/// All files below a folder, with what is in them.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    found
}

#[test]
fn a_plain_llama_gets_a_projector_and_stage_two_takes_it() {
    let dir = scratch("train-from-llama");
    media(&dir);
    let data =
        json!([{ "id": "1", "image": "red.png", "conversations": talk("<image>\nWhat?", "red") }]);
    fs::write(dir.join("data.json"), data.to_string()).unwrap();

    // The language model of the small Chat-UniVi alone, as Vicuna is published.
    let first = dir.join("first");
    let more = ["--epochs", "1", "--rate", "1e-9"];
    succeeds(&train(
        "pretrain",
        &e2e().join("checkpoint"),
        &dir,
        &first,
        &more,
    ));
    let vicuna = dir.join("vicuna");
    fs::create_dir_all(&vicuna).unwrap();
    let mut weights = tensors(&first.join("model.safetensors"));
    weights.retain(|name, _| !name.contains("mm_projector"));
    write_tensors(&vicuna.join("model.safetensors"), &weights);
    fs::copy(
        first.join("tokenizer.model"),
        vicuna.join("tokenizer.model"),
    )
    .unwrap();
    let config = fs::read(first.join("config.json")).unwrap();
    let mut config: serde_json::Map<String, Value> = serde_json::from_slice(&config).unwrap();
    config.retain(|key, _| !key.starts_with("mm_") && !["config", "use_mm_proj"].contains(&&**key));
    config["model_type"] = json!("llama");
    config["architectures"] = json!(["LlamaForCausalLM"]);
    fs::write(
        vicuna.join("config.json"),
        Value::Object(config).to_string(),
    )
    .unwrap();

    // Stage two has nothing to go on from.
    fails(
        &train("tune", &vicuna, &dir, &dir.join("none"), &[]),
        "vicuna has no projector: train one",
    );
    assert!(!dir.join("none").exists());

    let stage1 = dir.join("stage1");
    let said = succeeds(&train(
        "pretrain",
        &vicuna,
        &dir,
        &stage1,
        &["--epochs", "4"],
    ));
    // 48 channels to 96, and a bias.
    assert!(
        said.contains(&format!("pretrain: {} of", 48 * 96 + 96)),
        "{said}"
    );
    let config = fs::read_to_string(stage1.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["mm_hidden_size"], 48);
    assert_eq!(
        config["mm_vision_tower"],
        "openai/clip-vit-tiny-random-patch14"
    );
    assert_eq!(config["config"]["use_cluster"], true);
    // What did not learn is as it was, bit by bit; its state does not hold it.
    let learned = tensors(&stage1.join("model.safetensors"));
    for (name, tensor) in &weights {
        assert!(learned[name] == *tensor, "{name} has changed");
    }
    let state = tensors(&stage1.join("state.safetensors"));
    assert!(
        state.keys().all(|name| name.contains("/mm.")),
        "{:?}",
        state.keys()
    );

    // Stage two goes on from the folder, or from the projector alone beside the LLaMA.
    let more = ["--epochs", "1"];
    succeeds(&train("tune", &stage1, &dir, &dir.join("stage2"), &more));
    let mut projector = learned;
    projector.retain(|name, _| name.contains("mm_projector"));
    let projector = projector
        .into_iter()
        .map(|(name, tensor)| (format!("base_model.model.{name}"), tensor));
    let file = dir.join("mm_projector.safetensors");
    write_tensors(&file, &projector.collect());
    let beside = dir.join("beside");
    let more = ["--epochs", "1", "--projector", path(&file)];
    succeeds(&train("tune", &vicuna, &dir, &beside, &more));
    let [a, b] =
        ["stage2", "beside"].map(|name| tensors(&dir.join(name).join("model.safetensors")));
    assert!(a == b, "the two ways learn something else");
    fails(
        &train("tune", &stage1, &dir, &dir.join("none"), &more),
        "has a projector of its own",
    );

    univi(&[
        "convert",
        path(&dir.join("stage2")),
        "--vision-tower",
        path(&tower()),
        "--quant",
        "f16",
        "--out",
        path(&dir.join("model")),
    ]);
}

#[test]
fn data_is_learned_from_as_it_is_published() {
    let dir = scratch("train-published");
    let media = media(&dir);
    let good = json!([
        { "id": "marker", "video": "v_1.mp4", "conversations": talk("<video>\nWhat happens?", "It moves.") },
        { "id": "gpt", "conversations": [
            { "from": "gpt", "value": "Hello." }, { "from": "human", "value": "Hi" },
            { "from": "gpt", "value": "Yes?" }, { "from": "human", "value": "Bye" },
        ] },
        { "id": "windows", "image": "train\\1\\image.png", "conversations": talk("<image>\nWhich?", "A.") },
        { "id": "two", "image": ["red.png", "whole.png"], "conversations": talk("<image><image>\nAlike?", "No.") },
        { "id": "word", "conversations": talk("What does <image> mean in HTML?", "A tag.") },
    ]);
    fs::write(dir.join("data.json"), good.to_string()).unwrap();
    // A second file and a second folder; Video-ChatGPT's names lack an ending.
    let lines = "{ \"q\": \"What happens?\", \"a\": \"It moves.\", \"video_id\": \"v_1\" }\n\n\
                 { \"id\": \"bad\", \"image\": \"gone.png\", \"conversations\": [{ \"from\": \"human\", \
                 \"value\": \"<image>\" }, { \"from\": \"gpt\", \"value\": \"x\" }] }\n";
    fs::write(dir.join("more.jsonl"), lines).unwrap();
    let elsewhere = dir.join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::rename(media.join("red.png"), elsewhere.join("red.png")).unwrap();

    let (more, folder) = (dir.join("more.jsonl"), elsewhere);
    let args = [
        "--data",
        path(&more),
        "--media",
        path(&folder),
        "--epochs",
        "1",
    ];
    let out = dir.join("out");
    let said = succeeds(&train("tune", &e2e().join("checkpoint"), &dir, &out, &args));
    assert!(said.contains("6 steps of 1 samples"), "{said}");
    assert!(
        said.contains("skipped sample bad: gone.png is not in"),
        "{said}"
    );
    assert!(said.contains("1 sample skipped"), "{said}");
}

#[test]
fn a_bad_sample_is_skipped_by_its_id_and_too_many_end_the_run_with_what_was_learned() {
    let dir = scratch("train-bad");
    media(&dir);
    let ok = |id: usize| json!({ "id": id, "image": "red.png", "conversations": talk("<image>\nWhat?", "red") });
    let mut data: Vec<Value> = (0..6).map(ok).collect();
    let bad = [
        ("gone", "gone.png", "What?", "red", "gone.png is not in"),
        ("empty", "empty.png", "What?", "red", "the file is empty"),
        ("silent", "red.png", "What?", "", "an answer is empty"),
        ("long", "red.png", "word ", "red", "2048"),
        ("cut", "cut.png", "What?", "red", "cut.png"),
    ];
    for (id, image, question, answer, _) in bad {
        let question = if id == "long" {
            question.repeat(3000)
        } else {
            question.into()
        };
        let talk = talk(&format!("<image>\n{question}"), answer);
        data.push(json!({ "id": id, "image": image, "conversations": talk }));
    }
    fs::write(dir.join("data.json"), json!(data).to_string()).unwrap();
    let base = e2e().join("checkpoint");

    let said = succeeds(&train(
        "tune",
        &base,
        &dir,
        &dir.join("all"),
        &["--epochs", "1"],
    ));
    for (id, _, _, _, reason) in bad {
        let line = said
            .lines()
            .find(|line| line.starts_with(&format!("skipped sample {id}:")));
        assert!(
            line.is_some_and(|line| line.contains(reason)),
            "{id}: {said}"
        );
    }
    assert!(said.contains("5 samples skipped"), "{said}");
    // The damaged picture is found when it is decoded; the others were not among the steps.
    assert!(said.contains("7 steps of 1 samples"), "{said}");

    // With a lower limit the run is refused before its first step, or stops and keeps what it has.
    fails(
        &train(
            "tune",
            &base,
            &dir,
            &dir.join("none"),
            &["--skip-limit", "3"],
        ),
        "at most 3 may be skipped",
    );
    assert!(!dir.join("none").exists());
    let out = dir.join("some");
    let more = ["--epochs", "3", "--skip-limit", "4", "--seed", "1"];
    fails(
        &train("tune", &base, &dir, &out, &more),
        "at most 4 may be skipped",
    );
    let steps = fs::read_to_string(out.join("tune.csv"))
        .unwrap()
        .lines()
        .count()
        - 1;
    assert!((1..21).contains(&steps), "{steps}");
    assert!(out.join("state.safetensors").exists());
    let said = succeeds(&train(
        "tune",
        &base,
        &dir,
        &out,
        &["--epochs", "3", "--seed", "1"],
    ));
    assert_eq!(
        fs::read_to_string(out.join("tune.csv"))
            .unwrap()
            .lines()
            .count(),
        22,
        "{said}"
    );
    // No step was lost: one that never broke off learned the same.
    let whole = dir.join("whole");
    succeeds(&train(
        "tune",
        &base,
        &dir,
        &whole,
        &["--epochs", "3", "--seed", "1"],
    ));
    assert_eq!(
        fs::read(out.join("model.safetensors")).unwrap(),
        fs::read(whole.join("model.safetensors")).unwrap()
    );

    // Nothing is left.
    let none: Vec<&Value> = data
        .iter()
        .filter(|sample| sample["id"] == "gone")
        .collect();
    fs::write(dir.join("data.json"), json!(none).to_string()).unwrap();
    fails(
        &train("tune", &base, &dir, &dir.join("none"), &[]),
        "no sample can be learned from; sample gone: gone.png is not in",
    );
}

#[test]
fn a_folder_belongs_to_its_run() {
    let dir = scratch("train-folders");
    media(&dir);
    let data =
        json!([{ "id": "1", "image": "red.png", "conversations": talk("<image>\nWhat?", "red") }]);
    fs::write(dir.join("data.json"), data.to_string()).unwrap();
    let base = dir.join("base");
    let first = ["--epochs", "2"];
    succeeds(&train(
        "pretrain",
        &e2e().join("checkpoint"),
        &dir,
        &base,
        &first,
    ));

    // What is read is never written to, by whatever name.
    let link = dir.join("link");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&base, &link).unwrap();
    for out in [&base, &link] {
        let before = contents(&base);
        fails(
            &train("tune", &base, &dir, out, &["--force"]),
            "which is read",
        );
        assert!(contents(&base) == before);
    }

    let out = dir.join("out");
    succeeds(&train("tune", &base, &dir, &out, &first));
    let before = contents(&out);
    for (more, difference) in [
        (&["--epochs", "3"][..], "steps was 2 and is 3"),
        (&["--epochs", "2", "--seed", "7"], "seed was 0 and is 7"),
        (&["--epochs", "2", "--rate", "0.1"], "rate was"),
        (
            &["--epochs", "2", "--learn-vision"],
            "learn-vision was false",
        ),
        (
            &["--epochs", "2", "--optimizer", "muon"],
            "optimizer was adamw",
        ),
    ] {
        fails(&train("tune", &base, &dir, &out, more), difference);
        assert!(contents(&out) == before, "{more:?}");
    }
    fails(
        &train("pretrain", &base, &dir, &out, &first),
        "stage was tune and is pretrain",
    );
    let other = e2e().join("checkpoint");
    fails(&train("tune", &other, &dir, &out, &first), "base was");
    // The same command goes on, which is nothing more.
    succeeds(&train("tune", &base, &dir, &out, &first));
    succeeds(&train(
        "tune",
        &base,
        &dir,
        &out,
        &["--epochs", "3", "--force"],
    ));
    assert_eq!(
        fs::read_to_string(out.join("tune.csv"))
            .unwrap()
            .lines()
            .count(),
        4
    );

    // Killed before its first state: nothing but losses are there.
    let killed = dir.join("killed");
    fs::create_dir_all(&killed).unwrap();
    let lost = "step,loss,gradient\n0,9.5,1\n1,9.4,1\n";
    fs::write(killed.join("tune.csv"), lost).unwrap();
    fs::write(killed.join("state.safetensors.part"), "half").unwrap();
    succeeds(&train("tune", &base, &dir, &killed, &first));
    let losses = fs::read_to_string(killed.join("tune.csv")).unwrap();
    assert!(
        losses.lines().count() == 3 && !losses.contains("9.5"),
        "{losses}"
    );
    assert!(!killed.join("state.safetensors.part").exists());

    // Files of others stay.
    let other = dir.join("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("config.json"), "mine").unwrap();
    fails(
        &train("tune", &base, &dir, &other, &first),
        "config.json is there already",
    );
    assert_eq!(contents(&other).len(), 1);
    succeeds(&train(
        "tune",
        &base,
        &dir,
        &other,
        &["--epochs", "2", "--force"],
    ));
}
