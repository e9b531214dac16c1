//! Answers that a judge rates: a server of the tests' own, which also fails and answers nonsense.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{path, run, said, scratch};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A judge on a port of its own. `reply` makes the status and the words of the answer to a prompt.
struct Judge {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Judge {
    fn start(reply: fn(&str) -> (u16, String)) -> Judge {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                counted.fetch_add(1, Ordering::SeqCst);
                answer(stream, reply);
            }
        });
        Judge { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

fn answer(stream: TcpStream, reply: fn(&str) -> (u16, String)) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        head += &line.to_lowercase();
        line.clear();
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["model"], "judge");
    assert!(head.contains("authorization: bearer secret"), "{head}");
    let (status, content) = reply(body["messages"][1]["content"].as_str().unwrap());
    let body = json!({ "choices": [{ "message": { "role": "assistant", "content": content } }] });
    let body = body.to_string();
    let mut stream = reader.into_inner();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close",
        body.len()
    );
    // A client that has gone has enough.
    let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
}

/// MSVD-QA's file about an animation of the page.
fn questions(dir: &Path) {
    let list = json!([
        { "question": "who is it?", "video_name": "two-scenes", "answer": "owl" },
        { "question": "how many?", "video_name": "two-scenes", "answer": "two" },
        { "question": "what else?", "video_name": "two-scenes", "answer": "bee" },
    ]);
    fs::create_dir_all(dir.join("videos/two-scenes")).unwrap();
    fs::write(dir.join("msvd_qa.json"), list.to_string()).unwrap();
    for (i, name) in ["train-zebra.png", "trophies-bee.png"].iter().enumerate() {
        let from = root().join("www/public/samples").join(name);
        fs::copy(from, dir.join(format!("videos/two-scenes/{i}.png"))).unwrap();
    }
}

fn eval(args: &[&str]) -> std::process::Output {
    let mut command = crate::command(args);
    command.current_dir(root()).env("UNIVI_JUDGE_KEY", "secret");
    command.output().unwrap()
}

/// Answers the questions in `dir`, and lets `judge` rate.
fn judged(dir: &Path, judge: &Judge, more: &[&str]) -> std::process::Output {
    let out = dir.join("out");
    let mut args = vec!["eval", "msvd-qa", "--data", path(dir), "--out", path(&out)];
    args.extend([
        "--model",
        "models/univi-nano",
        "--device",
        "cpu",
        "--max-tokens",
        "8",
    ]);
    args.extend(["--judge", &judge.address, "--judge-model", "judge"]);
    args.extend(more);
    eval(&args)
}

