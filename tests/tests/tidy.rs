//! What keeps the tree tidy: rules that a compiler does not know.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Larger files belong under `tests/fixtures`, or not into git.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What all fixtures together may weigh in git.
const MAX_FIXTURES_BYTES: u64 = 20_000_000;

/// What the model that ships may weigh.
const MAX_MODEL_BYTES: u64 = 8_000_000;

/// This file names what it forbids.
const THIS_FILE: &str = "tests/tests/tidy.rs";

/// A file that git knows, or would take in with the next `git add`.
struct File {
    /// From the repository's root, with slashes.
    path: String,
    bytes: Vec<u8>,
}

impl File {
    /// The text, where it is one.
    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    fn is_fixture(&self) -> bool {
        self.path.starts_with("tests/fixtures/")
    }

    fn is_model(&self) -> bool {
        self.path.starts_with("models/univi-nano/")
    }

    /// `utils` of `src/utils.rs`.
    fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.split('.').next().unwrap_or(name)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a crate in a workspace")
        .to_owned()
}

fn tree() -> Vec<File> {
    let root = root();
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(&root)
        .output()
        .expect("git is there");
    assert!(
        listed.status.success(),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let paths = String::from_utf8(listed.stdout).expect("file names in UTF-8");
    let files = paths.split_terminator('\0').filter_map(|path| {
        let bytes = fs::read(root.join(path)).ok()?; // Deleted, and not yet committed so.
        Some(File {
            path: path.to_owned(),
            bytes,
        })
    });
    let files: Vec<File> = files.collect();
    assert!(
        files.iter().any(|file| file.path == THIS_FILE),
        "git lists other files than these"
    );
    files
}

/// Fails with one line for each breach.
fn check(breaches: impl IntoIterator<Item = String>) {
    let breaches: Vec<String> = breaches.into_iter().collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

/// The lines of `file` that hold one of `words` -> `path:line: word`.
fn lines_with(file: &File, text: &str, words: &[&str]) -> Vec<String> {
    let lines = text.lines().enumerate();
    let found = lines.flat_map(|(i, line)| {
        let words = words.iter().filter(move |word| line.contains(**word));
        words.map(move |word| (i + 1, *word))
    });
    found
        .map(|(line, word)| format!("{}:{line}: {word}", file.path))
        .collect()
}

/// Demands that nothing but fixtures, and this file which names them, holds one of `words`.
fn forbid(words: &[&str]) {
    let tree = tree();
    let written = tree
        .iter()
        .filter(|f| !f.is_fixture() && f.path != THIS_FILE);
    check(written.flat_map(|file| lines_with(file, file.text().unwrap_or_default(), words)));
}

#[test]
fn no_path_of_one_machine() {
    forbid(&["/root/", "/home/", "/Users/", "/work/", "C:\\Users"]);
}

#[test]
fn no_unfinished_work() {
    forbid(&["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("]);
}

/// Names that the field has better ones for, as whole words of Rust and WGSL.
const OLD_NAMES: [&str; 13] = [
    "CoreGlimpse",
    "Wanted",
    "attend",
    "has_room",
    "hash_elsewhere",
    "kv_room",
    "PartTensor",
    "Recipe",
    "Seeing",
    "Sight",
    "Sights",
    "times_transpose",
    "warmed_up",
];

#[test]
fn old_names_stay_away() {
    let tree = tree();
    let sources = tree.iter().filter(|file| {
        (file.path.ends_with(".rs") || file.path.ends_with(".wgsl")) && file.path != THIS_FILE
    });
    let is_part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    check(sources.flat_map(|file| {
        let lines = file.text().unwrap_or_default().lines().enumerate();
        let found = lines.flat_map(|(i, line)| {
            let words = line.split(|c| !is_part_of_name(c));
            let old = words.filter(|word| OLD_NAMES.contains(word));
            old.map(move |word| format!("{}: {word}", i + 1))
        });
        found
            .map(|found| format!("{}:{found}", file.path))
            .collect::<Vec<_>>()
    }));
}

#[test]
fn lock_files_leave_the_registry_open() {
    for name in [
        "package-lock.json",
        "crates/train/artwork/package-lock.json",
    ] {
        let lock = fs::read_to_string(root().join(name)).expect(name);
        assert!(lock.contains("\"integrity\""), "{name} pins no contents");
        assert!(
            !lock.contains("\"resolved\": \"http"),
            "{name} names a registry: run npm where the repository's .npmrc is read"
        );
    }
}

#[test]
fn no_large_files() {
    let tree = tree();
    let large = tree
        .iter()
        .filter(|f| !f.is_fixture() && !f.is_model())
        .filter(|f| f.bytes.len() as u64 > MAX_FILE_BYTES);
    check(large.map(|file| {
        format!(
            "{}: {} bytes, at most {MAX_FILE_BYTES}",
            file.path,
            file.bytes.len()
        )
    }));
    let bytes = |is: fn(&File) -> bool| -> u64 {
        let files = tree.iter().filter(|file| is(file));
        files.map(|file| file.bytes.len() as u64).sum()
    };
    let (fixtures, model) = (bytes(File::is_fixture), bytes(File::is_model));
    assert!(
        fixtures <= MAX_FIXTURES_BYTES,
        "fixtures: {fixtures} bytes, at most {MAX_FIXTURES_BYTES}"
    );
    assert!(
        model <= MAX_MODEL_BYTES,
        "models/univi-nano: {model} bytes, at most {MAX_MODEL_BYTES}"
    );
}

/// What a reader can take in of one file; a longer one has several topics.
const MAX_LINES: usize = 800;

#[test]
fn no_long_sources() {
    const SOURCES: [&str; 7] = [".rs", ".wgsl", ".ts", ".mjs", ".js", ".css", ".html"];
    let tree = tree();
    let sources = tree.iter().filter(|file| {
        !file.is_fixture() && SOURCES.iter().any(|ending| file.path.ends_with(ending))
    });
    check(sources.filter_map(|file| {
        let lines = file.text().unwrap_or_default().lines().count();
        let breach = || {
            format!(
                "{}: {lines} lines, at most {MAX_LINES}: split it by topic",
                file.path
            )
        };
        (lines > MAX_LINES).then(breach)
    }));
}

#[test]
fn no_generated_files() {
    const GENERATED: [&str; 6] = [
        "target/",
        "pkg/wasm/",
        "pkg/dist/",
        "www/dist/",
        "node_modules/",
        "tests/output/",
    ];
    let tree = tree();
    let generated = tree.iter().filter(|file| {
        GENERATED.iter().any(|folder| {
            file.path.starts_with(folder) || file.path.contains(&format!("/{folder}"))
        }) || file.path.ends_with(".wasm")
            || file.path.ends_with(".pyc")
    });
    check(generated.map(|file| format!("{}: built, so not to be committed", file.path)));
}

#[test]
fn no_drawer_for_everything() {
    const DRAWERS: [&str; 8] = [
        "util", "utils", "common", "helper", "helpers", "misc", "shared", "stuff",
    ];
    let tree = tree();
    let drawers = tree
        .iter()
        .filter(|f| !f.is_fixture() && DRAWERS.contains(&f.stem()));
    check(drawers.map(|file| format!("{}: name it after what is in it", file.path)));
}

/// The one file of the library that reads a disk: models and images by their paths, natively.
const OPENS_FILES: &str = "crates/core/src/api/open.rs";

/// The library touches no files, network, clock or terminal, but for [`OPENS_FILES`]: its callers
/// do.
#[test]
fn core_keeps_to_itself() {
    const FORBIDDEN: [&str; 12] = [
        "println!(",
        "eprintln!(",
        "print!(",
        "dbg!(",
        "std::fs",
        "std::net",
        "std::process",
        "std::env",
        "time::Instant",
        "SystemTime",
        "js_sys",
        "web_sys",
    ];
    let tree = tree();
    let sources = tree.iter().filter(|file| {
        let is_tests = file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
        file.path.starts_with("crates/core/src/") && file.path.ends_with(".rs") && !is_tests
    });
    let sources = sources.filter(|file| file.path != OPENS_FILES);
    check(sources.flat_map(|file| {
        let text = file.text().unwrap_or_default();
        // Tests within a module come last in it, and may print.
        let library = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or(text);
        lines_with(file, library, &FORBIDDEN)
    }));
}

#[test]
fn every_shader_has_its_rust() {
    let tree = tree();
    let shaders = tree.iter().filter(|file| file.path.ends_with(".wgsl"));
    let orphans = shaders.filter(|shader| {
        let (folder, name) = shader.path.rsplit_once('/').unwrap_or(("", &shader.path));
        let beside = format!("{folder}/{}.rs", shader.stem());
        !tree.iter().any(|file| {
            let named = || {
                let in_folder = file.path.starts_with(folder) && file.path.ends_with(".rs");
                in_folder && file.text().is_some_and(|text| text.contains(name))
            };
            file.path == beside || named()
        })
    });
    check(orphans.map(|file| format!("{}: no Rust beside it uses it", file.path)));
}

/// Sources whose comments wrap.
const COMMENTED: [&str; 5] = [".rs", ".ts", ".mjs", ".css", ".wgsl"];

/// The most columns of a comment.
const MAX_COLUMNS: usize = 100;

/// Whether a line of source is a comment that a person could wrap: a row of a table can't be, and a
/// licence's banner stays as it was given.
fn is_wrappable(line: &str) -> bool {
    let text = line.trim_start();
    let is_comment = ["//", "/*", "*"]
        .iter()
        .any(|start| text.starts_with(start));
    let said = text.trim_start_matches(['/', '*', '!']).trim_start();
    is_comment && !said.starts_with('|') && !text.starts_with("/*!")
}

#[test]
fn comments_wrap() {
    let tree = tree();
    let sources = tree.iter().filter(|file| {
        !file.is_fixture() && COMMENTED.iter().any(|ending| file.path.ends_with(ending))
    });
    check(sources.flat_map(|file| {
        let lines = file.text().unwrap_or_default().lines().enumerate();
        let long =
            lines.filter(|(_, line)| is_wrappable(line) && line.chars().count() > MAX_COLUMNS);
        let breach = |(i, line): (usize, &str)| {
            let columns = line.chars().count();
            format!(
                "{}:{}: {columns} columns, at most {MAX_COLUMNS}",
                file.path,
                i + 1
            )
        };
        long.map(breach).collect::<Vec<_>>()
    }));
}

#[test]
fn what_counts_as_a_comment() {
    assert!(is_wrappable("    // words") && is_wrappable("//! words") && is_wrappable(" * words"));
    assert!(!is_wrappable("let x = 1; // words"));
    assert!(!is_wrappable("//! | a | table |") && !is_wrappable("/*! a licence */"));
}
