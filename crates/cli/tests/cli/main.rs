//! The `univi` command as a user runs it.

mod answers;
mod bad_input;
mod bench;
mod chat_server;
mod chat_server_fields;
mod chat_server_limits;
mod chat_server_together;
mod eval;
mod hub;
mod judges;
mod model_folders;
mod models;
mod nano;
mod readme;
mod self_test;
mod serve;
mod terminal;
mod training;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

/// The fixtures: the folder that `UNIVI_FIXTURES` names, else the one in this repository.
fn fixtures() -> PathBuf {
    match std::env::var_os("UNIVI_FIXTURES") {
        Some(root) => root.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures"),
    }
}

/// A small Chat-UniVi as published, with what the reference says when asked.
fn e2e() -> PathBuf {
    fixtures().join("golden/e2e")
}

/// What the reference was asked, and what it said.
fn cases() -> Vec<Value> {
    let cases = fs::read_to_string(e2e().join("cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&cases).unwrap();
    cases["cases"].as_array().unwrap().clone()
}

/// The tokens that the reference's answers were allowed.
fn max_tokens() -> String {
    let lengths = cases()
        .into_iter()
        .map(|case| case["greedy_ids"].as_array().unwrap().len());
    lengths.max().unwrap().to_string()
}

/// The small Chat-UniVi, converted once for all tests.
fn tiny() -> &'static str {
    static TINY: OnceLock<String> = OnceLock::new();
    TINY.get_or_init(|| {
        let out = scratch("tiny").join("model");
        let checkpoint = e2e().join("checkpoint");
        univi(&[
            "convert",
            path(&checkpoint),
            "--quant",
            "f16",
            "--out",
            path(&out),
        ]);
        path(&out).to_owned()
    })
}

/// An empty folder of this test's own.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The program, with arguments.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_univi"));
    command.args(args);
    command
}

/// Runs the program and hands `input` to it.
fn run(args: &[&str], input: &str) -> Output {
    let mut command = command(args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read it is no fault.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What a run printed, where it went well.
#[track_caller]
fn univi(args: &[&str]) -> String {
    said(args, run(args, ""))
}

/// The same, with something to read.
#[track_caller]
fn univi_reads(args: &[&str], input: &str) -> String {
    said(args, run(args, input))
}

#[track_caller]
fn said(args: &[&str], output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// That a run fails with one line of complaint.
#[track_caller]
fn refused(args: &[&str], says: &str) {
    complains(args, run(args, ""), says);
}

#[track_caller]
fn complains(args: &[&str], output: Output, says: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
    assert!(
        stderr.lines().count() == 1 && stderr.starts_with("error: ") && stderr.contains(says),
        "{args:?}: {stderr:?} does not say {says:?}"
    );
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(
        output.stdout.is_empty(),
        "{args:?} printed {:?}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn every_command_explains_itself() {
    let help = univi(&["--help"]);
    assert!(help.contains("Exit codes"));
    let commands = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> = names
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in names.into_iter().filter(|&name| name != "help") {
        let help = univi(&[name, "--help"]);
        let examples = help
            .lines()
            .filter(|line| line.contains(&format!("univi {name} ")))
            .count();
        assert!(
            examples >= 2 && help.contains("Exit codes"),
            "{name}: {help}"
        );
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_explained() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["ask", "What?"],
        &["ask", "-m", "m", "--greedy", "--temperature", "1", "What?"],
        &["ask", "-m", "m", "--top-p", "2", "What?"],
        &["ask", "-m", "m", "--max-tokens", "0", "What?"],
        &["ask", "-m", "m", "--template", "none", "What?"],
        &["ask", "-m", "m", "--raw-prompt", "--system", "x", "What?"],
        &["ask", "-m", "m", "--device", "abacus", "What?"],
        &["verify"],
        &["visualize", "-m", "m", "--out", "o.png"],
        &["visualize", "--image", "i.png", "--out", "o.png"],
        &[
            "visualize",
            "-m",
            "m",
            "--image",
            "i.png",
            "--video",
            "v",
            "--out",
            "o.png",
        ],
    ] {
        let output = run(args, "");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(
            stderr.contains("Usage") || stderr.contains("--help"),
            "{args:?}: {stderr}"
        );
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
