//! Habits of people at a terminal: paths that were dragged, options that do nothing, words that are
//! mistyped, disks that are full.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crate::{answers::greedy, command, complains, e2e, path, refused, run, scratch, tiny, univi};

/// A picture whose name has a space and a quote.
fn photo(name: &str) -> PathBuf {
    let photo = scratch(name).join("it's my photo.png");
    fs::copy(e2e().join("image.png"), &photo).unwrap();
    photo
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[cfg(unix)]
#[test]
fn chat_takes_a_path_however_a_terminal_writes_it() {
    let photo = photo("dragged");
    let plain = path(&photo);
    let args = greedy("chat", "1", &[]);
    for written in [
        plain.to_owned(),
        format!("\"{plain}\""),
        format!("'{}' ", plain.replace('\'', "'\\''")),
        plain.replace('\'', "\\'").replace(' ', "\\ "),
        format!("file://{}", plain.replace(' ', "%20")),
    ] {
        let output = run(&args, &format!("/image {written}\n/quit\n"));
        assert!(output.status.success(), "{written}: {}", stderr(&output));
        let shown = stderr(&output);
        assert!(shown.starts_with(plain), "{written}: {shown}");
        assert!(shown.contains("with the next message"), "{shown}");
    }
    complains(&args, run(&args, &format!("{plain}\n")), "/image '");
    complains(&args, run(&args, "/imgae x.png\n"), "did you mean /image?");
    complains(&args, run(&args, "/image -\n"), "stdin is the conversation");
}

#[test]
fn a_question_that_is_a_path_asks_for_the_option() {
    let photo = photo("questions");
    let frames = e2e().join("video");
    for (question, option) in [
        (path(&photo), "--image '"),
        (path(&frames), "--video "),
        ("clip.mp4", "--video clip.mp4"),
        ("file:///nowhere/sheep.jpg", "--image /nowhere/sheep.jpg"),
    ] {
        refused(&greedy("ask", "1", &[question]), option);
    }
}

#[test]
fn a_picture_comes_on_stdin() {
    let photo = photo("stdin");
    let ask = |picture: &str, input: Stdio| {
        let mut command = command(&greedy("ask", "4", &["--image", picture, "What?"]));
        let output = command.stdin(input).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        output.stdout
    };
    let piped = ask("-", fs::File::open(&photo).unwrap().into());
    assert_eq!(piped, ask(path(&photo), Stdio::null()));
    let args = greedy("ask", "1", &["--image", "-", "What?"]);
    complains(&args, run(&args, "no picture"), "stdin: ");
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let photo = path(&photo("options")).to_owned();
    let ask = |more: &[&'static str]| {
        let mut args = vec!["ask", "-m", "m"];
        args.extend(more);
        args.push("What?");
        args
    };
    for (args, says) in [
        (
            ask(&["--video", "v", "--start", "5", "--end", "2"]),
            "--end 2",
        ),
        (ask(&["--video", "v", "--start", "-1"]), "--start"),
        (ask(&["--start", "1"]), "--start chooses frames of a video"),
        (ask(&["--image", "i", "--max-frames", "4"]), "--max-frames"),
        (ask(&["--visual-tokens", "64"]), "--visual-tokens"),
        (ask(&["--temperature", "0", "--top-k", "4"]), "--top-k"),
        (ask(&["--image", "-", "--image", "-"]), "stdin"),
        (vec!["chat", "-m", "m", "--image", "-"], "stdin"),
        (vec!["serve", ".", "--seed", "3"], "--seed"),
        (vec!["serve", ".", "--connect-src", "a b"], "--connect-src"),
        (
            vec!["serve", ".", "--connect-src", "http://u:p@h"],
            "--connect-src",
        ),
        (
            vec![
                "visualize",
                "-m",
                "m",
                "--image",
                &photo,
                "--end",
                "3",
                "--out",
                "o.png",
            ],
            "--end",
        ),
        (
            vec!["visualize", "-m", "m", "--image", &photo, "--out", "o.gif"],
            ".png, .jpg or .webp",
        ),
        (
            vec!["eval", "nano", "--merge", "none", "--visual-tokens", "7"],
            "--visual-tokens does nothing",
        ),
        (vec!["akk"], "ask"),
        (vec!["visualise"], "visualize"),
    ] {
        let output = run(&args, "");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            stderr(&output).contains(says),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_video_begins_and_ends_between_seconds() {
    let frames = e2e().join("video");
    let events = |more: &[&str]| {
        let mut args = greedy("ask", "1", &["--json", "--video", path(&frames)]);
        args.extend(more);
        args.push("What?");
        let said: serde_json::Value = serde_json::from_str(&univi(&args)).unwrap();
        said["visuals"][0]["events"].to_string()
    };
    let later = events(&["--start", "0.5", "--end", "2.5"]);
    assert_ne!(later, events(&[]));
}

#[test]
fn a_figure_is_of_the_format_that_its_name_says() {
    let folder = scratch("figure-formats");
    let image = e2e().join("image.png");
    for (name, begins) in [
        ("a.png", &b"\x89PNG"[..]),
        ("a.jpg", b"\xff\xd8\xff"),
        ("a.JPEG", b"\xff\xd8\xff"),
        ("a.webp", b"RIFF"),
    ] {
        let out = folder.join(name);
        let model = ["visualize", "-m", tiny(), "--device", "cpu"];
        let more = ["--image", path(&image), "--out", path(&out)];
        univi(&[&model[..], &more].concat());
        assert!(fs::read(&out).unwrap().starts_with(begins), "{name}");
    }
}

/// Runs the program where no file may grow beyond a kilobyte, as on a full disk.
#[cfg(unix)]
fn on_a_full_disk(args: &[&str]) -> Output {
    let script = "trap '' XFSZ && ulimit -f 1 && exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_univi")]);
    command.args(args).output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_file_and_says_so() {
    let folder = scratch("full-disk");
    let (out, image) = (folder.join("out.png"), e2e().join("image.png"));
    fs::write(&out, "older").unwrap();
    let model = ["visualize", "-m", tiny(), "--device", "cpu"];
    let more = ["--image", path(&image), "--out", path(&out)];
    let args = [&model[..], &more].concat();
    complains(&args, on_a_full_disk(&args), "out.png: ");
    assert_eq!(fs::read_to_string(&out).unwrap(), "older");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_no_success() {
    let full = || fs::File::create("/dev/full").unwrap();
    for args in [
        greedy("ask", "4", &["What?"]),
        greedy("ask", "4", &["--json", "What?"]),
        vec!["inspect", tiny()],
        vec!["completions", "bash"],
    ] {
        let output = command(&args).stdout(full()).output().unwrap();
        complains(&args, output, "stdout: No space left");
    }
}

#[test]
fn shells_complete_and_manuals_are_complete() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = univi(&["completions", shell]);
        assert!(script.contains("visual-tokens"), "{shell}");
    }
    let folder = scratch("man");
    univi(&["man", "--out", path(&folder)]);
    let page = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert!(page("univi.1").contains("univi\\-train"));
    assert!(page("univi-ask.1").contains("visual\\-tokens"));
    assert!(page("univi-train-nano.1").contains("artwork"));
    assert_eq!(univi(&["man", "train", "nano"]), page("univi-train-nano.1"));
    refused(&["man", "dance"], "no command `univi dance`");
}
