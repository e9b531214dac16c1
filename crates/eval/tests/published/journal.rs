//! Runs that are killed, go on, and come in shards give the same bytes as one run.

use std::{fs, path::Path};

use serde_json::Map;
use univi_eval::{Expected, JOURNAL_NAME, Journal, Run, Shard};

use crate::record;

const SAMPLES: usize = 23;

/// What a run of POPE says of itself.
pub fn run(shard: Option<Shard>) -> Run {
    Run {
        benchmark: "pope-random".into(),
        model: "model".into(),
        model_sha256: "m".into(),
        data_sha256: "d".into(),
        samples: SAMPLES,
        faults: Vec::new(),
        options: Map::from_iter([("seed".to_owned(), 0.into())]),
        command: "univi eval ..".into(),
        shard,
    }
}

/// Answers what is left, up to `most` answers.
fn go_on(folder: &Path, shard: Option<Shard>, most: usize) {
    let mut journal = Journal::open(folder, &run(shard)).unwrap();
    let mine = (0..SAMPLES).filter(|&index| shard.is_none_or(|shard| shard.has(index)));
    let left: Vec<usize> = mine.filter(|&index| !journal.has(index)).collect();
    for &index in left.iter().take(most) {
        let text = if index % 3 == 0 { "yes" } else { "no" };
        let expected = Expected::Text("yes".into());
        journal.add(record(index, text, expected)).unwrap();
    }
    if left.len() <= most {
        journal.finish().unwrap();
    }
}

fn bytes(folder: &Path) -> Vec<u8> {
    fs::read(folder.join(JOURNAL_NAME)).unwrap()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_run_that_was_killed_at_any_byte_ends_with_the_same_bytes() {
    let whole = folder();
    go_on(whole.path(), None, usize::MAX);
    let killed = folder();
    let path = killed.path().join(JOURNAL_NAME);
    for cut in [1, 40, 300, 777, 1500, 2048] {
        let all = bytes(whole.path());
        fs::write(&path, &all[..cut.min(all.len())]).unwrap();
        go_on(killed.path(), None, 3);
        // Once more, in the midst of a line.
        let partial = bytes(killed.path());
        fs::write(&path, &partial[..partial.len() - 7]).unwrap();
        go_on(killed.path(), None, usize::MAX);
        assert_eq!(bytes(killed.path()), all, "cut at {cut}");
    }
}

#[test]
fn shards_together_are_the_whole_run() {
    let whole = folder();
    go_on(whole.path(), None, usize::MAX);
    let shards: Vec<tempfile::TempDir> = (0..4).map(|_| folder()).collect();
    for (i, shard) in shards.iter().enumerate() {
        let part = Shard {
            number: i + 1,
            of: 4,
        };
        go_on(shard.path(), Some(part), usize::MAX);
    }
    let merged = folder();
    // Their order does not matter.
    let mut paths: Vec<_> = shards.iter().map(|shard| shard.path().to_owned()).collect();
    paths.rotate_left(2);
    let (run, records) = Journal::join(&paths).unwrap();
    assert_eq!(records.len(), SAMPLES);
    Journal::put(merged.path(), &run, &records).unwrap();
    assert_eq!(bytes(merged.path()), bytes(whole.path()));
    let missing = Journal::join(&paths[..3]).unwrap_err();
    assert!(
        missing.to_string().contains("6 of 23 answers are missing"),
        "{missing}"
    );
    paths.push(paths[0].clone());
    let twice = Journal::join(&paths).unwrap_err();
    assert!(twice.to_string().contains("once more"), "{twice}");
    // The whole takes no other run's place, not even that of its own shards.
    let shard = bytes(&paths[0]);
    let refused = Journal::put(&paths[0], &run, &records).unwrap_err();
    assert!(refused.to_string().contains("of another run"), "{refused}");
    assert_eq!(bytes(&paths[0]), shard);
}

#[test]
fn answers_of_another_run_are_not_taken_for_this_ones() {
    let folder = folder();
    go_on(folder.path(), None, 3);
    let other = Run {
        options: Map::from_iter([("seed".to_owned(), 7.into())]),
        ..run(None)
    };
    let error = Journal::open(folder.path(), &other)
        .unwrap_err()
        .to_string();
    assert!(error.contains("seed: 0, not 7"), "{error}");
    let other = Run {
        model_sha256: "x".into(),
        ..run(None)
    };
    assert!(Journal::open(folder.path(), &other).is_err());
    // What was answered is still there.
    assert_eq!(Journal::load(folder.path()).unwrap().1.len(), 3);
}

#[test]
fn a_run_without_a_single_answer_stands_in_no_ones_way() {
    let folder = folder();
    let mut journal = Journal::open(folder.path(), &run(None)).unwrap();
    let mut failed = record(0, "", Expected::Unknown);
    failed.error = Some("no picture".into());
    journal.add(failed).unwrap();
    let other = Run {
        options: Map::from_iter([("seed".to_owned(), 7.into())]),
        ..run(None)
    };
    let journal = Journal::open(folder.path(), &other).unwrap();
    assert_eq!(journal.records().count(), 0);
    assert_eq!(Journal::load(folder.path()).unwrap().0, other);
}

#[test]
fn a_broken_line_is_named() {
    let folder = folder();
    go_on(folder.path(), None, 3);
    let path = folder.path().join(JOURNAL_NAME);
    let text = fs::read_to_string(&path).unwrap().replace("\"q1\"", "\"q1");
    fs::write(&path, text).unwrap();
    let error = Journal::open(folder.path(), &run(None))
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 3"), "{error}");
}

#[test]
fn what_failed_is_asked_again() {
    let folder = folder();
    let mut journal = Journal::open(folder.path(), &run(None)).unwrap();
    let mut failed = record(0, "", Expected::Unknown);
    failed.error = Some("no picture".into());
    journal.add(failed).unwrap();
    assert!(!journal.has(0));
    journal.add(record(0, "yes", Expected::Unknown)).unwrap();
    drop(journal);
    let records = Journal::load(folder.path()).unwrap().1;
    assert_eq!((records.len(), records[0].text()), (1, "yes"));
}
