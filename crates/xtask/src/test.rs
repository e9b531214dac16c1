//! `cargo xtask test`: every check there is, native and in browsers, summed up in one line.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::{Cmd, cmd};
use crate::{artwork, models, npm, setup, wasm};

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

/// Which of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    All,
    /// Those that read the fixtures: for fuller sets of them than this repository holds.
    Fixtures,
}

/// The native tests that read the fixtures, by the names of their files.
const FIXTURE_TESTS: [&str; 9] = [
    "checkpoint",
    "constraint",
    "gguf",
    "parity",
    "preprocess",
    "prompt",
    "sampling",
    "session",
    "tokenizer",
];

/// The crates that a release publishes.
const PUBLISHED: [&str; 9] = [
    "univi",
    "univi-convert",
    "univi-hub",
    "univi-serve",
    "univi-verify",
    "univi-bench",
    "univi-eval",
    "univi-train",
    "univi-cli",
];

/// Runs every step, whatever became of those before it, and fails naming those that failed.
///
/// # Errors
/// Where a step failed.
pub fn test(root: &Path, selection: Selection) -> Result<()> {
    let mut steps = Steps::default();
    match selection {
        Selection::All => steps.run_all(root),
        Selection::Fixtures => steps.run_fixtures(root),
    }
    println!("\n{}", steps.report);
    for (name, error) in &steps.failures {
        println!("FAILED {name}: {error:#}");
    }
    println!(
        "{} passed, {} failed",
        steps.total.passed, steps.total.failed
    );
    if steps.failures.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = steps
        .failures
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    bail!("{} steps failed: {}", names.len(), names.join(", "))
}

#[derive(Default)]
struct Steps {
    total: Count,
    report: String,
    failures: Vec<(String, anyhow::Error)>,
}

impl Steps {
    fn run_all(&mut self, root: &Path) {
        self.bring_data(root);
        // Beside the native tests, which leave a core idle for long: it compiles into other
        // folders than they do, so cargo lets both work.
        let modules = {
            let root = root.to_owned();
            thread::spawn(move || -> Result<()> {
                let xtask = std::env::current_exe()?;
                cmd(&xtask).arg("wasm").dir(&root).run()?;
                let self_test = cmd(&xtask).args(["wasm", "--self-test"]).dir(&root);
                self_test.run().map(drop)
            })
        };
        self.check("format", || {
            done(cargo(root, "fmt --all --check").remedy("cargo fmt --all"))
        });
        // Xtask apart: cargo builds a library once for each set of features, and with the others'
        // it would build anew all that this program, which is running, was built from.
        for (packages, whose) in [(models::ALL_BUT_XTASK, ""), ("--package xtask", ", xtask")] {
            self.check(&format!("clippy{whose}"), || {
                let lints = format!("clippy {packages} --all-targets -- -D warnings");
                done(cargo(root, &lints))
            });
            self.tests(
                &format!("native tests{whose}"),
                cargo(root, &format!("test {packages} --tests --no-fail-fast")),
                cargo_totals,
            );
        }
        self.tests(
            "examples in documentation",
            cargo(root, &format!("test {} --doc", models::ALL_BUT_XTASK)),
            cargo_totals,
        );
        self.check("documentation", || {
            let all = format!("doc --no-deps {}", models::ALL_BUT_XTASK);
            done(cargo(root, &all).env("RUSTDOCFLAGS", "-D warnings"))
        });
        // Without compiling them: that they compile has been seen. Offline, since all that they
        // need has come by now.
        self.check("crates for publishing", || {
            let packages: String = PUBLISHED.map(|name| format!(" --package {name}")).concat();
            let flags = "--no-verify --allow-dirty --offline";
            done(cargo(root, &format!("package{packages} {flags}")))
        });
        self.vocabulary(root);
        self.check("web modules, beside native tests", || {
            modules.join().expect("it does not panic")
        });
        self.build_web(root);
        self.check("package and page: checks", || done(npm::run(root, "check")));
        self.node_tests(root, |_| true);
    }

    fn run_fixtures(&mut self, root: &Path) {
        self.bring_data(root);
        let named: String = FIXTURE_TESTS
            .iter()
            .map(|name| format!(" --test {name}"))
            .collect();
        self.tests(
            "native tests of the fixtures",
            cargo(
                root,
                &format!("test {}{named} --no-fail-fast", models::ALL_BUT_XTASK),
            ),
            cargo_totals,
        );
        self.build_web(root);
        self.node_tests(root, |name| name.starts_with("verify-"));
    }

    /// What this machine needs, and what the tests read that is not in git.
    fn bring_data(&mut self, root: &Path) {
        self.check("setup", || setup::setup(root));
        self.check("models", || models::fetch(root));
        self.check("artwork", || artwork::fetch(root));
    }

    /// The LLaMA vocabulary, among the fixtures of this repository: the native tests bring it for
    /// themselves, those in JavaScript can't.
    fn vocabulary(&mut self, root: &Path) {
        self.check("vocabulary", || {
            done(cmd(models::built(root, "llama-vocabulary")).dir(root))
        });
    }

    fn build_web(&mut self, root: &Path) {
        self.check("web module", || wasm::build(root));
        self.check("self-test for browsers", || wasm::build_verify(root));
        self.check("package and page", || done(npm::run(root, "build")));
    }

