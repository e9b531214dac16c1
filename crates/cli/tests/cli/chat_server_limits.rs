//! What `univi serve --model` fetches, and how it shares turns, places and memory among those who
//! ask.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use serde_json::{Value, json};
use tokio::{net::TcpSocket, runtime::Builder};

use crate::{
    chat_server::{
        COMPLETIONS, Reply, ask, begin_endless, endless, get, metric, post, question, receive,
        sample, send, shown, start, text, until,
    },
    serve::PATIENCE,
};

/// A server of pictures that also redirects, is slow, and sends too much.
fn pictures() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut line = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                reader.read_line(&mut line).unwrap();
                // Where something is left unread, a connection that is closed is reset.
                let mut header = String::new();
                while header != "\r\n" {
                    header.clear();
                    reader.read_line(&mut header).unwrap();
                }
                let picture = sample("penguin-cookie.png");
                let found = |body: &[u8]| {
                    let length = body.len();
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                    [head.as_bytes(), body].concat()
                };
                let moved = |to: &str| {
                    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
                        .into_bytes()
                };
                let answer = match line.split(' ').nth(1).unwrap() {
                    "/open/penguin.png" | "/secret/penguin.png" => found(&picture),
                    "/open/moved.png" => moved("/open/penguin.png"),
                    "/open/away.png" => moved("/secret/penguin.png"),
                    "/open/round.png" => moved("round.png"),
                    "/open/large.png" => found(&vec![0; 300_000]),
                    "/open/slow.png" => {
                        // The other end gives up.
                        let _ = stream.read(&mut [0; 1]);
                        return;
                    }
                    _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
                };
                // One that has had enough has left.
                let _ = stream.write_all(&answer);
            });
        }
    });
    port
}

#[test]
fn only_addresses_that_are_listed_are_fetched() {
    let port = pictures();
    let open = format!("http://127.0.0.1:{port}/open/");
    // A name that leads to this machine, as resolvers read numbers, is not its address.
    let named = format!("http://2130706433:{port}/");
    let server = start(&[
        "--allow-url",
        &open,
        "--allow-url",
        &named,
        "--fetch-timeout",
        "2",
        "--max-body",
        "200000",
    ]);
    let about = |url: &str| {
        let picture = json!({ "type": "image_url", "image_url": { "url": url } });
        question(&[picture, text("Can you see a penguin?")], &json!({}))
    };
    for name in ["penguin.png", "moved.png"] {
        assert_eq!(ask(&server, &about(&format!("{open}{name}"))).0, "yes");
    }
    for (url, says) in [
        (
            format!("http://127.0.0.1:{port}/secret/penguin.png"),
            "--allow-url",
        ),
        (format!("{open}../secret/penguin.png"), ".."),
        (format!("{open}%2e%2e/secret/penguin.png"), ".."),
        (
            format!("https://127.0.0.1:{port}/open/penguin.png"),
            "--allow-url",
        ),
        (
            format!("http://localhost:{port}/open/penguin.png"),
            "--allow-url",
        ),
        (format!("{open}away.png"), "--allow-url"),
        (format!("{open}round.png"), "redirects"),
        (format!("{open}large.png"), "--max-body"),
        (format!("{open}slow.png"), "timeout"),
        (format!("{open}nothing.png"), "404"),
        (format!("{named}penguin.png"), "private address"),
    ] {
        let reply = post(&server, &about(&url));
        assert_eq!(reply.status, 400, "{url}: {}", reply.body);
        let error = reply.error();
        assert!(
            error.contains(says),
            "{url}: {error:?} does not say {says:?}"
        );
        assert!(error.contains("messages[0].content[0]"), "{error}");
    }
}

/// Sends a question from another address of this machine.
fn post_from(port: u16, last: u8, request: &Value) -> TcpStream {
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::from(([127, 0, 0, last], 0)))
            .unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    let mut stream = stream;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = request.to_string();
    let length = body.len();
    let head = format!("POST {COMPLETIONS} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    stream
}

