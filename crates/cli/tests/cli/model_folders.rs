//! `convert`, `inspect` and `synth` as a user runs them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{e2e, path, refused, scratch, univi};

fn manifest(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("manifest.json")).unwrap()).unwrap()
}

pub fn files_of(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A copy of a folder that can be damaged.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in files_of(from) {
        // Copied bytes, not permissions: fixtures may be read-only.
        fs::write(to.join(&name), fs::read(from.join(&name)).unwrap()).unwrap();
    }
}

#[test]
fn a_converted_checkpoint_answers_as_the_reference() {
    let cases: Value =
        serde_json::from_str(&fs::read_to_string(e2e().join("cases.json")).unwrap()).unwrap();
    let one_image = |case: &&Value| {
        case["images"]
            .as_array()
            .is_some_and(|images| images.len() == 1)
    };
    let case = cases["cases"]
        .as_array()
        .unwrap()
        .iter()
        .find(one_image)
        .unwrap();
    let out = scratch("answers").join("model");
    univi(&[
        "convert",
        path(&e2e().join("checkpoint")),
        "--quant",
        "f16",
        "--shard-size",
        "64kB",
        "--out",
        path(&out),
    ]);

    let manifest = manifest(&out);
    let files = manifest["files"].as_array().unwrap();
    let role = |role: &str| files.iter().filter(|file| file["role"] == role).count();
    assert!(role("llm") > 1 && role("vision") == 1 && role("tokenizer") == 1);
    assert_eq!(
        files_of(&out).len(),
        files.len() + 2,
        "nothing but the files, the manifest and the card"
    );
    let report: Value = serde_json::from_str(&univi(&["inspect", path(&out), "--json"])).unwrap();
    assert_eq!(report["sides"].as_array().unwrap().len(), 2);

    let image = e2e().join(case["images"][0].as_str().unwrap());
    let prompt = case["prompt"].as_str().unwrap();
    let count = case["greedy_ids"].as_array().unwrap().len().to_string();
    let answer = univi(&[
        "ask",
        "--device",
        "cpu",
        "--model",
        path(&out),
        "--greedy",
        "--max-tokens",
        &count,
        "--image",
        path(&image),
        "--raw-prompt",
        prompt,
    ]);
    assert_eq!(answer.trim(), case["final_text"].as_str().unwrap());
}

#[test]
fn convert_overwrites_only_when_told() {
    let out = scratch("overwrite");
    let checkpoint = e2e().join("checkpoint");
    let convert = |quant: &'static str| {
        [
            "convert",
            path(&checkpoint),
            "--quant",
            quant,
            "--out",
            path(&out),
        ]
        .map(String::from)
    };
    let args = |quant| convert(quant).into_iter().collect::<Vec<_>>();
    let run = |args: &[String]| univi(&args.iter().map(String::as_str).collect::<Vec<_>>());
    run(&args("q8_0"));
    let first = files_of(&out);
    refused(
        &args("q4_0").iter().map(String::as_str).collect::<Vec<_>>(),
        "--force",
    );
    assert_eq!(files_of(&out), first);
    let mut forced = args("q4_0");
    forced.push("--force".into());
    run(&forced);
    let second = files_of(&out);
    assert!(
        second.iter().any(|name| name.contains("q4_0"))
            && !second.iter().any(|name| name.contains("q8_0")),
        "{second:?}"
    );
    univi(&["inspect", path(&out)]);
}