    /// The tests in JavaScript whose file names `wanted` says yes to.
    fn node_tests(&mut self, root: &Path, wanted: fn(&str) -> bool) {
        let paths = match node_tests(root) {
            Ok(paths) => paths,
            Err(error) => return self.check("tests in JavaScript", || Err(error)),
        };
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if wanted(&name) {
                let name = format!("tests/web/{name}");
                self.tests(&name, node(root).arg(&path), node_totals);
            }
        }
    }

    /// A step that passes or fails as a whole.
    fn check(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        self.step(name, || (None, work()));
    }

    /// A step that runs tests and prints how many.
    fn tests(&mut self, name: &str, command: Cmd, totals: fn(&str) -> Option<Count>) {
        self.step(name, || {
            let (output, result) = command.echo().run_to_end();
            let count = totals(&output);
            let result =
                result.and_then(|()| count.map(drop).context("no total of tests in its output"));
            (count, result)
        });
    }

    fn step(&mut self, name: &str, work: impl FnOnce() -> (Option<Count>, Result<()>)) {
        println!("\n== {name}");
        let started = Instant::now();
        let (count, result) = work();
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        self.report += &format!(
            "{verdict:6} {:6.1} s  {name}",
            started.elapsed().as_secs_f64()
        );
        if let Some(Count { passed, failed }) = count {
            self.total.passed += passed;
            self.total.failed += failed;
            self.report += &format!(": {passed} passed, {failed} failed");
        }
        self.report += "\n";
        if let Err(error) = result {
            println!("FAILED {name}: {error:#}");
            self.failures.push((name.to_owned(), error));
        }
    }
}

/// `cargo` with arguments that hold no spaces.
fn cargo(root: &Path, arguments: &str) -> Cmd {
    with_vulkan(cmd("cargo").args(arguments.split(' ')).dir(root))
}

/// Node's test runner, told where the command line and the browsers are.
fn node(root: &Path) -> Cmd {
    let command = cmd("node")
        .args(["--test", "--test-reporter=spec"])
        .env("UNIVI", models::univi(root))
        .dir(root);
    let browsers = [
        ("CHROMIUM", setup::chromium()),
        ("FIREFOX", setup::firefox()),
    ];
    with_vulkan(
        browsers
            .into_iter()
            .fold(command, |command, (variable, path)| match path {
                Some(path) => command.env(variable, path),
                None => command,
            }),
    )
}

/// The tests in JavaScript, in order of their names.
fn node_tests(root: &Path) -> Result<Vec<PathBuf>> {
    let dir = root.join("tests/web");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.to_string_lossy().ends_with(".test.mjs"));
    paths.sort();
    Ok(paths)
}

/// Vulkan's loader wants a folder for sockets to be named, even where nothing opens one.
fn with_vulkan(command: Cmd) -> Cmd {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(_) => command,
        None => command.env("XDG_RUNTIME_DIR", std::env::temp_dir()),
    }
}

fn done(command: Cmd) -> Result<()> {
    command.echo().run().map(drop)
}

/// Sums the lines `test result: ok. 3 passed; 1 failed; ..` of `cargo test`, one per test binary.
fn cargo_totals(output: &str) -> Option<Count> {
    let number_before = |line: &str, word: &str| -> Option<u64> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|w| w.trim_end_matches(';') == word)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    let results = output
        .lines()
        .filter(|line| line.starts_with("test result: "));
    let counts = results.map(|line| {
        Some(Count {
            passed: number_before(line, "passed")?,
            failed: number_before(line, "failed")?,
        })
    });
    sum(counts)
}

/// Reads the lines `ℹ pass 3`, `ℹ fail 0` and `ℹ cancelled 0` that end a run of Node's test runner.
fn node_totals(output: &str) -> Option<Count> {
    let total = |name: &str| -> Option<u64> {
        let lines = output.lines().rev();
        lines
            .filter_map(|line| line.strip_prefix("ℹ ")?.strip_prefix(name))
            .find_map(|n| n.trim().parse().ok())
    };
    Some(Count {
        passed: total("pass ")?,
        failed: total("fail ")? + total("cancelled ")?,
    })
}

/// None where there is nothing to sum, or one part is unreadable: no tests is no success.
fn sum(counts: impl Iterator<Item = Option<Count>>) -> Option<Count> {
    counts.reduce(|a, b| {
        let (a, b) = (a?, b?);
        Some(Count {
            passed: a.passed + b.passed,
            failed: a.failed + b.failed,
        })
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_totals_are_summed() {
        let output = "running 2 tests\ntest a ... ok\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n\
            test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        assert_eq!(
            cargo_totals(output),
            Some(Count {
                passed: 5,
                failed: 1
            })
        );
        assert_eq!(cargo_totals("error: could not compile\n"), None);
        assert_eq!(cargo_totals("test result: odd\n"), None);
    }

    #[test]
    fn node_totals_are_read() {
        let output =
            "✔ a (1ms)\nℹ tests 4\nℹ suites 0\nℹ pass 2\nℹ fail 1\nℹ cancelled 1\nℹ skipped 0\n";
        assert_eq!(
            node_totals(output),
            Some(Count {
                passed: 2,
                failed: 2
            })
        );
        assert_eq!(node_totals("node: bad option\n"), None);
    }
}
