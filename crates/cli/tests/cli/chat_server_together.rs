//! Requests that `univi serve --model` answers at the same time.

use serde_json::{Value, json};

use crate::{
    chat_server::{
        COMPLETIONS, ask, begin_endless, get, metric, post, question, receive, send, serve_nano,
        shown, start, text, until,
    },
    scratch,
    serve::{PATIENCE, Server},
};

/// Requests that have nothing in common: pictures and text, whole and streamed, greedy and drawn.
fn requests() -> Vec<Value> {
    let cookie = || shown("penguin-cookie.png");
    let drawn = |seed: u32| json!({ "temperature": 1, "seed": seed, "max_tokens": 30 });
    vec![
        question(&[cookie(), text("What is in the picture?")], &json!({})),
        question(
            &[text("What is in the picture?")],
            &json!({ "max_tokens": 40 }),
        ),
        question(&[cookie(), text("Can you see a penguin?")], &json!({})),
        question(&[text("How many are there?")], &drawn(1)),
        question(&[cookie(), text("What is in the picture?")], &drawn(2)),
        question(&[text("Hello!")], &json!({ "repetition_penalty": 1.2 })),
        question(
            &[text("Hello!")],
            &json!({ "logprobs": true, "top_logprobs": 2 }),
        ),
        question(
            &[cookie(), text("What is on the left?")],
            &json!({ "max_tokens": 3 }),
        ),
        question(&[text("Which colour is it?")], &drawn(3)),
        question(&[cookie(), text("Is there a dog?")], &json!({})),
    ]
}

#[test]
fn an_answer_is_the_same_beside_others() {
    let server = start(&[]);
    let choices = |answer: Value| answer["choices"].clone();
    let alone: Vec<Value> = requests()
        .iter()
        .map(|request| choices(ask(&server, request).1))
        .collect();
    let server = start(&[]);
    let sent: Vec<_> = requests()
        .iter()
        .map(|request| send(&server, "POST", COMPLETIONS, "", &request.to_string()))
        .collect();
    for (i, (stream, mut alone)) in sent.into_iter().zip(alone).enumerate() {
        let reply = receive(stream);
        assert_eq!(reply.status, 200, "{}", reply.body);
        let mut together = choices(reply.json());
        // Sums of several rows are in another order than those of one.
        for choices in [&mut alone, &mut together] {
            choices[0].as_object_mut().unwrap().remove("logprobs");
        }
        assert_eq!(together, alone, "answer {i}");
    }
    assert_eq!(metric(&server, "univi_requests_running"), 0.0);
}

#[test]
fn as_many_are_answered_at_a_time_as_conversations_are_kept() {
    let server = start(&["--conversations", "2", "--queue", "0"]);
    let first = begin_endless(&server);
    let hello = question(&[text("What is this?")], &json!({}));
    let (answer, _) = ask(&server, &hello);
    let second = begin_endless(&server);
    assert_eq!(metric(&server, "univi_requests_running"), 2.0);
    // What is answered takes no memory of those that arrive and wait.
    assert_eq!(metric(&server, "univi_request_bytes"), 0.0);
    assert_eq!(post(&server, &hello).status, 429);
    drop(second);
    until(&server, "univi_requests_running", 1.0);
    assert_eq!(ask(&server, &hello).0, answer);
    drop(first);
    until(&server, "univi_requests_running", 0.0);
    assert_eq!(get(&server, "/health").status, 200);
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_no_temporary_file() {
    let folder = scratch("temporary-files");
    let count = || std::fs::read_dir(&folder).unwrap().count();
    let mut command = serve_nano(&["--queue", "64"]);
    command.env("TMPDIR", &folder);
    let mut server = Server::of(command);
    let asked = question(&[shown("unicorn-cake-owl.webm"), text("What?")], &json!({}));
    let sent: Vec<_> = (0..8)
        .map(|_| send(&server, "POST", COMPLETIONS, "", &asked.to_string()))
        .collect();
    let begun = std::time::Instant::now();
    while count() == 0 {
        assert!(begun.elapsed() < PATIENCE, "no clip was written");
    }
    assert_eq!(server.interrupt(), Some(130));
    assert_eq!(count(), 0);
    drop(sent);
}
