//! The examples of the library, run as they stand on the model that ships.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

use image::{Delay, Frame, codecs::gif::GifEncoder};

const MODEL: &str = "models/univi-nano";
const PENGUIN: &str = "www/public/samples/penguin-cookie.png";

const EXAMPLES: [&str; 4] = ["ask_image", "ask_video", "chat", "token_map"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Builds the examples once -> the folder that they are in.
fn examples() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // All packages together, as the tests are built: for one alone, dependencies would be
        // built anew.
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--workspace", "--exclude", "xtask"])
            .args(EXAMPLES.map(|name| format!("--example={name}")))
            .current_dir(root())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        // From target/debug/deps/examples-0123456789abcdef.
        let this = std::env::current_exe().unwrap();
        this.ancestors().nth(2).unwrap().join("examples")
    })
}

/// What the example prints on stdout.
fn run(example: &str, args: &[&str], stdin: &str) -> String {
    let mut child = Command::new(examples().join(example))
        .args(args)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(stdin.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{example}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_readme_shows_the_example_as_it_stands() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let shown = readme.split("```rust\n").nth(1).unwrap();
    let shown = shown.split("```").next().unwrap();
    let example = fs::read_to_string(root().join("crates/core/examples/ask_image.rs")).unwrap();
    assert!(example.ends_with(shown), "{shown}");
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let words = readme.split_whitespace().count();
    assert!(words <= 700, "README.md: {words} words, at most 700");
}

#[test]
fn ask_image_answers() {
    let answer = run("ask_image", &[MODEL, PENGUIN, "Can you see a penguin?"], "");
    assert_eq!(answer, "yes\n");
}

/// A GIF of two scenes, three seconds each, one frame a second.
fn two_scenes() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("two-scenes.gif");
    let mut gif = GifEncoder::new(fs::File::create(&path).unwrap());
    for scene in [PENGUIN, "www/public/samples/train-zebra.png"] {
        let picture = image::open(root().join(scene)).unwrap().to_rgba8();
        for _ in 0..3 {
            let frame =
                Frame::from_parts(picture.clone(), 0, 0, Delay::from_numer_denom_ms(1000, 1));
            gif.encode_frame(frame).unwrap();
        }
    }
    path
}

#[test]
fn ask_video_answers() {
    let video = two_scenes();
    let question = "How many scenes are there?";
    let answer = run("ask_video", &[MODEL, video.to_str().unwrap(), question], "");
    assert_eq!(answer, "2\n");
}

#[test]
fn chat_answers_every_line() {
    let questions = "Can you see a penguin?\nCan you see a zebra?\n";
    let answers = run("chat", &[MODEL, PENGUIN], questions);
    assert_eq!(answers, "yes\nno\n");
}

#[test]
fn token_map_prints_a_letter_for_each_patch() {
    let map = run("token_map", &[MODEL, PENGUIN], "");
    let rows: Vec<&str> = map.lines().collect();
    assert!(rows.len() > 1, "{map}");
    assert!(rows.iter().all(|row| row.len() == rows.len()), "{map}");
    let tokens: BTreeSet<char> = map.replace('\n', "").chars().collect();
    let patches = rows.len().pow(2);
    assert!(tokens.len() > 1 && tokens.len() < patches, "{map}");
}
