//! `ask`, `chat` and `visualize`.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::{
    cases, command, complains, e2e, fixtures, max_tokens, path, run, scratch, tiny, univi,
    univi_reads,
};

/// The case of this name that has no more than one group of visuals.
fn case(name: &str) -> Value {
    cases()
        .into_iter()
        .find(|case| case["name"] == name)
        .unwrap()
}

/// What a user of the template `simple` asked last.
fn question(case: &Value) -> String {
    let prompt = case["prompt"].as_str().unwrap();
    let (_, last) = prompt.rsplit_once("Human: ").unwrap();
    let last = last.strip_suffix("###Assistant:").unwrap();
    last.trim_start_matches("<image>")
        .trim_start_matches('\n')
        .to_owned()
}

fn answer(case: &Value) -> &str {
    case["final_text"].as_str().unwrap()
}

/// The file that a case shows.
fn image(case: &Value) -> String {
    path(&e2e().join(case["images"][0].as_str().unwrap())).to_owned()
}

/// Arguments of a command on the small model, on the CPU, as the reference was run.
pub fn greedy<'a>(name: &'a str, max_tokens: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![
        name,
        "-m",
        tiny(),
        "--device",
        "cpu",
        "--greedy",
        "--max-tokens",
        max_tokens,
    ];
    args.extend(more);
    args
}

#[test]
fn raw_prompts_are_answered_as_by_the_reference() {
    let max_tokens = max_tokens();
    let mut seen = 0;
    for case in cases() {
        let prompt = case["prompt"].as_str().unwrap();
        // The reference loses text between groups of visuals; this program does not.
        let groups = prompt
            .split("<image>")
            .skip(1)
            .filter(|text| !text.is_empty())
            .count();
        if groups > 1 {
            continue;
        }
        let images: Vec<String> = case["images"]
            .as_array()
            .unwrap()
            .iter()
            .map(|image| path(&e2e().join(image.as_str().unwrap())).to_owned())
            .collect();
        let mut args = greedy(
            "ask",
            &max_tokens,
            &["--raw-prompt", "--stop", case["stop_str"].as_str().unwrap()],
        );
        for image in &images {
            args.extend(["--image", image]);
        }
        args.push(prompt);
        assert_eq!(
            univi(&args),
            format!("{}\n", answer(&case)),
            "{}",
            case["name"]
        );
        seen += 1;
    }
    assert!(seen > 3, "{seen} cases");
}

#[test]
fn questions_are_answered_as_by_the_reference() {
    let max_tokens = max_tokens();
    for name in ["image_qa", "stop_early", "two_turn_1"] {
        let case = case(name);
        let (image, question) = (image(&case), question(&case));
        let args = greedy("ask", &max_tokens, &["--image", &image, &question]);
        assert_eq!(univi(&args), format!("{}\n", answer(&case)), "{name}");
    }
    let case = case("text_only");
    let args = greedy("ask", &max_tokens, &["-"]);
    assert_eq!(
        univi_reads(&args, &format!("{}\n", question(&case))),
        format!("{}\n", answer(&case))
    );
}

