//! `bench`.

use serde_json::Value;

use crate::{tiny, univi};

/// As little as can be measured.
fn bench(more: &[&str]) -> String {
    let args = [
        "bench",
        "--model",
        tiny(),
        "--rounds",
        "1",
        "--prompts",
        "8,1000000",
        "--contexts",
        "0,4",
        "--answer",
        "2",
        "--pictures",
        "2",
        "--frames",
        "5",
    ];
    univi(&[&args, more].concat())
}

#[test]
fn everything_is_measured_that_fits() {
    let report: Value = serde_json::from_str(&bench(&["--device", "cpu", "--json"])).unwrap();
    assert_eq!(report["device"], "cpu");
    for ceiling in [
        "read_bytes_per_second",
        "copy_bytes_per_second",
        "operations_per_second",
    ] {
        assert!(
            report["ceilings"][ceiling].as_f64().unwrap() > 1e6,
            "{ceiling}"
        );
    }
    let names = |list: &str, name: &str| -> Vec<String> {
        let items = report[list].as_array().unwrap().iter();
        items.map(|item| item[name].to_string()).collect()
    };
    assert_eq!(names("reading", "count"), ["8"]);
    assert_eq!(names("answering", "context"), ["0", "4", "0"]);
    assert_eq!(names("answering", "conversations"), ["1", "1", "8"]);
    assert_eq!(names("vision", "count"), ["2", "1", "1", "5"]);
    // A layer's seven and the output, each with one row and with many.
    let products = names("products", "tensors");
    for tensors in ["attn_q", "attn_output", "ffn_gate", "ffn_down", "output"] {
        let count = products
            .iter()
            .filter(|name| **name == format!("{tensors:?}"))
            .count();
        assert_eq!(count, 2, "{tensors} among {products:?}");
    }
    for list in ["products", "reading", "answering", "vision"] {
        for item in report[list].as_array().unwrap() {
            assert!(item["seconds"]["median"].as_f64().unwrap() > 0., "{item}");
        }
    }
    assert!(report["answering"][0]["gpu"].is_null());
}

#[test]
fn a_gpu_says_how_often_it_is_spoken_to() {
    let report: Value = serde_json::from_str(&bench(&["--device", "gpu", "--json"])).unwrap();
    let gpu = &report["answering"][0]["gpu"];
    // A token is read back, once; so is each of several.
    assert_eq!(gpu["reads"], 1.);
    assert_eq!(report["answering"][2]["gpu"]["reads"], 8.);
    assert!(gpu["dispatches"].as_f64().unwrap() > 10., "{gpu}");
    assert!(report["gpu_memory_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn it_reads_as_tables() {
    let text = bench(&["--device", "cpu"]);
    assert!(text.starts_with("Model: "), "{text}");
    for head in ["| product", "| stage", "| answering after"] {
        assert_eq!(text.matches(head).count(), 1, "{head} in {text}");
    }
}