/// Milliseconds that an answer waited for its turn.
fn waited_ms(reply: &Reply) -> f64 {
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()["usage"]["queue_ms"].as_f64().unwrap()
}

#[test]
fn who_asks_much_does_not_hold_up_who_asks_once() {
    let server = start(&["--queue", "4", "--conversations", "1"]);
    let hello = question(&[text("What is this?")], &json!({ "max_tokens": 4 }));
    let running = begin_endless(&server);
    let many: Vec<TcpStream> = (0..4u8)
        .map(|i| {
            let stream = send(&server, "POST", COMPLETIONS, "", &hello.to_string());
            until(&server, "univi_queue_length", f64::from(i) + 1.0);
            stream
        })
        .collect();
    // The queue is full: for who fills it, not for another address.
    assert_eq!(post(&server, &hello).status, 429);
    let other = post_from(server.port, 2, &hello);
    let mut many = many.into_iter();
    let displaced = receive(many.next_back().unwrap());
    assert_eq!(displaced.status, 429, "{}", displaced.body);
    drop(running);
    let other = waited_ms(&receive(other));
    // It came last, and had the first turn after the one that ran.
    for stream in many {
        let wait = waited_ms(&receive(stream));
        assert!(wait > other, "{other} ms beside {wait} ms");
    }
    let full = "univi_requests_total{outcome=\"queue_full\"}";
    assert_eq!(metric(&server, full), 2.0);
}

#[test]
fn requests_that_wait_take_no_more_memory_than_they_may() {
    let server = start(&["--request-memory", "1MiB", "--conversations", "1"]);
    let running = begin_endless(&server);
    let long = question(&[text(&"a ".repeat(450_000))], &json!({}));
    let first = send(&server, "POST", COMPLETIONS, "", &long.to_string());
    until(&server, "univi_queue_length", 1.0);
    let taken = metric(&server, "univi_request_bytes");
    assert!(taken > 900_000.0 && taken < 1_048_576.0, "{taken}");
    let refused = post(&server, &long);
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.head.contains("retry-after"), "{}", refused.head);
    assert!(refused.error().contains("--request-memory"));
    // A picture that has no room decoded is decoded at its turn.
    let small = question(
        &[shown("penguin-cookie.png"), text("Can you see a penguin?")],
        &json!({}),
    );
    let waiting = send(&server, "POST", COMPLETIONS, "", &small.to_string());
    until(&server, "univi_queue_length", 2.0);
    drop((running, first));
    let answer = receive(waiting).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "yes");
    until(&server, "univi_request_bytes", 0.0);
}

#[test]
fn each_key_has_turns_of_its_own() {
    let server = start(&[
        "--api-key",
        "sesame",
        "--api-key",
        "poppy",
        "--queue",
        "1",
        "--conversations",
        "1",
    ]);
    let hello = question(&[text("What is this?")], &json!({ "max_tokens": 4 })).to_string();
    let with = |key: &str, body: &str| {
        let headers = format!("Authorization: Bearer {key}\r\n");
        send(&server, "POST", COMPLETIONS, &headers, body)
    };
    let mut running = BufReader::new(with("sesame", &endless().to_string()));
    let mut line = String::new();
    while !line.contains("\"content\":\"[") {
        line.clear();
        assert!(running.read_line(&mut line).unwrap() > 0, "it ended");
    }
    let waiting = with("sesame", &hello);
    let queue = || {
        let head = "Authorization: Bearer poppy\r\n";
        receive(send(&server, "GET", "/metrics", head, "")).body
    };
    while !queue().contains("univi_queue_length 1\n") {}
    assert_eq!(receive(with("sesame", &hello)).status, 429);
    assert_eq!(receive(with("mustard", &hello)).status, 401);
    drop(running);
    assert_eq!(receive(waiting).status, 200);
    assert_eq!(receive(with("poppy", &hello)).status, 200);
    assert_eq!(get(&server, "/v1/models").status, 401);
}
