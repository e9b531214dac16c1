//! `univi serve --model`: the model that ships answers OpenAI's requests, and what is wrong with a
//! request is said.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    command, complains, path, run, scratch,
    serve::{PATIENCE, Server},
};

pub const COMPLETIONS: &str = "/v1/chat/completions";

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn start(args: &[&str]) -> Server {
    Server::of(serve_nano(args))
}

/// The command that serves the model that ships.
pub fn serve_nano(args: &[&str]) -> Command {
    let nano = root().join("models/univi-nano");
    let mut command = command(&["serve", "--model", path(&nano), "--device", "cpu"]);
    command.args(["--port", "0", "--json"]).args(args);
    command.env_remove("UNIVI_API_KEY");
    command
}

pub struct Reply {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn error(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// Sends a request in a connection of its own. HTTP/1.0 has no chunks.
pub fn send(server: &Server, method: &str, address: &str, headers: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!("{method} {address} HTTP/1.0\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    stream
}

pub fn receive(mut stream: TcpStream) -> Reply {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Reply {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

pub fn get(server: &Server, address: &str) -> Reply {
    receive(send(server, "GET", address, "", ""))
}

pub fn post(server: &Server, request: &Value) -> Reply {
    receive(send(server, "POST", COMPLETIONS, "", &request.to_string()))
}

/// Asks, and expects a whole answer -> its content and the whole reply.
#[track_caller]
pub fn ask(server: &Server, request: &Value) -> (String, Value) {
    let reply = post(server, request);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let completion = reply.json();
    let content = &completion["choices"][0]["message"]["content"];
    (content.as_str().unwrap().to_owned(), completion)
}

pub fn sample(name: &str) -> Vec<u8> {
    fs::read(root().join("www/public/samples").join(name)).unwrap()
}

pub fn base64(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

/// A part that shows one of the samples.
pub fn shown(name: &str) -> Value {
    let (kind, media_type) = match name.rsplit_once('.') {
        Some((_, "webm")) => ("video_url", "video/webm"),
        _ => ("image_url", "image/png"),
    };
    let url = format!("data:{media_type};base64,{}", base64(&sample(name)));
    json!({ "type": kind, kind: { "url": url } })
}

pub fn user(parts: &[Value]) -> Value {
    json!({ "role": "user", "content": parts })
}

pub fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// A greedy request of one question.
pub fn question(parts: &[Value], fields: &Value) -> Value {
    let mut request = json!({ "messages": [user(parts)], "temperature": 0, "max_tokens": 20 });
    let fields = fields.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(fields);
    request
}

/// A request whose answer is as long as the context.
pub fn endless() -> Value {
    let schema = json!({ "type": "array", "items": { "enum": [1] }, "minItems": 60_000 });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema } });
    let fields = json!({ "response_format": format, "max_tokens": 100_000, "stream": true });
    question(&[text("What is this?")], &fields)
}

/// Begins an endless answer, and waits for its first text.
pub fn begin_endless(server: &Server) -> BufReader<TcpStream> {
    let stream = send(server, "POST", COMPLETIONS, "", &endless().to_string());
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains("\"content\":\"[") {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "it ended");
    }
    stream
}

/// The value of a metric.
pub fn metric(server: &Server, name: &str) -> f64 {
    let text = get(server, "/metrics").body;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}

#[track_caller]
pub fn until(server: &Server, name: &str, value: f64) {
    let begun = Instant::now();
    while metric(server, name) != value {
        assert!(begun.elapsed() < PATIENCE, "{name} is not {value}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn pictures_clips_and_turns_are_answered() {
    let server = start(&[]);
    assert_eq!(get(&server, "/health").json(), json!({ "status": "ok" }));
    let models = get(&server, "/v1/models").json();
    assert_eq!(models["data"][0]["id"], "univi-nano");
    assert_eq!(
        get(&server, "/v1/models/univi-nano").json()["object"],
        "model"
    );

    let penguin = shown("penguin-cookie.png");
    let first = question(
        &[penguin.clone(), text("Can you see a penguin?")],
        &json!({ "model": "univi-nano" }),
    );
    let (said, completion) = ask(&server, &first);
    assert_eq!(said, "yes");
    assert_eq!(completion["object"], "chat.completion");
    assert_eq!(completion["choices"][0]["finish_reason"], "stop");
    let usage = &completion["usage"];
    assert_eq!(usage["prompt_tokens_details"]["visual_tokens"], 42);
    let number = |key: &str| usage[key].as_u64().unwrap();
    assert_eq!(
        number("total_tokens"),
        number("prompt_tokens") + number("completion_tokens")
    );
    assert!(usage["time_to_first_token_ms"].as_f64().unwrap() > 0.0);

    // A further question, streamed: the conversation goes on in its KV cache.
    let further = json!({
        "messages": [
            first["messages"][0], completion["choices"][0]["message"],
            { "role": "user", "content": "What colour is the background?" },
        ],
        "temperature": 0, "stream": true, "stream_options": { "include_usage": true },
    });
    let reply = post(&server, &further);
    assert!(
        reply.head.contains("content-type: text/event-stream"),
        "{}",
        reply.head
    );
    let mut events: Vec<&str> = reply.body.split("\n\n").collect();
    assert_eq!(events.pop(), Some(""));
    assert_eq!(events.pop(), Some("data: [DONE]"));
    let chunks: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let role = json!({ "role": "assistant", "content": "" });
    assert_eq!(chunks[0]["choices"][0]["delta"], role);
    let content = |chunk: &Value| {
        let text = chunk["choices"][0]["delta"]["content"].as_str();
        text.unwrap_or_default().to_owned()
    };
    assert_eq!(chunks.iter().map(content).collect::<String>(), "red");
    let [.., end, last] = &chunks[..] else {
        panic!("{chunks:?}")
    };
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["choices"], json!([]));
    let cached = &last["usage"]["prompt_tokens_details"]["cached_tokens"];
    assert!(
        cached.as_u64().unwrap() >= number("prompt_tokens") - 1,
        "{last}"
    );
    assert_eq!(metric(&server, "univi_visuals_encoded_total"), 1.0);
    assert_eq!(metric(&server, "univi_visuals_reused_total"), 1.0);

    let clip = [shown("unicorn-cake-owl.webm"), text("What appears first?")];
    assert_eq!(ask(&server, &question(&clip, &json!({}))).0, "unicorn");
    // Frames with commas between them are a clip, pictures one after the other are pictures.
    let names = ["penguin-cookie.png", "trophies-bee.png"];
    let frames = names.map(|name| vec![base64(&sample(name)); 4]);
    let url = format!("data:video/jpeg;base64,{}", frames.concat().join(","));
    let frames = json!({ "type": "video_url", "video_url": { "url": url } });
    let visual_tokens = |parts: &[Value]| {
        let (_, completion) = ask(&server, &question(parts, &json!({})));
        completion["usage"]["prompt_tokens_details"]["visual_tokens"]
            .as_u64()
            .unwrap()
    };
    let what = text("What is this?");
    // Four events, as `univi ask --video` makes of a folder of these frames.
    assert_eq!(visual_tokens(&[frames, what.clone()]), 4 * 42);
    let bee = shown("trophies-bee.png");
    assert_eq!(visual_tokens(&[penguin, bee, what]), 84);

    assert_eq!(
        metric(&server, "univi_requests_total{outcome=\"stop\"}"),
        5.0
    );
    assert_eq!(metric(&server, "univi_queue_length"), 0.0);
}

#[test]
fn options_of_an_answer_have_their_effect() {
    let server = start(&["--model-name", "nano", "--system", "Answer."]);
    let penguin = [shown("penguin-cookie.png"), text("Can you see a penguin?")];
    let schema = |schema: &str| {
        // As text, since the order of the names matters.
        let request = question(&penguin, &json!({ "max_tokens": 100, "model": "nano" }));
        let request = request.to_string();
        let format = format!(
            "{{\"response_format\":{{\"type\":\"json_schema\",\"json_schema\":{{\"name\":\"a\",\"schema\":{schema}}}}},"
        );
        let request = request.replacen('{', &format, 1);
        let reply = receive(send(&server, "POST", COMPLETIONS, "", &request));
        assert_eq!(reply.status, 200, "{}", reply.body);
        let content = reply.json()["choices"][0]["message"]["content"].clone();
        content.as_str().unwrap().to_owned()
    };
    assert_eq!(schema(r#"{"enum":["perhaps"]}"#), "\"perhaps\"");
    let said = schema(
        r#"{"type":"object","properties":{"z":{"const":1},"a":{"const":2}},"required":["z","a"]}"#,
    );
    assert_eq!(
        serde_json::from_str::<Value>(&said).unwrap(),
        json!({ "z": 1, "a": 2 })
    );
    assert!(said.find('z') < said.find('a'), "{said}");

    let (_, cut) = ask(
        &server,
        &question(&[text("Describe a penguin.")], &json!({ "max_tokens": 1 })),
    );
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    assert_eq!(cut["usage"]["completion_tokens"], 1);
    let stopped = question(&penguin, &json!({ "stop": ["s"] }));
    assert_eq!(ask(&server, &stopped).0, "ye");
    let drawn = |seed: u64| {
        let fields = json!({ "temperature": 3, "seed": seed, "max_completion_tokens": 40 });
        ask(&server, &question(&[text("What is there?")], &fields)).0
    };
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
    let neutral = json!({
        "n": 1, "logprobs": false, "tools": [], "user": "u", "frequency_penalty": 0, "top_k": null,
        "parallel_tool_calls": true, "store": false,
    });
    assert_eq!(ask(&server, &question(&penguin, &neutral)).0, "yes");
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let dir = scratch("chat-server-files");
    fs::create_dir_all(dir.join("open")).unwrap();
    fs::write(dir.join("open/penguin.png"), sample("penguin-cookie.png")).unwrap();
    fs::write(dir.join("secret.png"), sample("penguin-cookie.png")).unwrap();
    let open = dir.join("open");
    let server = start(&["--message-files", path(&open)]);
    let asked = [text("What is this?")];
    let image = |url: &str| {
        question(
            &[json!({ "type": "image_url", "image_url": url })],
            &json!({}),
        )
    };
    let video = |bytes: &[u8]| {
        let url = format!("data:video/mp4;base64,{}", base64(bytes));
        question(
            &[json!({ "type": "video_url", "video_url": { "url": url } })],
            &json!({}),
        )
    };
    let format = |format: Value| question(&asked, &json!({ "response_format": format }));
    let with = |fields: Value| question(&asked, &fields);
    let messages = |messages: Value| json!({ "messages": messages });
    let secret = format!("file://{}", path(&dir.join("secret.png")));
    let around = format!("file://{}/../secret.png", path(&open));
    for (request, status, says) in [
        (json!([]), 400, "object"),
        (json!({}), 400, "messages"),
        (messages(json!([])), 400, "messages"),
        (
            messages(json!([{ "role": "assistant", "content": "I begin" }])),
            400,
            "not the user's",
        ),
        (
            messages(json!([{ "role": "tool", "content": "a" }])),
            400,
            "tools",
        ),
        (
            messages(json!([{ "role": "nurse", "content": "a" }])),
            400,
            "nurse",
        ),
        (
            messages(json!([{ "role": "user" }])),
            400,
            "messages[0].content",
        ),
        (
            messages(json!([{ "role": "user", "content": "a", "name": "b" }])),
            400,
            "messages[0].name",
        ),
        (
            messages(json!([{ "role": "user", "content": [{ "type": "audio" }] }])),
            400,
            "audio",
        ),
        (with(json!({ "model": "gpt-4" })), 404, "univi-nano"),
        (with(json!({ "model": 4 })), 400, "model"),
        (with(json!({ "stream": "yes" })), 400, "stream"),
        (with(json!({ "temperature": "hot" })), 400, "temperature"),
        (with(json!({ "temperature": -1 })), 400, "temperature"),
        (with(json!({ "top_p": 2 })), 400, "top_p"),
        (with(json!({ "max_tokens": 1.5 })), 400, "max_tokens"),
        (with(json!({ "seed": -1 })), 400, "seed"),
        (with(json!({ "stop": [1] })), 400, "stop"),
        (with(json!({ "n": 2 })), 400, "n: 2"),
        (with(json!({ "tools": [{}] })), 400, "tools"),
        (
            with(json!({ "frequency_penalty": 1 })),
            400,
            "frequency_penalty",
        ),
        (
            with(json!({ "stream": true, "stream_options": { "every": 1 } })),
            400,
            "stream_options.every",
        ),
        (
            with(json!({ "stream_options": { "include_usage": true } })),
            400,
            "add stream: true",
        ),
        (with(json!({ "top_logprobs": 3 })), 400, "logprobs: true"),
        (
            with(json!({ "logprobs": true, "top_logprobs": 21 })),
            400,
            "0 to 20",
        ),
        (with(json!({ "nonsense": 1 })), 400, "nonsense"),
        (format(json!({ "type": "xml" })), 400, "json_schema"),
        (
            format(json!({ "type": "json_schema", "json_schema": {} })),
            400,
            "json_schema.schema",
        ),
        (
            format(json!({ "type": "json_schema", "json_schema": { "schema": { "not": {} } } })),
            400,
            "not",
        ),
        (image("https://example.com/a.png"), 400, "data URL"),
        (image("penguin.png"), 400, "data URL"),
        (image("data:image/png;base64,!"), 400, "base64"),
        (
            image("data:image/png;base64,AAAA"),
            400,
            "messages[0].content[0]",
        ),
        (image(&secret), 400, "--message-files"),
        (image(&around), 400, "--message-files"),
        (image("file:///nothing"), 400, "--message-files"),
        (video(b"#EXTM3U\n/etc/passwd\n"), 400, "MP4"),
        (
            video(b"0000ftypisomnothing follows"),
            400,
            "messages[0].content[0]",
        ),
        (
            question(&[text(&"a ".repeat(9000))], &json!({})),
            400,
            "context",
        ),
    ] {
        let reply = post(&server, &request);
        let shown: String = request.to_string().chars().take(200).collect();
        assert_eq!(reply.status, status, "{shown}: {}", reply.body);
        let error = reply.json()["error"].clone();
        assert_eq!(error["type"], "invalid_request_error", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(says),
            "{shown}: {message:?} does not say {says:?}"
        );
    }
    let broken = receive(send(&server, "POST", COMPLETIONS, "", "{ \"messages\": "));
    assert!(broken.status == 400 && broken.error().contains("JSON"));
    let wrong = receive(send(&server, "DELETE", COMPLETIONS, "", ""));
    assert!(
        wrong.status == 405 && wrong.head.contains("allow: post"),
        "{}",
        wrong.head
    );
    let nowhere = get(&server, "/v1/embeddings");
    assert!(nowhere.status == 404 && nowhere.error().contains("/v1/models"));

    // After all that it still answers, about a file that may be named, too.
    let named = format!("file://{}", path(&open.join("penguin.png")));
    let parts = [
        json!({ "type": "image_url", "image_url": { "url": named, "detail": "auto" } }),
        text("Can you see a penguin?"),
    ];
    assert_eq!(ask(&server, &question(&parts, &json!({}))).0, "yes");
    let plain = start(&[]);
    let refused = post(&plain, &question(&parts, &json!({})));
    assert!(refused.status == 400 && refused.error().contains("--message-files DIR"));
}

#[test]
fn keys_pages_and_long_requests_are_checked() {
    let server = start(&["--api-key", "sesame", "--max-body", "2000"]);
    let hello = question(&[text("What is this?")], &json!({})).to_string();
    let asked =
        |headers: &str, body: &str| receive(send(&server, "POST", COMPLETIONS, headers, body));
    let key = "Authorization: Bearer sesame\r\n";
    assert_eq!(get(&server, "/health").status, 200);
    for address in ["/v1/models", "/metrics", COMPLETIONS] {
        assert_eq!(get(&server, address).status, 401, "{address}");
    }
    assert_eq!(asked("", &hello).status, 401);
    let wrong = asked("Authorization: Bearer open\r\n", &hello);
    assert_eq!(wrong.json()["error"]["code"], "invalid_api_key");
    assert_eq!(asked(key, &hello).status, 200);

    let long = asked(key, &" ".repeat(2001));
    assert!(
        long.status == 413 && long.error().contains("--max-body"),
        "{}",
        long.body
    );
    // Without a length in its head.
    let chunks = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{key}Transfer-Encoding: chunked\r\n\r\n7d1\r\n{}\r\n0\r\n\r\n",
        " ".repeat(2001)
    );
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(chunks.as_bytes()).unwrap();
    assert_eq!(receive(stream).status, 413);

    let page = "Origin: https://page.example\r\n";
    let refused = asked(&format!("{key}{page}"), &hello);
    assert!(refused.status == 403 && refused.error().contains("--allow-origin"));
    let own = format!(
        "Host: 127.0.0.1:{0}\r\nOrigin: http://127.0.0.1:{0}\r\n",
        server.port
    );
    assert_eq!(asked(&format!("{key}{own}"), &hello).status, 200);
    let server = start(&["--allow-origin", "https://page.example"]);
    let allowed = receive(send(&server, "POST", COMPLETIONS, page, &hello));
    assert_eq!(allowed.status, 200);
    assert!(
        allowed
            .head
            .contains("access-control-allow-origin: https://page.example")
    );
    let preflight = receive(send(&server, "OPTIONS", COMPLETIONS, page, ""));
    assert_eq!(preflight.status, 204);
    assert!(
        preflight
            .head
            .contains("access-control-allow-headers: *, authorization")
    );
}

#[test]
fn a_client_that_leaves_makes_room() {
    let server = start(&["--queue", "0", "--conversations", "1"]);
    let first = begin_endless(&server);
    let hello = question(&[text("What is this?")], &json!({}));
    let full = post(&server, &hello);
    assert_eq!(full.status, 429, "{}", full.body);
    assert!(full.head.contains("retry-after: 1"), "{}", full.head);
    assert_eq!(full.json()["error"]["code"], "queue_full");
    assert_eq!(metric(&server, "univi_requests_running"), 1.0);
    drop(first);
    until(&server, "univi_requests_running", 0.0);
    until(&server, "univi_requests_total{outcome=\"cancelled\"}", 1.0);
    assert_eq!(post(&server, &hello).status, 200);
    assert_eq!(
        metric(&server, "univi_requests_total{outcome=\"queue_full\"}"),
        1.0
    );
}

#[test]
fn a_request_waits_for_its_turn_but_not_for_ever() {
    let server = start(&["--timeout", "1", "--conversations", "1"]);
    let first = begin_endless(&server);
    let mut waiting = question(&[text("What is this?")], &json!({}));
    // One that leaves while it waits is forgotten.
    let gone = send(&server, "POST", COMPLETIONS, "", &waiting.to_string());
    until(&server, "univi_queue_length", 1.0);
    drop(gone);
    until(&server, "univi_queue_length", 0.0);
    let others: Vec<TcpStream> = (0..4)
        .map(|_| send(&server, "POST", COMPLETIONS, "", &endless().to_string()))
        .collect();
    waiting["stream"] = json!(true);
    let late = post(&server, &waiting);
    assert_eq!(late.status, 503, "{}", late.body);
    assert!(late.error().contains("--timeout"), "{}", late.body);
    drop((first, others));
    until(&server, "univi_requests_running", 0.0);
    // A request that does not arrive.
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("POST {COMPLETIONS} HTTP/1.0\r\nContent-Length: 100\r\n\r\n{{");
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(receive(stream).status, 408);
}

#[test]
fn conversations_that_alternate_keep_their_caches() {
    let server = start(&["--conversations", "2"]);
    let begin = |subject: &str| {
        let first = json!({ "role": "user", "content": format!("Where is the {subject}?") });
        let request = json!({ "messages": [first], "temperature": 0, "max_tokens": 8 });
        let (_, completion) = ask(&server, &request);
        let message = completion["choices"][0]["message"].clone();
        let prompt = completion["usage"]["prompt_tokens"].as_u64().unwrap();
        (vec![first, message], prompt)
    };
    let begun = ["penguin", "cookie"].map(begin);
    for (mut messages, prompt) in begun {
        messages.push(json!({ "role": "user", "content": "And the bee?" }));
        let request = json!({ "messages": messages, "temperature": 0, "max_tokens": 8 });
        let (_, completion) = ask(&server, &request);
        let cached = &completion["usage"]["prompt_tokens_details"]["cached_tokens"];
        assert!(cached.as_u64().unwrap() >= prompt - 1, "{completion}");
    }
}

#[test]
fn files_are_served_beside_a_model() {
    let dir = scratch("chat-server-beside");
    fs::write(dir.join("index.html"), "<p>page</p>").unwrap();
    let server = start(&[path(&dir)]);
    assert!(get(&server, "/").body.ends_with("<p>page</p>"));
    assert_eq!(
        get(&server, "/v1/models").json()["data"][0]["id"],
        "univi-nano"
    );
    assert_eq!(get(&server, "/nothing").body, "404 Not Found\n");
}

#[test]
fn a_command_line_without_sense_is_refused() {
    for args in [
        &["serve"][..],
        &["serve", ".", "--queue", "2"],
        &["serve", ".", "--kv-cache", "q8"],
        &["serve", "-m", "m", "--fail", "0.5"],
        &["serve", "-m", "m", "--timeout", "0"],
        &["serve", "-m", "m", "--conversations", "0"],
        &["serve", "-m", "m", "--allow-origin", "page.example"],
        &["serve", "-m", "m", "--message-files", "nowhere"],
    ] {
        assert_eq!(run(args, "").status.code(), Some(2), "{args:?}");
    }
    let absent = [
        "serve",
        "--model",
        "absent.gguf",
        "--device",
        "cpu",
        "--port",
        "0",
    ];
    complains(&absent, run(&absent, ""), "absent.gguf");
    let keyless = ["serve", "--model", "m", "--api-key", "", "--port", "0"];
    complains(&keyless, run(&keyless, ""), "API key");
}
