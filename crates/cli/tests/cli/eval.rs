//! `univi eval BENCH`: the model that ships answers published files, whatever stops it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{complains, path, refused, run, scratch, univi};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// (picture, thing, whether it is there)
const SHOWN: [(&str, &str, bool); 8] = [
    ("penguin-cookie.png", "penguin", true),
    ("penguin-cookie.png", "bee", false),
    ("train-zebra.png", "zebra", true),
    ("train-zebra.png", "cookie", false),
    ("trophies-bee.png", "bee", true),
    ("trophies-bee.png", "penguin", false),
    ("penguin-cookie.png", "cookie", true),
    ("train-zebra.png", "bee", false),
];

/// POPE's file about the pictures of the page, with more lines behind.
fn pope(dir: &Path, more: &str) {
    let lines = SHOWN
        .iter()
        .enumerate()
        .map(|(i, (image, thing, is_there))| {
            let label = if *is_there { "yes" } else { "no" };
            let text = format!("Can you see a {thing}?");
            json!({ "question_id": i + 1, "image": image, "text": text, "label": label })
                .to_string()
                + "\n"
        });
    let text = lines.collect::<String>() + more;
    fs::write(dir.join("coco_pope_random.jsonl"), text).unwrap();
}

/// The arguments of a run over the files in `dir` into `out`.
fn args<'a>(benchmark: &'a str, dir: &'a Path, out: &'a Path, media: &'a Path) -> Vec<&'a str> {
    let model = "models/univi-nano";
    let args = [
        "eval",
        benchmark,
        "--data",
        path(dir),
        "--media",
        path(media),
    ];
    let more = ["--device", "cpu", "--out", path(out), "--model", model];
    args.into_iter().chain(more).collect()
}

/// Runs with paths from the root, as the model's is.
fn eval(args: &[&str]) -> std::process::Output {
    let mut command = crate::command(args);
    command.current_dir(root()).output().unwrap()
}

fn done(args: &[&str]) -> String {
    crate::said(args, eval(args))
}

fn samples() -> PathBuf {
    root().join("www/public/samples")
}

/// All files of a run that must not depend on how it came about.
fn files(out: &Path) -> Vec<(String, Vec<u8>)> {
    let names = [
        "answers.jsonl",
        "predictions.jsonl",
        "report.json",
        "report.md",
    ];
    let read = names.map(|name| (name.to_owned(), fs::read(out.join(name)).unwrap()));
    read.into_iter().collect()
}

#[test]
fn pope_is_answered_right_and_ends_with_the_same_bytes_in_parts_and_shards() {
    let dir = scratch("eval-pope");
    pope(&dir, "");
    let (media, whole) = (samples(), dir.join("whole"));
    let mut line = args("pope-random", &dir, &whole, &media);
    line.push("--json");
    let report: Value = serde_json::from_str(&done(&line)).unwrap();
    let accuracy = &report["figures"][0];
    assert_eq!(
        (&accuracy["name"], &accuracy["n"]),
        (&json!("accuracy"), &json!(8))
    );
    assert!(accuracy["value"].as_f64().unwrap() >= 0.75, "{report}");
    assert_eq!(report["published"][0]["figures"]["accuracy"], 85.19);

    // Killed twice: after three answers, and in the midst of a line.
    let out = dir.join("killed");
    fs::create_dir(&out).unwrap();
    let lines = fs::read_to_string(whole.join("answers.jsonl")).unwrap();
    let begun: Vec<&str> = lines.split_inclusive('\n').collect();
    for kept in [begun[..4].concat(), begun[..6].concat() + &begun[6][..20]] {
        fs::write(out.join("answers.jsonl"), kept).unwrap();
        done(&args("pope-random", &dir, &out, &media));
        assert_eq!(files(&out), files(&whole));
    }

    let shards: Vec<PathBuf> = (1..=4).map(|i| dir.join(format!("shard-{i}"))).collect();
    for (i, shard) in shards.iter().enumerate() {
        let mut line = args("pope-random", &dir, shard, &media);
        let part = format!("{}/4", i + 1);
        line.extend(["--shard", &part]);
        done(&line);
    }
    let merged = dir.join("merged");
    let mut line = vec![
        "eval",
        "merge",
        "--out",
        path(&merged),
        "--media",
        path(&media),
    ];
    line.extend(shards.iter().map(|shard| path(shard)));
    univi(&line);
    assert_eq!(files(&merged), files(&whole));
    // A shard is not overwritten, and a merge that fails leaves no folder.
    let before = fs::read(shards[0].join("answers.jsonl")).unwrap();
    let mut line = vec!["eval", "merge", "--out", path(&shards[0])];
    line.extend(shards.iter().map(|shard| path(shard)));
    refused(&line, "is one of the shards");
    assert_eq!(fs::read(shards[0].join("answers.jsonl")).unwrap(), before);
    let nothing = dir.join("nothing");
    let line = ["eval", "merge", "--out", path(&nothing)];
    refused(&[&line[..], &[path(&shards[0])]].concat(), "are missing");
    assert!(!nothing.exists());

    // Another seed is another run.
    let mut line = args("pope-random", &dir, &whole, &media);
    line.extend(["--seed", "1"]);
    complains(&line, eval(&line), "of another run (seed");
}

