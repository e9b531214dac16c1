//! The fields of requests to `univi serve --model`: those of the package, and what they bring.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::chat_server::{ask, post, question, root, shown, start, text};

/// The tokens of an answer, or of a piece of it.
fn tokens(choice: &Value) -> Vec<Value> {
    let content = choice["logprobs"]["content"].as_array();
    content.cloned().unwrap_or_default()
}

fn bytes(token: &Value) -> Vec<u8> {
    serde_json::from_value(token["bytes"].clone()).unwrap()
}

fn logprob(token: &Value) -> f64 {
    token["logprob"].as_f64().unwrap()
}

/// Compares tokens. A prompt that is read in other parts, as one in a KV cache is, adds up in
/// another order.
#[track_caller]
fn assert_alike(a: &[Value], b: &[Value]) {
    let texts = |tokens: &[Value]| {
        let texts = tokens.iter().map(|token| token["token"].clone());
        texts.collect::<Vec<_>>()
    };
    assert_eq!(texts(a), texts(b));
    for (a, b) in a.iter().zip(b) {
        assert!((logprob(a) - logprob(b)).abs() < 1e-3, "{a} and {b}");
    }
}

#[test]
fn tokens_come_with_their_log_probabilities() {
    let server = start(&[]);
    let parts = [
        shown("penguin-cookie.png"),
        text("What is there from left to right?"),
    ];
    let asked = |fields: &Value| {
        let (said, completion) = ask(&server, &question(&parts, fields));
        (said, tokens(&completion["choices"][0]))
    };
    let fields = json!({ "logprobs": true, "top_logprobs": 20 });
    let (said, whole) = asked(&fields);
    assert_eq!(said, "penguin and cookie");
    let joined: Vec<u8> = whole.iter().flat_map(bytes).collect();
    assert_eq!(String::from_utf8(joined).unwrap(), said);
    for token in &whole {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 20);
        // The likeliest one is chosen, and no probabilities are above 1 together.
        assert_eq!(
            (&top[0]["token"], logprob(&top[0])),
            (&token["token"], logprob(token))
        );
        assert!(
            top.windows(2)
                .all(|pair| logprob(&pair[0]) >= logprob(&pair[1]))
        );
        let all: f64 = top.iter().map(|other| logprob(other).exp()).sum();
        assert!((0.5..1.0001).contains(&all), "{all}");
    }

    // They are the model's own, whatever the choice is made with.
    let drawn = json!({ "temperature": 3, "max_tokens": 1, "logprobs": true, "top_logprobs": 20 });
    let top = |token: &Value| token["top_logprobs"].as_array().unwrap().clone();
    assert_alike(&top(&asked(&drawn).1[0]), &top(&whole[0]));
    let (_, plain) = asked(&json!({ "logprobs": true }));
    assert_eq!(plain.len(), whole.len());
    assert!(plain.iter().all(|token| token["top_logprobs"] == json!([])));

    // What ends the answer is no part of it.
    let stopped = json!({ "logprobs": true, "stop": [" and"] });
    let (said, before) = asked(&stopped);
    assert_eq!(said, "penguin");
    assert_eq!(
        before.iter().flat_map(bytes).collect::<Vec<_>>(),
        b"penguin"
    );

    // A stream has each token with its text.
    let mut request = question(&parts, &fields);
    request["stream"] = json!(true);
    let mut streamed = Vec::new();
    for event in post(&server, &request).body.split("\n\n") {
        let Some(json) = event.strip_prefix("data: {") else {
            continue;
        };
        let chunk: Value = serde_json::from_str(&format!("{{{json}")).unwrap();
        let choice = &chunk["choices"][0];
        let found = tokens(choice);
        assert_eq!(
            found.is_empty(),
            choice["delta"]["content"]
                .as_str()
                .unwrap_or_default()
                .is_empty()
        );
        streamed.extend(found);
    }
    assert_alike(&streamed, &whole);
}

/// The names between `begin` and the next `end`, each between quotes or before a colon.
fn names(source: &str, begin: &str, end: &str) -> BTreeSet<String> {
    let source = source.split_once(begin).expect(begin).1;
    let list = source.split_once(end).expect(end).0;
    let lines = list.lines().map(str::trim);
    let names = lines.filter_map(|line| {
        let name = line.trim_start_matches(['(', '"']);
        let end = name.find(['"', ':'])?;
        let name = &name[..end];
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_lowercase() || c == '_');
        is_name.then(|| name.to_owned())
    });
    names.collect()
}

#[test]
fn the_package_takes_the_same_fields() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let server = read("crates/cli/src/chat_server/request.rs");
    let package = read("pkg/src/completions.ts");
    let fields = names(&server, "const FIELDS", "];");
    assert!(
        fields.contains("messages") && fields.len() > 10,
        "{fields:?}"
    );
    assert_eq!(fields, names(&package, "const FIELDS", "]);"));
    let neutral = names(&server, "const NEUTRAL", "];");
    assert!(
        neutral.contains("user") && neutral.len() > 10,
        "{neutral:?}"
    );
    assert_eq!(neutral, names(&package, "const NEUTRAL", "};"));
}

#[test]
fn what_is_wrong_is_named_by_its_place() {
    let server = start(&[]);
    let asked = [text("What is this?")];
    let with = |fields: Value| question(&asked, &fields);
    let shown = |url: &str| {
        let part = json!({ "type": "image_url", "image_url": { "url": url } });
        question(&[part], &json!({}))
    };
    for (request, param) in [
        (with(json!({ "temperature": -1 })), "temperature"),
        (with(json!({ "temperature": 0.5, "top_p": 2 })), "top_p"),
        (with(json!({ "min_p": 1.5 })), "min_p"),
        (
            with(json!({ "repetition_penalty": 0 })),
            "repetition_penalty",
        ),
        (
            shown("data:image/png;base64,AAAA"),
            "messages[0].content[0].image_url",
        ),
        (
            question(
                &[json!({ "type": "text", "text": "a", "weight": 2 })],
                &json!({}),
            ),
            "messages[0].content[0].weight",
        ),
    ] {
        let reply = post(&server, &request);
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert_eq!(reply.json()["error"]["param"], param, "{}", reply.body);
    }
}
