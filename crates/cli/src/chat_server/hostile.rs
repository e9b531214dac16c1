//! Requests of strangers: whatever comes, there is an answer or a refusal, in bounds.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde_json::{Value, json};
use univi::frames::FrameOptions;

use super::{
    fetched::Fetcher,
    media::{Reading, Sources},
    request::{ChatRequest, SentPart},
};

/// How often the seeds are changed in a run of all tests.
const ROUNDS: u64 = 300;

/// What values are replaced by.
fn odd_values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}\u{1b}[2J\n\u{202e}"),
        json!("data:,"),
        json!("data:image/png;base64,iVBORw0KGgo"),
        json!("data:video/jpeg;base64,,,,,"),
        json!("http://127.0.0.1/"),
        json!("file:///etc/passwd"),
        json!("x".repeat(100_000)),
        json!([]),
        json!({}),
        json!([[[[]]]]),
        json!({ "type": "image_url", "image_url": null }),
    ]
}

fn seeds() -> Vec<Value> {
    let gif = STANDARD.encode(include_bytes!(
        "../../../../fuzz/seeds/gif/three-frames.gif"
    ));
    let show = |kind: &str, media: &str| {
        let url = format!("data:{media};base64,{gif}");
        json!({ "type": kind, kind: { "url": url, "detail": "auto" } })
    };
    vec![
        json!({
            "model": "nano", "stream": true, "stream_options": { "include_usage": true },
            "messages": [
                { "role": "system", "content": "Be brief." },
                { "role": "user", "content": [show("image_url", "image/gif"), { "type": "text", "text": "a" }] },
                { "role": "assistant", "content": "b" },
                { "role": "user", "content": "c" },
            ],
        }),
        json!({
            "messages": [{ "role": "user", "content": [show("video_url", "video/jpeg"), show("video_url", "image/gif")] }],
            "temperature": 0.5, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "repetition_penalty": 1.1,
            "seed": 7, "stop": ["a", "b"], "max_tokens": 20, "max_completion_tokens": 4,
            "logprobs": true, "top_logprobs": 5, "n": 1, "tools": [], "user": "u",
        }),
        json!({
            "messages": [{ "role": "user", "content": "a" }],
            "response_format": { "type": "json_schema", "json_schema": { "name": "a", "schema": {
                "type": "object", "properties": { "b": { "enum": [1, "c"] } }, "required": ["b"],
            } } },
        }),
    ]
}

/// Replaces, removes or doubles one value somewhere within `value`.
fn change(value: &mut Value, random: &mut ChaCha8Rng) {
    let goes_on = random.random_range(0..4) > 0;
    match value {
        Value::Object(fields) if goes_on && !fields.is_empty() => {
            let at = random.random_range(0..fields.len());
            let name = fields.keys().nth(at).expect("it is there").clone();
            match random.random_range(0..8) {
                0 => drop(fields.remove(&name)),
                1 => {
                    let moved = fields.remove(&name).unwrap_or_default();
                    fields.insert(format!("{name}\u{7}"), moved);
                }
                _ => change(&mut fields[&name], random),
            }
        }
        Value::Array(items) if goes_on && !items.is_empty() => {
            let at = random.random_range(0..items.len());
            match random.random_range(0..8) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => change(&mut items[at], random),
            }
        }
        Value::String(text) if goes_on && !text.is_empty() => {
            let mut bytes = text.clone().into_bytes();
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        value => {
            let mut odd = odd_values();
            *value = odd.swap_remove(random.random_range(0..odd.len()));
        }
    }
}

/// Reads a request, and decodes what it shows.
///
/// # Panics
/// Where a refusal is none that a client could read, or is longer than what was sent.
fn read(body: &[u8]) {
    let reading = Reading {
        size_px: Some(28),
        frames: FrameOptions::default().max_frames(4),
        message_files: None,
        fetcher: Fetcher::new(Vec::new(), Duration::from_secs(1)),
        max_file_bytes: 1 << 20,
    };
    let sources = Sources::new(&reading);
    match ChatRequest::parse(body, "nano", &sources) {
        Ok(mut request) => {
            assert!(!request.keys().is_empty());
            assert!(request.options.generate().is_ok());
            for part in request.parts_mut() {
                if let SentPart::Visual(visual, _) = part {
                    let most = visual.decoded_bytes(&reading);
                    let Ok(decoded) = visual.decode(&reading) else {
                        continue;
                    };
                    let bytes = decoded.frames.iter().map(|frame| frame.pixels.len());
                    assert!(bytes.sum::<usize>() as u64 <= most);
                }
            }
        }
        Err(refusal) => {
            assert!(refusal.status.is_client_error(), "{refusal:?}");
            let error = refusal.json();
            let message = error["error"]["message"].as_str().expect("a message");
            assert!(message.len() <= body.len() + 500, "{message}");
        }
    }
}

fn holds(round: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(round);
    for mut seed in seeds() {
        for _ in 0..random.random_range(1..4) {
            change(&mut seed, &mut random);
        }
        let mut body = seed.to_string().into_bytes();
        if random.random_range(0..4) == 0 {
            let at = random.random_range(0..body.len());
            match random.random_range(0..3) {
                0 => body.truncate(at),
                1 => body[at] = random.random(),
                _ => {
                    let many = vec![b"[{\"0"[random.random_range(0..4)]; 10_000];
                    body.splice(at..at, many);
                }
            }
        }
        read(&body);
    }
}

#[test]
fn whatever_comes_is_answered_or_refused() {
    for seed in seeds() {
        read(seed.to_string().as_bytes());
    }
    (0..ROUNDS).for_each(holds);
}

/// `cargo test --bin univi -- --ignored hostile` for as long as `UNIVI_FUZZ_SECONDS` says.
#[test]
#[ignore = "takes as long as it is told"]
fn whatever_comes_for_long() {
    let seconds = std::env::var("UNIVI_FUZZ_SECONDS").map_or(60, |s| s.parse().expect("seconds"));
    let (began, mut round) = (Instant::now(), ROUNDS);
    while began.elapsed() < Duration::from_secs(seconds) {
        holds(round);
        round += 1;
    }
    println!("{} requests", 3 * (round - ROUNDS));
}