fn report(dir: &Path) -> Value {
    let text = fs::read_to_string(dir.join("out/report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_judge_is_asked_once_about_each_answer_and_its_cost_is_said_before() {
    let dir = scratch("eval-judge");
    questions(&dir);
    let judge = Judge::start(|prompt| match prompt.contains("owl") {
        true => (200, r#"{"match": "yes", "score": 4}"#.into()),
        false => (200, r#"{"match": "no", "score": 1}"#.into()),
    });
    let output = judged(&dir, &judge, &["--judge-price", "0.5,1.5"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    said(&[], output);
    assert!(stderr.contains("judge judges 3 times: about"), "{stderr}");
    // Of a small price some digits are told, too.
    let price = stderr.split("costs at most about ").nth(1).unwrap();
    let price: f64 = price.split_whitespace().next().unwrap().parse().unwrap();
    assert!(price > 0., "{stderr}");
    assert_eq!(judge.asked(), 3);
    let first = report(&dir);
    assert_eq!(first["figures"][0]["value"], 1. / 3.);
    assert_eq!(first["figures"][1]["value"], 2.);
    let page = fs::read_to_string(dir.join("out/report.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("http-equiv") && !page.contains("src=\"http"));
    // Every reply is there: another run asks for none, and reports the same.
    said(&[], judged(&dir, &judge, &[]));
    assert_eq!(judge.asked(), 0);
    assert_eq!(report(&dir), first);
    // Without a judge, later, as well.
    let out = dir.join("out");
    said(&[], run(&["eval", "report", path(&out)], ""));
    assert_eq!(report(&dir), first);
    // What was said of another answer counts for none.
    let answers = fs::read_to_string(out.join("answers.jsonl")).unwrap();
    let (head, answer) = answers.trim_end().rsplit_once("\"texts\":[\"").unwrap();
    let other = format!("{head}\"texts\":[\"quite {answer}\n");
    fs::write(out.join("answers.jsonl"), other).unwrap();
    said(&[], run(&["eval", "report", path(&out)], ""));
    assert_eq!(
        (&first["figures"][0]["n"], &report(&dir)["figures"][0]["n"]),
        (&json!(3), &json!(2))
    );
}

#[test]
fn a_judge_that_fails_or_talks_nonsense_costs_nothing_that_was_there() {
    let dir = scratch("eval-bad-judge");
    questions(&dir);
    let judge = Judge::start(|prompt| match prompt {
        prompt if prompt.contains("owl") => (200, r#"{"match": "yes", "score": 5}"#.into()),
        prompt if prompt.contains("two") => (200, "Well, hard to say.".into()),
        _ => (400, String::new()),
    });
    let output = judged(&dir, &judge, &[]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let said_last = "error: two-scenes/how many?: the judge's reply holds no JSON object";
    assert_eq!(stderr.lines().last(), Some(said_last), "{stderr}");
    // Left out, both are named, and what was rated before is not asked again.
    judge.asked();
    let output = judged(&dir, &judge, &["--on-error", "skip"]);
    said(&[], output);
    assert_eq!(judge.asked(), 2);
    let found = report(&dir);
    assert_eq!(
        (&found["figures"][0]["value"], &found["figures"][0]["n"]),
        (&json!(1.), &json!(1))
    );
    let unjudged: Vec<&str> = found["unjudged"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["sample"].as_str().unwrap())
        .collect();
    assert_eq!(unjudged, ["two-scenes/how many?", "two-scenes/what else?"]);
    assert_eq!(found["answered"], 3);
    // A better judge rates what is missing.
    let judge = Judge::start(|_| (200, r#"{"match": "no", "score": 0}"#.into()));
    said(&[], judged(&dir, &judge, &[]));
    assert_eq!(judge.asked(), 2);
    assert_eq!(report(&dir)["figures"][0]["n"], 3);
}

#[test]
fn a_judge_that_takes_its_time_is_told_how_much_it_had() {
    let dir = scratch("eval-slow-judge");
    questions(&dir);
    let judge = Judge::start(|_| {
        thread::sleep(Duration::from_secs(2));
        (200, String::new())
    });
    let output = judged(&dir, &judge, &["--judge-timeout", "1"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let says = "the judge does not answer within 1 s (--judge-timeout)";
    assert!(stderr.contains(says), "{stderr}");
}

#[test]
fn a_judge_that_can_not_be_asked_is_refused_before_any_question() {
    let dir = scratch("eval-no-judge");
    questions(&dir);
    let judge = Judge::start(|_| (200, String::new()));
    let real = judge.address.clone();
    for (address, more, says) in [
        ("foo", &[][..], "expected an address"),
        ("ftp://localhost/v1", &[], "expected an address"),
        ("http://", &[], "expected an address"),
        (
            &real,
            &["--judge-key", "NOPE_NO_KEY"],
            "no variable NOPE_NO_KEY",
        ),
        (
            &real,
            &["--shard", "1/2"],
            "--judge has no effect with --shard",
        ),
    ] {
        let judge = Judge {
            address: address.to_owned(),
            asked: judge.asked.clone(),
        };
        let output = judged(&dir, &judge, more);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{address}: {stderr}");
        assert!(stderr.contains(says), "{address}: {stderr}");
    }
    assert_eq!(judge.asked(), 0);
    assert!(!dir.join("out").exists());
}
