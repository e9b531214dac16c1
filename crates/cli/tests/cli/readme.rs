//! The commands of the README, as they stand there.

use std::{fs, path::PathBuf, process::Stdio};

use crate::{command, scratch};

#[test]
fn the_commands_of_the_readme_run_as_they_stand() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    // What they read lies in the repository; what they write does not belong there.
    let folder = scratch("readme");
    for (name, place) in [
        ("models/univi-nano", "models/univi-nano"),
        ("www/public", "www/public"),
    ] {
        copy(&root.join(place), &folder.join(name));
    }
    let section = readme.split("## On the command line").nth(1).unwrap();
    let block = section.split("```").nth(1).unwrap();
    let commands: Vec<Vec<String>> = block
        .lines()
        .filter_map(|line| line.strip_prefix("univi "))
        .map(words)
        .collect();
    assert!(commands.len() >= 3, "{commands:?}");
    for words in commands {
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = command(&args)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        if args[0] == "ask" {
            let answer = String::from_utf8(output.stdout).unwrap();
            assert_eq!(answer.trim(), "trophy, trophy and bee", "{stderr}");
        }
    }
}

/// The arguments of a command line with double quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        match i % 2 {
            1 => words.push(part.to_owned()),
            _ => words.extend(part.split_whitespace().map(String::from)),
        }
    }
    words
}

fn copy(from: &PathBuf, to: &PathBuf) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy(&from, &to),
            false => drop(fs::copy(&from, &to).unwrap()),
        }
    }
}
