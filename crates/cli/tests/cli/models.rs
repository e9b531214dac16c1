//! `univi models`: the catalogue against memory of a size.

use serde_json::Value;

use crate::univi;

/// Quantizations of a model that fit, with their KV caches.
fn fitting(memory: &str, id: &str) -> Vec<(String, String)> {
    let printed = univi(&["models", "--memory", memory, "--json"]);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let models = printed["models"].as_array().unwrap();
    let model = models.iter().find(|model| model["id"] == id).unwrap();
    let mut fitting = Vec::new();
    for choice in model["choices"].as_array().unwrap() {
        for cache in choice["caches"].as_array().unwrap() {
            if cache["fits"] == Value::Bool(true) {
                let text = |value: &Value| value.as_str().unwrap().to_string();
                fitting.push((text(&choice["quantization"]), text(&cache["kv_cache"])));
            }
        }
    }
    fitting
}

#[test]
fn what_fits_is_said_for_both_caches() {
    assert_eq!(fitting("4GB", "chat-univi-7b"), []);
    let in_5_gb = fitting("5GB", "chat-univi-7b");
    // 3.9 GB of weights, 2048 x 262,144 numbers of cache: 2.1 GB, or 0.6 GB at q8.
    assert_eq!(in_5_gb, [("q3_k_m".to_string(), "q8".to_string())]);
    let in_12_gb = fitting("12GB", "chat-univi-7b");
    for cache in ["f32", "q8"] {
        assert!(in_12_gb.contains(&("q8_0".to_string(), cache.to_string())));
        assert!(!in_12_gb.contains(&("f16".to_string(), cache.to_string())));
    }
    let large = fitting("12GB", "chat-univi-13b");
    assert!(large.contains(&("q5_k_m".to_string(), "q8".to_string())));
    assert!(!large.contains(&("q5_k_m".to_string(), "f32".to_string())));
}

#[test]
fn a_command_is_printed_that_makes_the_best_one() {
    let text = univi(&["models", "--memory", "12GB"]);
    for expected in [
        "univi convert hf:Chat-UniVi/Chat-UniVi --quant q8_0 --out models/chat-univi-7b\n",
        "univi convert hf:Chat-UniVi/Chat-UniVi-13B --quant q5_k_m --out models/chat-univi-13b\n",
        "LLaMA 2 Community License",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let small = univi(&["models", "--memory", "3GB"]);
    assert!(small.contains("none of them fits"));
}