#[test]
fn bad_data_is_named_stops_or_is_left_out_and_costs_no_answer() {
    let dir = scratch("eval-bad-data");
    let gone =
        r#"{"question_id": 20, "image": "gone.png", "text": "Can you see a bee?", "label": "no"}"#;
    let text = r#"{"question_id": 21, "image": "index.json", "text": "Can you see a bee?", "label": "no"}"#;
    pope(
        &dir,
        &format!("{gone}\n{text}\n{{\"question_id\": 22, \"ima\n"),
    );
    let (media, out) = (samples(), dir.join("out"));
    let line = args("pope-random", &dir, &out, &media);
    complains(&line, eval(&line), "coco_pope_random.jsonl:11");
    let mut line = args("pope-random", &dir, &out, &media);
    line.extend(["--on-error", "skip"]);
    let output = eval(&line);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("20: gone.png is not there"), "{stderr}");
    let report = fs::read_to_string(out.join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["samples"], &report["answered"]),
        (&json!(10), &json!(8))
    );
    assert_eq!(report["failed"][0]["sample"], "20");
    assert_eq!(report["failed"][1]["sample"], "21");
    assert_eq!(report["faults"][0]["sample"], "coco_pope_random.jsonl:11");
    let markdown = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(
        markdown.contains("- 20: gone.png is not there"),
        "{markdown}"
    );
}

#[test]
fn science_qa_is_reasoned_about_and_chosen() {
    let dir = scratch("eval-science-qa");
    let problem = |hint: &str, image: Value| {
        json!({ "question": "?", "choices": ["bee", "owl"], "answer": 0, "hint": hint,
            "image": image, "grade": "grade3", "subject": "natural science", "split": "test" })
    };
    let problems =
        json!({ "1": problem("", json!("image.png")), "2": problem("Read", Value::Null) });
    let question = "What is it?\nOptions: (A) bee (B) owl";
    let said = |value: String| json!([{ "from": "human", "value": value }, { "from": "gpt", "value": "" }]);
    let asked = json!([
        { "id": "1", "image": "trophies-bee.png", "conversations": said(format!("<image>\n{question}")) },
        { "id": "2", "conversations": said(question.to_owned()) },
    ]);
    for (name, value) in [
        ("problems.json", problems),
        ("test_QCM-LEA.json", asked),
        (
            "pid_splits.json",
            json!({ "train": [], "test": ["1", "2"] }),
        ),
    ] {
        fs::write(dir.join(name), value.to_string()).unwrap();
    }
    let (media, out) = (samples(), dir.join("out"));
    done(&args("science-qa", &dir, &out, &media));
    let answers = fs::read_to_string(out.join("answers.jsonl")).unwrap();
    for line in answers.lines().skip(1) {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["texts"].as_array().unwrap().len(), 2, "{record}");
        assert!(
            ["A", "B"].contains(&record["choice"].as_str().unwrap()),
            "{record}"
        );
    }
    let report = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(report.contains("| accuracy, IMG |"), "{report}");
}