#[test]
fn damaged_checkpoints_are_refused() {
    let base = scratch("damaged");
    let out = base.join("model");
    let refuse = |name: &str, damage: &dyn Fn(&Path), says: &str| {
        let folder = base.join(name).join("checkpoint");
        copy(&e2e().join("checkpoint"), &folder);
        damage(&folder);
        let tower = e2e().join("openai/clip-vit-tiny-random-patch14");
        refused(
            &[
                "convert",
                path(&folder),
                "--vision-tower",
                path(&tower),
                "--out",
                path(&out),
            ],
            says,
        );
        assert!(
            !out.exists() || files_of(&out).is_empty(),
            "{name} left {:?}",
            files_of(&out)
        );
    };
    let first_shard = |folder: &Path| {
        folder.join(
            files_of(folder)
                .into_iter()
                .find(|name| name.contains("-00001-of-"))
                .unwrap(),
        )
    };
    refuse(
        "no-config",
        &|f| fs::remove_file(f.join("config.json")).unwrap(),
        "config.json",
    );
    refuse(
        "bad-config",
        &|f| fs::write(f.join("config.json"), "{").unwrap(),
        "config.json",
    );
    refuse(
        "no-shard",
        &|f| fs::remove_file(first_shard(f)).unwrap(),
        "download all shards",
    );
    refuse(
        "cut-shard",
        &|f| {
            let shard = first_shard(f);
            let bytes = fs::read(&shard).unwrap();
            fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
        },
        "pytorch_model-00001-of-",
    );
    refuse(
        "text-shard",
        &|f| fs::write(first_shard(f), "<html>").unwrap(),
        "web page",
    );
    refuse(
        "bad-tokenizer",
        &|f| fs::write(f.join("tokenizer.model"), "x").unwrap(),
        "tokenizer.model",
    );
    refuse(
        "other-width",
        &|f| {
            let config = fs::read_to_string(f.join("config.json")).unwrap();
            let config: Value = serde_json::from_str(&config).unwrap();
            let mut config = config.as_object().unwrap().clone();
            config.insert("mm_hidden_size".into(), 7.into());
            fs::write(f.join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
        },
        "mm_hidden_size is 7",
    );

    refuse(
        "no-tokenizer",
        &|f| {
            fs::remove_file(f.join("tokenizer.model")).unwrap();
            fs::remove_file(f.join("tokenizer.json")).unwrap();
        },
        "has no tokenizer",
    );
    refuse(
        "flipped-weight",
        &|f| {
            // A number of the first tensor: the zip entry's checksum tells.
            let shard = first_shard(f);
            let mut bytes = fs::read(&shard).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 0x10;
            fs::write(&shard, bytes).unwrap();
        },
        "download it again",
    );
    refuse(
        "added-token",
        &|f| fs::write(f.join("added_tokens.json"), r#"{"<pad>": 512}"#).unwrap(),
        "513 tokens, but only 512",
    );

    // Away from its neighbours the checkpoint has no tower.
    let alone = base.join("alone");
    copy(&e2e().join("checkpoint"), &alone);
    refused(
        &["convert", path(&alone), "--out", path(&out)],
        "--vision-tower",
    );
    refused(
        &["convert", path(&base.join("nowhere")), "--out", path(&out)],
        "nowhere",
    );
    refused(
        &[
            "convert",
            path(&alone.join("config.json")),
            "--out",
            path(&out),
        ],
        "expected the folder",
    );
    refused(
        &[
            "convert",
            path(&alone),
            "--vision-tower",
            path(&alone),
            "--out",
            path(&alone),
        ],
        "tower",
    );
}

/// Neither input is written into.
#[test]
fn a_model_is_not_written_among_its_own_parts() {
    let base = scratch("among-parts");
    let (checkpoint, tower) = (base.join("checkpoint"), base.join("tower"));
    copy(&e2e().join("checkpoint"), &checkpoint);
    copy(&e2e().join("openai/clip-vit-tiny-random-patch14"), &tower);
    let (before, tower_before) = (files_of(&checkpoint), files_of(&tower));
    for out in [&checkpoint, &tower] {
        let args = [
            "convert",
            path(&checkpoint),
            "--vision-tower",
            path(&tower),
            "--force",
            "--out",
            path(out),
        ];
        refused(&args, "can't be written into");
    }
    assert_eq!(files_of(&checkpoint), before);
    assert_eq!(files_of(&tower), tower_before);
}

/// Starts to write a model that takes a while, and waits until it has begun.
#[cfg(unix)]
fn long_run(out: &Path) -> std::process::Child {
    let args = [
        "synth",
        "--preset",
        "7b",
        "--shard-size",
        "8MiB",
        "--out",
        path(out),
    ];
    let child = crate::command(&args)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let unfinished = || {
        out.is_dir()
            && files_of(out)
                .iter()
                .any(|name| name.ends_with(".gguf.unfinished"))
    };
    while !unfinished() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child
}

#[cfg(unix)]
pub fn signal(child: &std::process::Child, name: &str) {
    let (name, id) = (format!("-{name}"), child.id().to_string());
    let sent = std::process::Command::new("kill").args([name, id]).status();
    assert!(sent.unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_leaves_nothing() {
    for name in ["INT", "TERM"] {
        let out = scratch(&format!("stopped-{name}")).join("model");
        let mut child = long_run(&out);
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{name}");
        assert!(!out.exists(), "{name} left {:?}", files_of(&out));
    }
}

#[cfg(unix)]
#[test]
fn what_a_killed_run_leaves_is_no_model_and_goes_away() {
    let out = scratch("killed").join("model");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("notes.unfinished"), "of somebody else").unwrap();
    let tiny = ["synth", "--preset", "tiny", "--out", path(&out)];
    let mut child = long_run(&out);
    // Only one at a time.
    refused(&tiny, "another run of univi writes into");
    signal(&child, "KILL");
    child.wait().unwrap();
    let left = files_of(&out);
    assert!(left.iter().any(|name| name.ends_with(".gguf.unfinished")));
    assert!(!left.iter().any(|name| name.ends_with(".gguf")), "{left:?}");
    refused(&["inspect", path(&out)], "manifest.json");

    univi(&tiny);
    univi(&["inspect", path(&out)]);
    let files = manifest(&out)["files"].as_array().unwrap().len();
    let left = files_of(&out);
    assert!(left.contains(&"notes.unfinished".to_string()), "{left:?}");
    assert_eq!(left.len(), files + 2, "{left:?}");
}

fn tiny_synth<'a>(seed: &'a str, out: &'a Path) -> Vec<&'a str> {
    let mut args = vec!["synth", "--preset", "tiny", "--seed", seed];
    args.extend(["--out", path(out)]);
    args
}

/// Killed between giving the files their names and the manifest its own.
#[test]
fn a_model_that_was_whole_gets_the_names_that_it_lacks() {
    let out = scratch("half-named");
    univi(&tiny_synth("1", &out));
    let whole = manifest(&out);
    let first = whole["files"][0]["path"].as_str().unwrap();
    for name in ["manifest.json", first] {
        let unfinished = out.join(format!("{name}.unfinished"));
        fs::rename(out.join(name), unfinished).unwrap();
    }
    refused(&["inspect", path(&out)], "manifest.json");
    refused(&tiny_synth("2", &out), "is there already");
    assert_eq!(manifest(&out), whole);
    univi(&["inspect", path(&out)]);

    // A file that is cut makes it no model, and it goes away.
    let manifest_path = out.join("manifest.json");
    fs::rename(&manifest_path, out.join("manifest.json.unfinished")).unwrap();
    fs::write(out.join(first), "cut").unwrap();
    univi(&tiny_synth("2", &out));
    let files = manifest(&out)["files"].as_array().unwrap().len();
    assert_eq!(files_of(&out).len(), files + 1);
}

/// Killed while new files got their names beside an old model.
#[test]
fn an_old_model_stays_until_the_new_one_is_there() {
    let out = scratch("beside-an-old-one");
    univi(&tiny_synth("1", &out));
    let whole = files_of(&out);
    let mut listed = manifest(&out);
    listed["files"][0]["path"] = "new.gguf".into();
    fs::write(out.join("new.gguf"), "new").unwrap();
    fs::write(out.join("manifest.json.unfinished"), listed.to_string()).unwrap();
    univi(&["inspect", path(&out)]);
    refused(&tiny_synth("2", &out), "is there already");
    assert_eq!(files_of(&out), whole);
    univi(&["inspect", path(&out)]);
}

#[test]
fn inspect_refuses_what_would_not_load() {
    let base = scratch("inspect");
    let good = base.join("good");
    univi(&[
        "synth",
        "--preset",
        "tiny",
        "--quant",
        "q8_0",
        "--shard-size",
        "256KiB",
        "--out",
        path(&good),
    ]);
    univi(&["inspect", path(&good), "--tensors"]);
    let files = manifest(&good)["files"].clone();
    let name = |i: usize| files[i]["path"].as_str().unwrap().to_string();
    let refuse = |case: &str, damage: &dyn Fn(&Path) -> PathBuf, says: &str| {
        let folder = base.join(case);
        copy(&good, &folder);
        refused(&["inspect", path(&damage(&folder))], says);
    };
    let change = |file: PathBuf, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(&file).unwrap();
        change(&mut bytes);
        fs::write(&file, bytes).unwrap();
    };
    refuse(
        "one-bit",
        &|f| {
            change(f.join(name(0)), &|bytes| *bytes.last_mut().unwrap() ^= 1);
            f.to_owned()
        },
        "SHA-256",
    );
    refuse(
        "longer",
        &|f| {
            change(f.join(name(1)), &|bytes| bytes.push(0));
            f.to_owned()
        },
        "the manifest says",
    );
    refuse(
        "gone",
        &|f| {
            fs::remove_file(f.join(name(1))).unwrap();
            f.to_owned()
        },
        &name(1),
    );
    refuse(
        "no-manifest",
        &|f| {
            fs::remove_file(f.join("manifest.json")).unwrap();
            f.to_owned()
        },
        "manifest.json",
    );
    refuse(
        "bad-manifest",
        &|f| {
            change(f.join("manifest.json"), &|bytes| bytes.truncate(100));
            f.join("manifest.json")
        },
        "manifest",
    );
    // Without the manifest's digests, the weights themselves are looked at: a scale of the last
    // file becomes NaN.
    refuse(
        "not-finite",
        &|f| {
            let file = f.join(name(1));
            change(file.clone(), &|bytes| {
                let at = bytes.len() - 34;
                bytes[at..at + 2].copy_from_slice(&[0xff, 0x7f]);
            });
            file
        },
        "not finite",
    );
    refuse(
        "cut",
        &|f| {
            let file = f.join(name(0));
            change(file.clone(), &|bytes| bytes.truncate(bytes.len() / 2));
            file
        },
        "cut off",
    );
    refuse(
        "no-gguf",
        &|f| {
            fs::write(f.join("x.gguf"), "hello").unwrap();
            f.join("x.gguf")
        },
        "another kind of file",
    );
    refuse(
        "empty",
        &|f| {
            fs::write(f.join("x.gguf"), "").unwrap();
            f.join("x.gguf")
        },
        "empty",
    );
}

#[test]
fn synthesized_models_run_and_repeat() {
    let base = scratch("synth");
    let make = |name: &str, seed: &str| {
        let out = base.join(name);
        univi(&[
            "synth",
            "--preset",
            "tiny",
            "--quant",
            "q4_k_m",
            "--seed",
            seed,
            "--out",
            path(&out),
        ]);
        out
    };
    let (a, b, c) = (make("a", "1"), make("b", "1"), make("c", "2"));
    assert_eq!(manifest(&a), manifest(&b));
    assert_ne!(manifest(&a), manifest(&c));
    let image = e2e().join("image.png");
    univi(&[
        "ask",
        "--device",
        "cpu",
        "-m",
        path(&a),
        "--greedy",
        "--max-tokens",
        "4",
        "--image",
        path(&image),
        "What is it?",
    ]);
    let report: Value = serde_json::from_str(&univi(&["inspect", path(&a), "--json"])).unwrap();
    let sides = report["sides"].as_array().unwrap();
    let vocabularies: Vec<&Value> = sides
        .iter()
        .filter_map(|side| side.get("vocabulary"))
        .collect();
    assert_eq!(vocabularies, [&report["prompt"]["tokenizer_tokens"]]);
}
