//! Split models: the same answers as from the whole file.

use univi::{Backend, Error, Result};

use crate::{Fixtures, Report, gguf_models, read_json};

/// One split model.
#[derive(serde::Deserialize)]
struct Split {
    shards: Vec<Shard>,
    /// Names the whole model's `expected.json`, `types.TYPE` in it, and its logits.
    expected: String,
}

#[derive(serde::Deserialize)]
struct Shard {
    file: String,
    bytes: u64,
    sha256: String,
}

/// Compares every `shards/NAME.json`.
pub async fn check<B: Backend>(backend: &B, fixtures: &dyn Fixtures) -> Report {
    let mut report = Report::default();
    for path in fixtures.list() {
        let Some((folder, file)) = path.rsplit_once('/') else {
            continue;
        };
        let Some(name) = file.strip_suffix(".json") else {
            continue;
        };
        if !(folder == "shards" || folder.ends_with("/shards")) {
            continue;
        }
        let name = format!("shards/{name}");
        if let Err(error) = split(backend, fixtures, folder, &path, &name, &mut report).await {
            report.measured(name, f64::INFINITY, 0.0, error.to_string());
        }
    }
    report
}

async fn split<B: Backend>(
    backend: &B,
    fixtures: &dyn Fixtures,
    folder: &str,
    path: &str,
    name: &str,
    report: &mut Report,
) -> Result<()> {
    let split: Split = read_json(fixtures, path)?;
    let words = || split.expected.split([' ', ',', '(', ')']);
    let word = |what: &str, fits: &dyn Fn(&&str) -> bool| {
        words().find(fits).map(str::to_owned).ok_or_else(|| {
            Error::BadFile {
                format: "fixture",
                reason: format!("{:?} names no {what}", split.expected),
            }
            .in_file(path)
        })
    };
    let expected = beside(
        folder,
        &word("expected.json", &|w| w.ends_with("expected.json"))?,
    );
    let ty = word("types.TYPE", &|w| w.starts_with("types."))?;
    let logits = beside(folder, &word("logits", &|w| w.ends_with(".safetensors"))?);

    let shards = split.shards.into_iter();
    let files: Vec<_> = shards
        .map(|shard| {
            (
                format!("{folder}/{}", shard.file),
                shard.bytes,
                shard.sha256,
            )
        })
        .collect();
    let there = fixtures.list();
    let needed = files.iter().map(|file| &file.0).chain([&expected, &logits]);
    let absent: Vec<&String> = needed.filter(|path| !there.contains(path)).collect();
    if let Some(first) = absent.first() {
        report.missing.push(format!("{name}: {first}"));
        return Ok(());
    }
    let names = [&expected[..], ty.trim_start_matches("types."), &logits[..]];
    gguf_models::check_shards(backend, fixtures, name, &files, names, report).await
}

/// The path that `relative` means inside `folder`.
fn beside(folder: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn relative_paths_are_resolved() {
        assert_eq!(
            beside("gguf/shards", "../models/a/expected.json"),
            "gguf/models/a/expected.json"
        );
        assert_eq!(beside("shards", "../models/a"), "models/a");
        assert_eq!(beside("shards", "./b"), "shards/b");
    }
}