#[test]
fn answers_of_other_models_stand_beside() {
    let dir = scratch("eval-compare");
    pope(&dir, "");
    let (media, out) = (samples(), dir.join("out"));
    done(&args("pope-random", &dir, &out, &media));
    let always_yes: String = (1..=8)
        .map(|id| json!({ "question_id": id, "text": "Yes, it is." }).to_string() + "\n")
        .collect();
    let other = dir.join("other.jsonl");
    fs::write(&other, always_yes).unwrap();
    let compare = format!("Yea-sayer={}", path(&other));
    let report = univi(&[
        "eval",
        "report",
        path(&out),
        "--compare",
        &compare,
        "--json",
    ]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["others"][0]["model"], "Yea-sayer");
    assert_eq!(report["others"][0]["figures"][0]["value"], 0.5);
    assert_eq!(report["others"][0]["figures"][4]["value"], 1.0);
    // What the papers published has as many digits as ours.
    let markdown = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(
        markdown.contains("| Chat-UniVi-7B, published | 85.19 |"),
        "{markdown}"
    );
    let refused = ["eval", "report", path(&out), "--compare", "x"];
    assert_eq!(run(&refused, "").status.code(), Some(2));
    // A file that answers some of the questions is not taken for one that answers all.
    let few: String = (1..=2)
        .map(|id| json!({ "question_id": id, "text": "yes" }).to_string() + "\n")
        .collect();
    fs::write(&other, few).unwrap();
    let output = run(&["eval", "report", path(&out), "--compare", &compare], "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("of Yea-sayer answers 2 of 8 questions"),
        "{stderr}"
    );
    let report = fs::read_to_string(out.join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["others"][0]["answered"], 2);
    for name in ["report.md", "report.html"] {
        let text = fs::read_to_string(out.join(name)).unwrap();
        assert!(text.contains("Yea-sayer, 2 of 8 answered"), "{text}");
    }
}

#[test]
fn ways_of_merging_stand_beside_each_other() {
    let dir = scratch("eval-sweep");
    pope(&dir, "");
    let (media, out) = (samples(), dir.join("out"));
    let mut line = args("pope-random", &dir, &out, &media);
    line.extend([
        "--merge",
        "clusters,pool,none",
        "--visual-tokens",
        "7,14",
        "--limit",
        "2",
    ]);
    done(&line);
    let of_run = fs::read(out.join("sweep.json")).unwrap();
    // One combination was killed behind its first answer; what the others took is still known.
    let answers = out.join("pool-7/answers.jsonl");
    let text = fs::read_to_string(&answers).unwrap();
    let begun: Vec<&str> = text.split_inclusive('\n').collect();
    fs::write(&answers, begun[..2].concat()).unwrap();
    done(&line);
    let sweep = fs::read(out.join("sweep.json")).unwrap();
    let [of_run, sweep]: [Value; 2] =
        [of_run, sweep].map(|bytes| serde_json::from_slice(&bytes).unwrap());
    assert_eq!(sweep["points"][0], of_run["points"][0]);
    let points = sweep["points"].as_array().unwrap();
    let tokens: Vec<f64> = points
        .iter()
        .map(|point| point["visual_tokens"].as_f64().unwrap())
        .collect();
    // Pooled rectangles are of one size: 2 x 2 and 2 x 4 of 8 x 8 patches.
    assert_eq!(tokens, [7., 14., 4., 8., 64.]);
    for point in points {
        assert!(point["prefill_s"].as_f64().unwrap() > 0., "{point}");
        assert!(point["kv_bytes"].as_u64().unwrap() > 0);
    }
    for name in [
        "sweep-tokens.svg",
        "sweep-prefill.svg",
        "sweep-memory.svg",
        "pool-7/report.md",
    ] {
        assert!(out.join(name).is_file(), "{name}");
    }
    let plot = fs::read_to_string(out.join("sweep-prefill.svg")).unwrap();
    // A circle for each point, and one in the legend for each way.
    assert_eq!(plot.matches("<circle").count(), points.len() + 3);
    // The folder of a sweep is no run.
    refused(&["eval", "report", path(&out)], "clusters-14");
    let gone = out.join("gone");
    refused(&["eval", "report", path(&gone)], "gone: is not there");
    refused(&["eval", "report", path(&answers)], "is a file");
}

