//! `verify`.

use std::fs;

use serde_json::Value;

use crate::{complains, fixtures, path, run, scratch, univi};

#[test]
fn fixtures_are_found_wherever_they_lie() {
    let count = |folder: &std::path::Path| {
        let args = [
            "verify",
            "--fixtures",
            path(folder),
            "--device",
            "cpu",
            "--filter",
            "sampling",
            "--json",
        ];
        let report: Value = serde_json::from_str(&univi(&args)).unwrap();
        assert_eq!(report["success"], true);
        report["passed"].as_u64().unwrap()
    };
    let all = count(&fixtures());
    assert!(all > 0);
    assert_eq!(count(&fixtures().join("golden")), all);
}

#[test]
fn one_line_per_case_tells_error_and_tolerance() {
    let fixtures = fixtures();
    let args = [
        "verify",
        "--fixtures",
        path(&fixtures),
        "--device",
        "cpu",
        "--filter",
        "e2e/",
    ];
    let said = univi(&args);
    let (cases, summary) = said.trim_end().rsplit_once('\n').unwrap();
    assert!(cases.lines().count() > 40);
    for line in cases.lines() {
        assert!(
            line.starts_with("ok    e2e/") && (line.ends_with("equal") || line.contains(" (<= ")),
            "{line}"
        );
    }
    assert_eq!(
        summary,
        format!("{} passed, 0 failed, on cpu", cases.lines().count())
    );
}

#[test]
fn a_wrong_result_fails() {
    let folder = scratch("wrong").join("golden");
    fs::create_dir_all(folder.join("sampling")).unwrap();
    let file = "sampling/frame_indices.json";
    let mut rows: Value =
        serde_json::from_str(&fs::read_to_string(fixtures().join("golden").join(file)).unwrap())
            .unwrap();
    // The first list of frames gets one that is not right.
    fn first_indices(value: &mut Value) -> Option<&mut Vec<Value>> {
        match value {
            Value::Object(members) => members.iter_mut().find_map(|(key, member)| {
                let is_list = member.as_array().is_some_and(|list| !list.is_empty());
                match key == "indices" && is_list {
                    true => member.as_array_mut(),
                    false => first_indices(member),
                }
            }),
            Value::Array(items) => items.iter_mut().find_map(first_indices),
            _ => None,
        }
    }
    first_indices(&mut rows).unwrap()[0] = 123_456.into();
    fs::write(folder.join(file), rows.to_string()).unwrap();
    let output = run(
        &["verify", "--fixtures", path(&folder), "--device", "cpu"],
        "",
    );
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert_eq!(
        stdout
            .lines()
            .filter(|line| line.starts_with("FAIL  sampling/"))
            .count(),
        1,
        "{stdout}"
    );
}

#[test]
fn finding_nothing_is_a_failure() {
    let empty = scratch("nothing");
    let args = ["verify", "--fixtures", path(&empty), "--device", "cpu"];
    let output = run(&args, "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .starts_with("error: ")
    );
    let args = ["verify", "--fixtures", "/nowhere/at/all", "--device", "cpu"];
    complains(&args, run(&args, ""), "/nowhere/at/all");
}

#[test]
fn models_that_are_not_there_are_named() {
    let fixtures = fixtures();
    let verify = |more: &[&str]| {
        let mut args = vec![
            "verify",
            "--fixtures",
            path(&fixtures),
            "--device",
            "cpu",
            "--filter",
            "smollm2",
        ];
        args.extend(more);
        let output = run(&args, "");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        verify(&[])
            .lines()
            .any(|line| line.starts_with("not run  smollm2"))
    );
    let empty = scratch("models");
    let said = verify(&["--models", path(&empty)]);
    assert!(
        said.lines()
            .any(|line| line.starts_with("FAIL  smollm2") && line.contains("cargo xtask models")),
        "{said}"
    );
}