#[test]
fn a_folder_of_frames_is_a_video() {
    let (case, max_tokens) = (case("video_qa"), max_tokens());
    let (_, question) = case["prompt"]
        .as_str()
        .unwrap()
        .split_once("<image>\n")
        .unwrap();
    let question = question.strip_suffix(" ASSISTANT:").unwrap();
    let frames = e2e().join("video");
    let args = greedy(
        "ask",
        &max_tokens,
        &[
            "--template",
            "v1",
            "--video",
            path(&frames),
            "--json",
            question,
        ],
    );
    let said: Value = serde_json::from_str(&univi(&args)).unwrap();
    assert_eq!(said["answer"], case["final_text"]);
    assert_eq!(said["visuals"][0]["events"], case["events"][0]);
    assert_eq!(said["usage"]["visual_tokens"], case["visual_tokens"]);
    assert_eq!(said["usage"]["prompt_tokens"], case["n_embeds"]);
    assert_eq!(
        said["usage"]["answer_tokens"],
        case["greedy_ids"].as_array().unwrap().len()
    );
    assert!(said["timings"]["answer_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn visuals_stand_in_the_order_of_the_command_line() {
    let (image, frames) = (e2e().join("image.png"), e2e().join("video"));
    let kinds = |visuals: &[&str]| {
        let mut args = greedy("ask", "1", &["--json"]);
        args.extend(visuals);
        args.push("What?");
        let said: Value = serde_json::from_str(&univi(&args)).unwrap();
        let visuals = said["visuals"].as_array().unwrap();
        visuals
            .iter()
            .map(|visual| visual["kind"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let (image, frames) = (path(&image), path(&frames));
    assert_eq!(
        kinds(&["--video", frames, "--image", image]),
        ["video", "image"]
    );
    assert_eq!(
        kinds(&["--image", image, "--video", frames, "--image", image]),
        ["image", "video", "image"]
    );
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let say = |seed: &str| {
        let args = [
            "ask",
            "-m",
            tiny(),
            "--device",
            "cpu",
            "--temperature",
            "2",
            "--max-tokens",
            "12",
            "--seed",
            seed,
            "Well?",
        ];
        univi(&args)
    };
    assert_eq!(say("7"), say("7"));
    let others: Vec<String> = ["1", "2", "3"].map(say).into();
    assert!(
        others.iter().any(|other| *other != say("7")),
        "chance plays no part"
    );
}

#[test]
fn chat_holds_a_conversation_over_a_pipe() {
    let max_tokens = max_tokens();
    let (first, second) = (case("two_turn_1"), case("two_turn_2"));
    let saved = scratch("chat").join("saved.json");
    let lines = format!(
        "/image {}\n{}\n\n{}\n/save {}\n/reset\n/image {}\n{}\n/quit\nnever read\n",
        image(&first),
        question(&first),
        question(&second),
        path(&saved),
        image(&first),
        question(&first),
    );
    let said = univi_reads(&greedy("chat", &max_tokens, &[]), &lines);
    assert_eq!(
        said,
        format!(
            "{}\n{}\n{}\n",
            answer(&first),
            answer(&second),
            answer(&first)
        )
    );
    let saved: Value = serde_json::from_str(&fs::read_to_string(saved).unwrap()).unwrap();
    let turns = saved["turns"].as_array().unwrap();
    assert_eq!(turns.len(), 2);
    assert_eq!(turns[0]["visuals"][0]["image"], image(&first).as_str());
    assert_eq!(turns[1]["user"], question(&second).as_str());
    assert_eq!(turns[1]["assistant"], second["final_text"]);
}

#[test]
fn a_line_of_a_script_that_fails_ends_it() {
    let max_tokens = max_tokens();
    let args = greedy("chat", &max_tokens, &[]);
    complains(
        &args,
        run(&args, "/image nowhere.png\nWhat is it?\n"),
        "nowhere.png",
    );
    complains(&args, run(&args, "/dance\n"), "/dance");
    complains(&args, run(&args, "/image\n"), "/image");
}

/// Sends Ctrl-C to a running program.
#[cfg(unix)]
fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
}

#[cfg(unix)]
#[test]
fn control_c_stops_an_answer_and_not_the_conversation() {
    // As long an answer as the context holds, in a template whose end no word is.
    let args = greedy("chat", "1900", &["--template", "v1"]);
    let mut command = command(&args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdin.write_all(b"Tell me more.\n").unwrap();
    let mut first = [0];
    stdout.read_exact(&mut first).unwrap();
    interrupt(&child);
    let mut noted = String::new();
    BufReader::new(child.stderr.as_mut().unwrap())
        .read_line(&mut noted)
        .unwrap();
    assert_eq!(noted, "(stopped)\n");
    stdin.write_all(b"/quit\n").unwrap();
    assert!(child.wait().unwrap().success());
}

#[cfg(unix)]
#[test]
fn control_c_ends_what_nobody_stops() {
    let args = greedy("chat", "8", &[]);
    let mut command = command(&args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // An answer shows that the program is up and waits for the next line.
    stdin.write_all(b"Hello?\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn figures_show_what_was_merged() {
    let out = scratch("figures");
    let size = |args: &[&str], file: &str| {
        let file = out.join(file);
        let mut all = vec![
            "visualize",
            "-m",
            tiny(),
            "--device",
            "cpu",
            "--out",
            path(&file),
        ];
        all.extend(args);
        univi(&all);
        image::image_dimensions(&file).unwrap()
    };
    let (image, frames) = (e2e().join("image.png"), e2e().join("video"));
    let (wide, height) = size(&["--image", path(&image)], "all.png");
    let (narrow, same) = size(&["--image", path(&image), "--stage", "1"], "one.png");
    assert!(
        wide > narrow && height == same,
        "{wide} {narrow} {height} {same}"
    );
    let (width, tall) = size(&["--video", path(&frames)], "events.png");
    let (same, low) = size(&["--video", path(&frames), "--stage", "2"], "coarse.png");
    assert!(width == same && tall > low, "{width} {same} {tall} {low}");
}

#[test]
fn without_a_gpu_the_cpu_answers_and_says_so() {
    // A loader of drivers that finds none.
    let without = |device: &str| {
        let args = [
            "ask",
            "-m",
            tiny(),
            "--device",
            device,
            "--greedy",
            "--max-tokens",
            "2",
            "Well?",
        ];
        let mut command = command(&args);
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            command.env(variable, "/nonexistent");
        }
        command.output().unwrap()
    };
    if cfg!(target_os = "linux") {
        let output = without("auto");
        assert!(output.status.success());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = stderr.lines().collect();
        assert!(
            matches!(lines[..], [cpu, cut] if cpu.starts_with("using the CPU: no GPU: ") && cut.starts_with("(cut off: ")),
            "{stderr}"
        );
        let output = without("gpu");
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.starts_with("error: no GPU: ") && stderr.lines().count() == 1,
            "{stderr}"
        );
    }
}

#[test]
fn a_reader_that_leaves_is_no_reason_to_panic() {
    let fixtures = fixtures();
    let args = [
        "verify",
        "--fixtures",
        path(&fixtures),
        "--device",
        "cpu",
        "--filter",
        "sampling",
    ];
    let mut child = command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.is_empty(), "{stderr}");
}
