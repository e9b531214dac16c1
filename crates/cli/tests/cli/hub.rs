//! `hf:` addresses, on a server that behaves as the Hub does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use univi_tests::random_checkpoint::{Layout, Sizes, write};
use univi_tests::test_hub::{FaultKind, Request, TestHub, TestHubOptions};

use crate::model_folders::files_of;
use crate::{cases, command, e2e, path, scratch, univi};

/// A server of its own, and a folder for its repositories, the cache and models.
struct Setting {
    hub: TestHub,
    folder: PathBuf,
}

impl Setting {
    /// Serves the fixture's checkpoint and its tower.
    fn new(name: &str, options: TestHubOptions) -> Setting {
        let folder = scratch(&format!("hub-{name}"));
        for (from, to) in [
            ("checkpoint", "org/tiny"),
            (
                "openai/clip-vit-tiny-random-patch14",
                "openai/clip-vit-tiny-random-patch14",
            ),
        ] {
            copy(&e2e().join(from), &folder.join("served").join(to));
        }
        Setting {
            hub: TestHub::start(&folder.join("served"), options),
            folder,
        }
    }

    /// Serves a checkpoint of twenty million numbers, and returns where it lies on the disk.
    fn large(name: &str, layout: Layout, options: TestHubOptions) -> (Setting, PathBuf) {
        let setting = Setting::new(name, options);
        let checkpoint = setting.folder.join("served/org/large");
        write(&checkpoint, layout, &Sizes::SMALL).unwrap();
        (setting, checkpoint)
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.join("out").join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        for name in [
            "HF_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", self.hub.endpoint())
            .env("HF_HOME", self.folder.join("home"))
            .env("HF_HUB_DOWNLOAD_TIMEOUT", "1")
            .env("NO_PROXY", "127.0.0.1");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a run printed on stdout and stderr, where it went well.
    #[track_caller]
    fn univi(&self, args: &[&str]) -> (String, String) {
        let output = self.run(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{args:?}: {stderr}");
        (stdout, stderr)
    }

    #[track_caller]
    fn refused(&self, args: &[&str], says: &str) {
        crate::complains(args, self.run(args), says);
    }

    fn sent(&self) -> u64 {
        let requests = self.hub.take_requests();
        requests.iter().map(|request| request.bytes).sum()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in files_of(from) {
        fs::write(to.join(&name), fs::read(from.join(&name)).unwrap()).unwrap();
    }
}

/// That two folders hold the same model: all files but the card, which says where it is from.
#[track_caller]
fn assert_same_model(a: &Path, b: &Path) {
    assert_eq!(files_of(a), files_of(b));
    for name in files_of(a).iter().filter(|name| *name != "README.md") {
        assert!(
            fs::read(a.join(name)).unwrap() == fs::read(b.join(name)).unwrap(),
            "{name}"
        );
    }
}

/// Files of a model that are finished, while it is not.
fn journaled(out: &Path) -> usize {
    let journal = fs::read_to_string(out.join("conversion.unfinished"));
    journal.map_or(0, |text| text.lines().count().saturating_sub(1))
}

fn wait_for(child: &mut Child, what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        assert!(begun.elapsed() < Duration::from_secs(120));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_checkpoint_on_the_hub_becomes_what_its_folder_becomes() {
    let options = TestHubOptions {
        token: Some("hf_right".into()),
        gated: vec!["org/tiny".into()],
        page_files: 3,
        ..TestHubOptions::default()
    };
    let setting = Setting::new("tiny", options);
    let from_folder = setting.out("tiny");
    let tiny = e2e().join("checkpoint");
    let flags = [
        "--name",
        "tiny",
        "--quant",
        "q8_0",
        "--shard-size",
        "64kB",
        "--out",
    ];
    univi(&[&["convert", path(&tiny)], &flags[..], &[path(&from_folder)]].concat());

    let from_hub = setting.out("from-hub");
    let args = [&["convert", "hf:org/tiny"], &flags[..], &[path(&from_hub)]].concat();
    setting.refused(&args, "is gated");
    assert!(!from_hub.exists());
    let mut command = setting.command(&args);
    command.env("HF_TOKEN", "hf_right");
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains("at commit") && !stderr.contains("hf_right"),
        "{stderr}"
    );
    // The tower that config.json names is fetched, and its use is said.
    let tower = "vision tower: hf:openai/clip-vit-tiny-random-patch14";
    assert!(stderr.contains(tower), "{stderr}");
    assert_same_model(&from_folder, &from_hub);
    let card = fs::read_to_string(from_hub.join("README.md")).unwrap();
    assert!(
        card.contains("base_model: org/tiny\n") && card.contains("at commit"),
        "{card}"
    );
    for request in setting.hub.take_requests() {
        assert!(!(request.is_storage && request.has_token), "{request:?}");
    }
    // Nothing but the model was written to the disk.
    assert!(!setting.folder.join("home").exists());
}

/// In both layouts: no byte is fetched twice, and the whole goes on after anything that passes.
#[test]
fn weights_are_fetched_once() {
    for (name, layout) in [
        ("once-torch", Layout::Torch),
        ("once-safetensors", Layout::Safetensors),
    ] {
        let options = TestHubOptions {
            signature_uses: 40,
            ..TestHubOptions::default()
        };
        let (setting, checkpoint) = Setting::large(name, layout, options);
        let from_folder = setting.out("large");
        let flags = [
            "--name",
            "large",
            "--quant",
            "q4_0",
            "--shard-size",
            "2MiB",
            "--out",
        ];
        univi(
            &[
                &["convert", path(&checkpoint)],
                &flags[..],
                &[path(&from_folder)],
            ]
            .concat(),
        );
        let stored: u64 = files_of(&checkpoint)
            .iter()
            .map(|name| fs::metadata(checkpoint.join(name)).unwrap().len())
            .sum();

        let from_hub = setting.out("from-hub");
        let args = ["convert", "hf:org/large"];
        let args = [&args, &flags[..], &[path(&from_hub)]].concat();
        setting.univi(&args);
        assert_same_model(&from_folder, &from_hub);
        let requests = setting.hub.take_requests();
        let sent: u64 = requests.iter().map(|request| request.bytes).sum();
        // Both ends of two files, and the listing, are more than a hundredth of so small a model.
        assert!(sent < stored + 1_100_000, "{sent} bytes for {stored}");
        // One request a tensor.
        assert!(requests.len() < 200, "{} requests", requests.len());
        let is_tower = |request: &Request| request.path.contains("openai");
        assert!(!requests.iter().any(is_tower), "the tower is nested");

        let broken = setting.out("broken");
        setting.hub.fault("-00001-of", 9, FaultKind::Drop(300_000));
        setting.hub.fault("-00002-of", 2, FaultKind::Stall(100_000));
        setting
            .hub
            .fault("-00002-of", 3, FaultKind::Status(503, None));
        let args = ["convert", "hf:org/large"];
        setting.univi(&[&args, &flags[..], &[path(&broken)]].concat());
        assert_same_model(&from_folder, &broken);
        let sent = setting.sent();
        assert!(sent < stored + 1_500_000, "{sent} bytes for {stored}");
    }
}

#[cfg(unix)]
#[test]
fn a_conversion_goes_on_after_a_kill() {
    /// Bytes in a second on each connection.
    const SLOW: u64 = 2_000_000;

    let options = TestHubOptions::default();
    let (setting, checkpoint) = Setting::large("killed", Layout::Torch, options);
    let whole = setting.out("large");
    let flags = [
        "--name",
        "large",
        "--quant",
        "q4_0",
        "--shard-size",
        "1MiB",
        "--out",
    ];
    univi(&[&["convert", path(&checkpoint)], &flags[..], &[path(&whole)]].concat());
    let files = files_of(&whole);
    let stored = 2 * 20_500_000;

    for signal in ["KILL", "INT"] {
        let out = setting.out(signal);
        let args = [&["convert", "hf:org/large"], &flags[..], &[path(&out)]].concat();
        setting.hub.throttle(SLOW);
        let mut command = setting.command(&args);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        wait_for(&mut child, || journaled(&out) >= 6);
        crate::model_folders::signal(&child, signal);
        let output = child.wait_with_output().unwrap();
        let finished = journaled(&out);
        assert!((6..20).contains(&finished), "{finished} files");
        if signal == "INT" {
            assert_eq!(output.status.code(), Some(130));
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(stderr.contains("the same command goes on"), "{stderr}");
        }
        // It is no model.
        crate::refused(&["inspect", path(&out)], "manifest.json");
        assert!(!files_of(&out).iter().any(|name| name.ends_with(".gguf")));
        let first = setting.sent();
        assert!(
            first < stored * 9 / 10,
            "it was to be stopped earlier: {first}"
        );

        // A finished file that was damaged since is made again.
        let damaged = files_of(&out)
            .into_iter()
            .find(|name| name.contains("-00002-of"));
        let damaged = out.join(damaged.unwrap());
        let mut bytes = fs::read(&damaged).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&damaged, bytes).unwrap();
        setting.hub.throttle(0);
        let (_, stderr) = setting.univi(&args);
        let says = format!("{} of {} files are finished", finished - 1, files.len() - 3);
        assert!(stderr.contains(&says), "{stderr:?} does not say {says:?}");
        assert_same_model(&whole, &out);
        let second = setting.sent();
        // What was fetched for files that were not finished, and read ahead; and the damaged one.
        let again = (first + second).saturating_sub(stored);
        assert!(
            again < 16_000_000,
            "{first} and {second} bytes: {again} again"
        );
    }

    // Other options begin anew, and say so.
    let out = setting.out("other");
    let args = [&["convert", "hf:org/large"], &flags[..], &[path(&out)]].concat();
    setting.hub.throttle(SLOW);
    let mut command = setting.command(&args);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_for(&mut child, || journaled(&out) >= 2);
    setting.hub.throttle(0);
    crate::model_folders::signal(&child, "KILL");
    child.wait().unwrap();
    let mut args: Vec<&str> = args.clone();
    args.extend(["--template", "v1"]);
    let (_, stderr) = setting.univi(&args);
    assert!(stderr.contains("beginning anew"), "{stderr}");
    assert!(!out.join("conversion.unfinished").exists());
}

#[test]
fn what_fails_leaves_what_is_finished() {
    let (setting, checkpoint) = Setting::large("fails", Layout::Torch, TestHubOptions::default());
    let second = checkpoint.join("pytorch_model-00002-of-00002.bin");
    let middle = fs::metadata(second).unwrap().len() / 2;
    for (name, fault, says) in [
        ("network", FaultKind::Status(503, Some(0)), "tried 6 times"),
        ("proxy", FaultKind::Corrupt(middle), "checksum"),
    ] {
        let out = setting.out(name);
        let args = [
            "convert",
            "hf:org/large",
            "--quant",
            "q8_0",
            "--shard-size",
            "1MiB",
        ];
        let args = [&args[..], &["--out", path(&out)]].concat();
        // What is read to plan comes right.
        let range = FaultKind::Drop(u64::MAX);
        setting
            .hub
            .fault("storage:/org/large/pytorch_model-00002", 2, range);
        setting
            .hub
            .fault("storage:/org/large/pytorch_model-00002", u32::MAX, fault);
        let output = setting.run(&args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
        let advice = "the same command goes on from there";
        assert!(stderr.contains(advice), "{stderr}");
        let finished = journaled(&out);
        assert!(finished > 3, "{finished}");
        crate::refused(&["inspect", path(&out)], "manifest.json");
        setting.hub.heal();
        let (_, stderr) = setting.univi(&args);
        assert!(stderr.contains(&format!("{finished} of ")), "{stderr}");
        univi(&["inspect", path(&out)]);
    }
    assert_same_model(&setting.out("network"), &setting.out("proxy"));
}

#[test]
fn a_damaged_tensor_is_fetched_once_more() {
    let (setting, checkpoint) = Setting::large("again", Layout::Torch, TestHubOptions::default());
    let second = checkpoint.join("pytorch_model-00002-of-00002.bin");
    let bytes = fs::metadata(second).unwrap().len();
    let flags = ["--name", "large", "--quant", "q8_0", "--out"];
    let whole = setting.out("whole");
    let from_folder = [&["convert", path(&checkpoint)], &flags[..], &[path(&whole)]].concat();
    univi(&from_folder);
    // In numbers, where a bit may also make one that is too large to be stored.
    for at in [bytes / 2, bytes / 2 + 1] {
        let out = setting.out(&at.to_string());
        setting
            .hub
            .fault("storage:/org/large/", 1, FaultKind::Corrupt(at));
        setting.univi(&[&["convert", "hf:org/large"], &flags[..], &[path(&out)]].concat());
        assert_same_model(&whole, &out);
        let requests = setting.hub.take_requests();
        let weights = requests.iter().filter(|request| request.is_storage);
        let mut ranges: Vec<_> = weights.map(|r| (&r.path, &r.range)).collect();
        let count = ranges.len();
        ranges.sort();
        ranges.dedup();
        assert_eq!(count - ranges.len(), 1, "tensors that were fetched again");
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn a_model_on_the_hub_answers_and_is_cached() {
    let setting = Setting::new("model", TestHubOptions::default());
    let case = cases()
        .into_iter()
        .find(|case| case["images"].as_array().is_some_and(|i| i.len() == 1))
        .unwrap();
    let served = setting.folder.join("served/org/converted");
    let tiny = e2e().join("checkpoint");
    let args = [
        "convert",
        path(&tiny),
        "--quant",
        "f16",
        "--shard-size",
        "64kB",
    ];
    univi(&[&args[..], &["--out", path(&served)]].concat());
    let image = e2e().join(case["images"][0].as_str().unwrap());
    let tokens = case["greedy_ids"].as_array().unwrap().len().to_string();
    let ask = |model: &str| -> Vec<String> {
        let args = [
            "ask",
            "--device",
            "cpu",
            "--model",
            model,
            "--greedy",
            "--max-tokens",
        ];
        let prompt = case["prompt"].as_str().unwrap();
        let more = [&tokens, "--image", path(&image), "--raw-prompt", prompt];
        args.iter()
            .chain(&more)
            .map(|arg| arg.to_string())
            .collect()
    };
    let expected = case["final_text"].as_str().unwrap();
    let answered = |model: &str, offline: bool| {
        let args = ask(model);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = setting.command(&args);
        if offline {
            command.env("HF_HUB_OFFLINE", "1");
        }
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected);
        stderr
    };
    answered("hf:org/converted", false);
    assert!(setting.sent() > 100_000);
    answered("hf:org/converted", false);
    assert!(setting.sent() < 20_000, "the weights are in the cache");
    answered("hf:org/converted/manifest.json", true);
    assert!(setting.hub.take_requests().is_empty());
    setting
        .hub
        .fault("/api/", u32::MAX, FaultKind::Status(500, Some(0)));
    let stderr = answered("hf:org/converted", false);
    assert!(stderr.contains("using what is in the cache"), "{stderr}");
    setting.hub.heal();

    let ggufs = files_of(&served);
    let first = ggufs
        .iter()
        .find(|name| name.contains("-00001-of-"))
        .unwrap();
    setting.univi(&["inspect", &format!("hf:org/converted/{first}")]);
    for (model, says) in [
        ("hf:org/tiny", "univi convert hf:org/tiny"),
        ("hf:org/nothing", "look at the name"),
        ("hf:org/converted@missing", "no such revision"),
        ("hf:org/converted/other.gguf", "is not in the repository"),
        ("hf:org", "hf:OWNER/NAME"),
    ] {
        setting.refused(&["inspect", model], says);
    }
    fs::remove_file(served.join("manifest.json")).unwrap();
    setting.refused(
        &["inspect", "hf:org/converted"],
        "name one, such as hf:org/converted/",
    );
}

#[test]
fn repositories_are_downloaded() {
    let setting = Setting::new("fetch", TestHubOptions::default());
    let out = setting.out("tiny");
    let fetch = ["fetch", "hf:org/tiny", "--out", path(&out)];
    setting.hub.fault("-00001-of", 1, FaultKind::Drop(100_000));
    let (stdout, stderr) = setting.univi(&fetch);
    assert_eq!(stdout.trim(), path(&out));
    assert!(stderr.contains("at commit"), "{stderr}");
    let checkpoint = e2e().join("checkpoint");
    assert_same_model(&checkpoint, &out);
    setting.sent();
    setting.univi(&fetch);
    assert!(setting.sent() < 40_000, "large files are there already");

    let json = ["fetch", "hf:org/tiny", "--include", "*.json"];
    let (stdout, _) = setting.univi(&json);
    let snapshot = PathBuf::from(stdout.trim());
    let names = files_of(&snapshot);
    assert!(
        names.len() > 3 && names.iter().all(|name| name.ends_with(".json")),
        "{names:?}"
    );
    // What is in the cache converts without a network.
    setting.univi(&["fetch", "hf:org/tiny"]);
    setting.univi(&["fetch", "hf:openai/clip-vit-tiny-random-patch14"]);
    setting.hub.take_requests();
    let tower = "hf:openai/clip-vit-tiny-random-patch14";
    let offline = setting.out("offline");
    let args = [
        "convert",
        "hf:org/tiny",
        "--vision-tower",
        tower,
        "--out",
        path(&offline),
    ];
    let output = setting
        .command(&args)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(
        files_of(&offline)
            .iter()
            .any(|name| name.starts_with("tiny-"))
    );
    assert!(setting.hub.take_requests().is_empty());

    for (args, says) in [
        (
            vec!["fetch", "hf:org/tiny", "--include", "*.onnx"],
            "no file of the repository",
        ),
        (
            vec!["fetch", "hf:org/tiny/nothing.bin"],
            "there is no nothing.bin",
        ),
        (vec!["fetch", "org/tiny"], "hf:OWNER/NAME"),
    ] {
        setting.refused(&args, says);
    }
}