/// What a run says besides its answers, and its exit status.
fn says(args: &[&str]) -> (Option<i32>, String) {
    let output = eval(args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), stderr)
}

#[test]
fn pictures_of_wrong_answers_are_shown_wherever_they_were_found() {
    let dir = scratch("eval-pictures");
    // A PNG by another name, in the folder that the reference uses; the label is wrong.
    let line =
        r#"{"question_id": 1, "image": "a.jpg", "text": "Can you see a penguin?", "label": "no"}"#;
    fs::write(dir.join("coco_pope_random.jsonl"), line).unwrap();
    let (media, out) = (dir.join("media"), dir.join("out"));
    fs::create_dir_all(media.join("val2014")).unwrap();
    fs::copy(
        samples().join("penguin-cookie.png"),
        media.join("val2014/a.jpg"),
    )
    .unwrap();
    done(&args("pope-random", &dir, &out, &media));
    let page = || fs::read_to_string(out.join("report.html")).unwrap();
    assert_eq!(page().matches("src=\"data:image/jpeg").count(), 1);
    assert!(page().contains(" --device cpu"), "{}", page());
    univi(&["eval", "report", path(&out)]);
    assert!(!page().contains("<img"));
    univi(&["eval", "report", path(&out), "--media", path(&media)]);
    assert_eq!(page().matches("src=\"data:image/jpeg").count(), 1);
    let nowhere = dir.join("nowhere");
    let line = ["eval", "report", path(&out), "--media", path(&nowhere)];
    refused(&line, "nowhere: there is no such folder");
    let line = args("pope-random", &dir, &out, &nowhere);
    complains(&line, eval(&line), "nowhere: there is no such folder");
}

#[test]
fn a_file_without_a_question_says_why_and_a_run_that_failed_stands_in_no_ones_way() {
    let dir = scratch("eval-nothing");
    let (media, out) = (samples(), dir.join("out"));
    fs::write(dir.join("coco_pope_random.jsonl"), r#"{"id": 1}"#).unwrap();
    for more in [&[][..], &["--on-error", "skip"]] {
        let line = [&args("pope-random", &dir, &out, &media)[..], more].concat();
        complains(&line, eval(&line), "coco_pope_random.jsonl: there is no");
    }
    assert!(!out.exists());
    pope(&dir, "");
    let line = args("pope-random", &dir, &out, &media);
    let (code, stderr) = says(&[&line[..], &["--context", "10"]].concat());
    assert_eq!(code, Some(1), "{stderr}");
    done(&[&line[..], &["--limit", "2"]].concat());
}

#[test]
fn a_shard_prints_what_it_did_and_takes_nothing_that_it_would_ignore() {
    let dir = scratch("eval-shard");
    pope(&dir, "");
    let (media, out) = (samples(), dir.join("out"));
    let mut line = args("pope-random", &dir, &out, &media);
    line.extend(["--shard", "2/4"]);
    let printed: Value = serde_json::from_str(&done(&[&line[..], &["--json"]].concat())).unwrap();
    assert_eq!(printed["shard"], "2/4");
    assert_eq!(printed["answered"], 2);
    let (code, stderr) = says(&[&line[..], &["--compare", "a=b"]].concat());
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("no effect with --shard"), "{stderr}");
}

#[test]
fn answers_that_nothing_can_be_held_against_are_said_to_be_so() {
    let dir = scratch("eval-unlabelled");
    let line = r#"{"question_id": 1, "image": "train-zebra.png", "text": "Can you see a zebra?"}"#;
    fs::write(dir.join("llava_vqav2_mscoco_test-dev2015.jsonl"), line).unwrap();
    let (media, out) = (samples(), dir.join("out"));
    let (code, stderr) = says(&args("vqav2", &dir, &out, &media));
    assert_eq!(code, Some(0), "{stderr}");
    let says = "no right answers, so that nothing can be scored";
    assert!(
        stderr.contains(says) && stderr.contains("vqav2_submission.json"),
        "{stderr}"
    );
    for name in ["report.md", "report.html"] {
        let text = fs::read_to_string(out.join(name)).unwrap();
        assert!(text.contains("The data holds no right answers"), "{text}");
    }
}
