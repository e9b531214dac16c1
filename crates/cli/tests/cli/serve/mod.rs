//! `univi serve`, seen from the other end of a connection.

mod policy;

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};

use crate::{command, complains, path, refused, run, scratch};

/// Nothing here takes as long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// For how long a connection is silent that has stalled.
const SILENCE: Duration = Duration::from_millis(300);

/// A server that ends with the test.
struct Server {
    child: Child,
    port: u64,
    lines: BufReader<ChildStdout>,
}

impl Server {
    fn start(dir: &Path, args: &[&str]) -> Server {
        let mut command = command(&["serve", path(dir), "--port", "0", "--json"]);
        command.args(args);
        Server::of(command)
    }

    fn of(mut command: Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut server = Server {
            child,
            port: 0,
            lines,
        };
        let line = server.line();
        server.port = line["port"].as_u64().unwrap();
        assert_eq!(line["url"], format!("http://127.0.0.1:{}/", server.port));
        server
    }

    /// The next line that the server prints.
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// A connection that has sent `request`.
    fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port as u16)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Asks for `path` in a connection of its own. `headers` are lines.
    fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Reply {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{headers}\r\n");
        let mut stream = self.connect(&request);
        Reply::read(&mut stream, method == "HEAD")
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[])
    }

    fn get_range(&self, path: &str, range: &str) -> Reply {
        self.ask("GET", path, &[&format!("Range: {range}")])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Reply {
    status: u16,
    /// Names in lower case.
    headers: HashMap<String, String>,
    body: Vec<u8>,
    /// Whether all of the body came.
    complete: bool,
}

impl Reply {
    fn read(stream: &mut TcpStream, is_head: bool) -> Reply {
        let mut stream = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let status = line();
        let status = status.strip_prefix("HTTP/1.1 ").unwrap()[..3]
            .parse()
            .unwrap();
        let mut headers = HashMap::new();
        loop {
            let line = line();
            let Some((name, value)) = line.split_once(": ") else {
                assert_eq!(line, "");
                break;
            };
            let before = headers.insert(name.to_lowercase(), value.to_owned());
            assert_eq!(before, None, "{name} comes twice");
        }
        let mut answer = Reply {
            status,
            headers,
            body: Vec::new(),
            complete: true,
        };
        if is_head || status == 204 || status == 304 {
            return answer;
        }
        answer.complete = match answer.header("content-length") {
            Some(length) => read_bytes(&mut stream, length.parse().unwrap(), &mut answer.body),
            None => {
                assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
                read_chunks(&mut stream, &mut answer.body)
            }
        };
        answer
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Whether all of them came before the connection ended.
fn read_bytes(stream: &mut impl Read, bytes: u64, into: &mut Vec<u8>) -> bool {
    let expected = into.len() as u64 + bytes;
    match stream.take(bytes).read_to_end(into) {
        Ok(_) => into.len() as u64 == expected,
        Err(e) if e.kind() == ErrorKind::ConnectionReset => false,
        Err(e) => panic!("{e}"),
    }
}

/// Whether the last chunk came.
fn read_chunks(stream: &mut impl BufRead, into: &mut Vec<u8>) -> bool {
    loop {
        let mut size = String::new();
        stream.read_line(&mut size).unwrap();
        let Ok(size) = u64::from_str_radix(size.trim(), 16) else {
            return false;
        };
        if !read_bytes(stream, size, into) || !read_bytes(stream, 2, &mut Vec::new()) {
            return false;
        }
        if size == 0 {
            return true;
        }
    }
}

/// A page, a model, and what lies outside.
fn site(name: &str) -> PathBuf {
    let dir = scratch(&format!("serve-{name}"));
    fs::create_dir_all(dir.join("page/sub folder")).unwrap();
    fs::create_dir_all(dir.join("models")).unwrap();
    for (file, text) in [
        ("page/index.html", "<p>page</p>"),
        ("page/app.js", "1"),
        ("page/app_bg.wasm", "\0asm"),
        ("page/sub folder/index.html", "<p>sub</p>"),
        ("models/m.gguf", "0123456789"),
        ("models/empty.gguf", ""),
        ("models/manifest.json", "{}"),
        ("secret", "secret"),
    ] {
        fs::write(dir.join(file), text).unwrap();
    }
    dir
}

/// `size` bytes without a pattern that a shift would hide.
fn weights(size: u32) -> Vec<u8> {
    (0..size)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// A folder with one large file.
fn large(name: &str) -> (PathBuf, Vec<u8>) {
    let dir = site(name);
    let bytes = weights(3_000_000);
    fs::write(dir.join("models/large.gguf"), &bytes).unwrap();
    (dir.join("models"), bytes)
}

#[test]
fn ranges_are_parts_of_the_file() {
    let dir = site("ranges");
    let server = Server::start(&dir.join("models"), &[]);
    for (range, status, text, content_range) in [
        (None, 200, "0123456789", None),
        (Some("bytes=0-0"), 206, "0", Some("bytes 0-0/10")),
        (Some("bytes=2-4"), 206, "234", Some("bytes 2-4/10")),
        (Some("bytes=7-"), 206, "789", Some("bytes 7-9/10")),
        (Some("bytes=8-99"), 206, "89", Some("bytes 8-9/10")),
        (Some("bytes=-3"), 206, "789", Some("bytes 7-9/10")),
        (Some("bytes=-99"), 206, "0123456789", Some("bytes 0-9/10")),
        (Some("bytes=1-2,4-5"), 200, "0123456789", None),
        (Some("bytes=4-2"), 200, "0123456789", None),
        (
            Some("bytes=10-"),
            416,
            "416 Range Not Satisfiable\n",
            Some("bytes */10"),
        ),
        (
            Some("bytes=-0"),
            416,
            "416 Range Not Satisfiable\n",
            Some("bytes */10"),
        ),
    ] {
        let answer = match range {
            Some(range) => server.get_range("/m.gguf", range),
            None => server.get("/m.gguf"),
        };
        assert_eq!(answer.status, status, "{range:?}");
        assert_eq!(answer.text(), text, "{range:?}");
        assert_eq!(answer.header("content-range"), content_range, "{range:?}");
        let length = text.len().to_string();
        assert_eq!(answer.header("content-length"), Some(&*length), "{range:?}");
        assert_eq!(answer.header("accept-ranges"), Some("bytes"), "{range:?}");
    }
    let empty = server.get("/empty.gguf");
    assert_eq!((empty.status, empty.text()), (200, ""));
    assert_eq!(server.get_range("/empty.gguf", "bytes=0-").status, 416);
}

#[test]
fn every_answer_may_be_read_by_every_page() {
    let dir = site("headers");
    let mount = format!("/models={}", path(&dir.join("models")));
    let server = Server::start(&dir.join("page"), &["--mount", &mount]);
    for (method, path, status, content_type) in [
        ("GET", "/", 200, Some("text/html; charset=utf-8")),
        ("GET", "/?query", 200, Some("text/html; charset=utf-8")),
        (
            "GET",
            "/sub%20folder/",
            200,
            Some("text/html; charset=utf-8"),
        ),
        (
            "GET",
            "/app.js",
            200,
            Some("text/javascript; charset=utf-8"),
        ),
        ("GET", "/app_bg.wasm", 200, Some("application/wasm")),
        (
            "GET",
            "/models/m.gguf",
            200,
            Some("application/octet-stream"),
        ),
        (
            "GET",
            "/models/manifest.json",
            200,
            Some("application/json"),
        ),
        (
            "HEAD",
            "/models/m.gguf",
            200,
            Some("application/octet-stream"),
        ),
        ("GET", "/models/", 404, Some("text/plain; charset=utf-8")),
        ("GET", "/models", 404, Some("text/plain; charset=utf-8")),
        ("GET", "/nothing", 404, Some("text/plain; charset=utf-8")),
        ("POST", "/app.js", 405, Some("text/plain; charset=utf-8")),
        ("OPTIONS", "/models/m.gguf", 204, None),
    ] {
        // Nothing is packed, whatever a browser offers to unpack.
        let answer = server.ask(method, path, &["Accept-Encoding: gzip, br, zstd"]);
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(
            answer.header("content-type"),
            content_type,
            "{method} {path}"
        );
        for (name, value) in [
            ("access-control-allow-origin", Some("*")),
            ("cross-origin-opener-policy", Some("same-origin")),
            ("cross-origin-embedder-policy", Some("require-corp")),
            ("cross-origin-resource-policy", Some("cross-origin")),
            ("cache-control", Some("no-cache")),
            ("content-encoding", None),
        ] {
            assert_eq!(answer.header(name), value, "{method} {path}");
        }
        let exposed = answer.header("access-control-expose-headers").unwrap();
        for name in ["Content-Range", "Content-Length", "ETag", "Accept-Ranges"] {
            assert!(exposed.contains(name), "{method} {path}: {exposed}");
        }
    }
    let head = server.ask("HEAD", "/models/m.gguf", &["Range: bytes=2-4"]);
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("10"))
    );
    let preflight = server.ask("OPTIONS", "/models/m.gguf", &["Origin: http://a"]);
    assert_eq!(preflight.header("access-control-allow-headers"), Some("*"));
    let refused = server.ask("DELETE", "/app.js", &[]);
    assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn a_connection_carries_many_requests() {
    let dir = site("many");
    let server = Server::start(&dir.join("models"), &[]);
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
    let mut stream = server.connect("");
    for (path, status) in [("/m.gguf", 200), ("/nothing", 404), ("/manifest.json", 200)] {
        stream.write_all(request(path).as_bytes()).unwrap();
        assert_eq!(Reply::read(&mut stream, false).status, status, "{path}");
    }
}

#[test]
fn conditions() {
    let dir = site("conditions");
    let file = dir.join("models/m.gguf");
    let server = Server::start(&dir.join("models"), &[]);
    let etag = server.get("/m.gguf").header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"'), "{etag} is not strong");
    let ask = |headers: &[&str]| server.ask("GET", "/m.gguf", headers).status;

    let with = |name: &str, value: &str| format!("{name}: {value}");
    for value in [&*etag, &format!("W/{etag}"), &format!("\"x\", {etag}"), "*"] {
        let answer = server.ask("GET", "/m.gguf", &[&with("If-None-Match", value)]);
        assert_eq!(answer.status, 304, "{value}");
        assert_eq!(answer.header("etag"), Some(&*etag));
        assert_eq!(answer.header("content-length"), None);
    }
    assert_eq!(ask(&[&with("If-None-Match", "\"x\"")]), 200);
    assert_eq!(ask(&[&with("If-Match", &etag)]), 200);
    assert_eq!(ask(&[&with("If-Match", "\"x\"")]), 412);

    let range = "Range: bytes=2-4";
    assert_eq!(ask(&[range, &with("If-Range", &etag)]), 206);
    for value in [
        "\"x\"",
        &format!("W/{etag}"),
        "Wed, 21 Oct 2099 07:28:00 GMT",
    ] {
        assert_eq!(ask(&[range, &with("If-Range", value)]), 200, "{value}");
    }

    // Of the same length, written over later: what was loaded of the old one is worth nothing.
    fs::write(&file, "abcdefghij").unwrap();
    let later = SystemTime::now() + Duration::from_secs(1);
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(later)
        .unwrap();
    let changed = server.ask("GET", "/m.gguf", &[range, &with("If-Range", &etag)]);
    assert_eq!((changed.status, changed.text()), (200, "abcdefghij"));
    assert_ne!(changed.header("etag"), Some(&*etag));
    assert_eq!(ask(&[&with("If-None-Match", &etag)]), 200);
}

#[test]
fn no_way_out_of_the_folder() {
    let dir = site("traversal");
    let mount = format!("/models={}", path(&dir.join("models")));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.join("secret"), dir.join("page/out")).unwrap();
        std::os::unix::fs::symlink(&dir, dir.join("page/up")).unwrap();
        std::os::unix::fs::symlink("app.js", dir.join("page/in.js")).unwrap();
    }
    let server = Server::start(&dir.join("page"), &["--mount", &mount]);
    #[cfg(unix)]
    assert_eq!(server.get("/in.js").text(), "1");
    for path in [
        "/../secret",
        "/models/../../secret",
        "/models/../app.js",
        "/..%2fsecret",
        "/..%5csecret",
        "/%2e%2e/secret",
        "/%2E%2E%2Fsecret",
        "/.%2e/secret",
        "//secret",
        "/./app.js",
        "/app.js/",
        "/app.js%00",
        "/%00",
        "/%zz",
        "/%ff",
        "/out",
        "/up/secret",
        "/up/page/../secret",
        "/sub%20folder",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    // The form that proxies use.
    assert_eq!(server.get("http://here/app.js").status, 200);
    assert_eq!(server.get("http://here/../secret").status, 404);
}

#[test]
fn programs_are_told_what_was_sent() {
    let (dir, bytes) = large("logged");
    let mut server = Server::start(&dir, &[]);
    server.get_range("/large.gguf?v=1", "bytes=10-19");
    let logged = json!({
        "method": "GET", "path": "/large.gguf", "range": "bytes=10-19", "status": 206, "bytes": 10, "faults": [],
    });
    assert_eq!(server.line(), logged);
    server.ask("HEAD", "/large.gguf", &[]);
    let logged = json!({
        "method": "HEAD", "path": "/large.gguf", "range": null, "status": 200, "bytes": 0, "faults": [],
    });
    assert_eq!(server.line(), logged);
    assert_eq!(server.get("/large.gguf").body, bytes);
    assert_eq!(server.line()["bytes"], bytes.len());

    // Somebody who leaves in the middle is logged about too. The file is larger than what a
    // connection can hold.
    let huge = 1 << 30;
    fs::File::create(dir.join("huge.gguf"))
        .unwrap()
        .set_len(huge)
        .unwrap();
    let mut stream = server.connect("GET /huge.gguf HTTP/1.1\r\nHost: here\r\n\r\n");
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    let line = server.line();
    assert_eq!(line["path"], "/huge.gguf");
    assert!(
        (1..huge).contains(&line["bytes"].as_u64().unwrap()),
        "{line}"
    );
    fs::remove_file(dir.join("huge.gguf")).unwrap();
}

#[test]
fn people_are_told_where_they_want_it() {
    let dir = site("log");
    for wanted in [true, false] {
        let mut command = command(&["serve", path(&dir), "--port", "0"]);
        if wanted {
            command.arg("--log");
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let port = line
            .split("127.0.0.1:")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        let server = Server {
            port: port.parse().unwrap(),
            child,
            lines,
        };
        assert_eq!(server.get("/secret").text(), "secret");
        let mut stderr = String::new();
        let mut server = server;
        server.child.kill().unwrap();
        server
            .child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        if wanted {
            assert!(
                stderr.starts_with("GET /secret whole: 200, 6 bytes in "),
                "{stderr:?}"
            );
        } else {
            assert_eq!(stderr, "");
        }
    }
}

#[test]
fn statuses_and_pages_instead_of_the_file() {
    let dir = site("statuses");
    let faults = [
        "--fault",
        "429,retry-after=2,times=2,path=m.gguf",
        "--fault",
        "html,path=manifest",
    ];
    let mut server = Server::start(&dir.join("models"), &faults);
    for _ in 0..2 {
        let answer = server.get("/m.gguf");
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (429, Some("2"))
        );
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            server.line()["faults"],
            json!(["429,retry-after=2,times=2,path=m.gguf"])
        );
    }
    assert_eq!(server.get("/m.gguf").text(), "0123456789");
    let answer = server.get_range("/manifest.json", "bytes=0-1");
    assert_eq!((answer.status, answer.header("etag")), (200, None));
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(answer.text().starts_with("<!doctype html>"));
}

#[test]
fn a_share_of_requests_fails_the_same_at_each_run() {
    let dir = site("shares");
    let statuses = |seed: &str| -> Vec<u16> {
        let server = Server::start(&dir.join("models"), &["--fail", "0.5", "--seed", seed]);
        (0..40).map(|_| server.get("/m.gguf").status).collect()
    };
    let first = statuses("1");
    assert!(first.iter().all(|status| [200, 503].contains(status)));
    assert!(first.contains(&200) && first.contains(&503), "{first:?}");
    assert_eq!(statuses("1"), first);
    assert_ne!(statuses("2"), first);
}

#[test]
fn one_byte_is_wrong() {
    let (dir, bytes) = large("corrupt");
    let wrong_at = |body: &[u8], right: &[u8]| -> Vec<usize> {
        assert_eq!(body.len(), right.len());
        (0..right.len()).filter(|&i| body[i] != right[i]).collect()
    };
    let server = Server::start(&dir, &["--corrupt", "1"]);
    let whole = wrong_at(&server.get("/large.gguf").body, &bytes);
    assert_eq!(whole.len(), 1);
    let part = server.get_range("/large.gguf", "bytes=1000-1999");
    assert_eq!(wrong_at(&part.body, &bytes[1000..2000]).len(), 1);
    assert_eq!(server.get("/empty.gguf").text(), "");

    let again = Server::start(&dir, &["--corrupt", "1"]);
    assert_eq!(wrong_at(&again.get("/large.gguf").body, &bytes), whole);

    let once = Server::start(&dir, &["--fault", "corrupt,times=1"]);
    assert_ne!(once.get("/large.gguf").body, bytes);
    assert_eq!(once.get("/large.gguf").body, bytes);
}

#[test]
fn bodies_end_early() {
    let (dir, bytes) = large("early");
    let server = Server::start(&dir, &["--fault", "shorten=1MB"]);
    let short = server.get("/large.gguf");
    assert!(short.complete);
    assert_eq!(short.body, bytes[..1_000_000]);
    let part = server.get_range("/large.gguf", "bytes=999990-");
    assert_eq!(
        part.header("content-range"),
        Some("bytes 999990-999999/1000000")
    );
    assert_eq!(part.body, bytes[999_990..1_000_000]);

    for also in [&[][..], &["--fault", "no-length"]] {
        let args = [&["--fault", "drop=1MB,times=1"], also].concat();
        let mut server = Server::start(&dir, &args);
        let broken = server.get("/large.gguf");
        assert_eq!((broken.status, broken.complete), (200, false), "{args:?}");
        assert_eq!(broken.body, bytes[..1_000_000], "{args:?}");
        assert_eq!(server.line()["bytes"], 1_000_000);
        let rest = server.get_range("/large.gguf", "bytes=1000000-");
        assert_eq!(rest.status, 206);
        assert!(rest.body == bytes[1_000_000..], "{args:?}");
    }
}

#[test]
fn a_connection_falls_silent() {
    let (dir, bytes) = large("silent");
    let mut server = Server::start(&dir, &["--fault", "stall=1MB,path=large"]);
    let stream = server.connect("GET /large.gguf HTTP/1.1\r\nHost: here\r\n\r\n");
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    let mut came = Vec::new();
    assert!(read_bytes(&mut stream, 1_000_000, &mut came));
    assert!(came == bytes[..1_000_000]);
    stream.get_ref().set_read_timeout(Some(SILENCE)).unwrap();
    let end = stream.read(&mut [0]).unwrap_err();
    assert!(
        matches!(end.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{end}"
    );
    // Others are served meanwhile, and the server notices who leaves.
    assert_eq!(server.get("/m.gguf").text(), "0123456789");
    assert_eq!(server.line()["path"], "/m.gguf");
    drop(stream);
    let line = server.line();
    assert_eq!(
        (&line["path"], &line["bytes"]),
        (&json!("/large.gguf"), &json!(1_000_000))
    );
}

#[test]
fn headers_that_hosts_get_wrong() {
    let dir = site("wrong-headers");
    let dir = dir.join("models");
    let server = Server::start(&dir, &["--fault", "no-length"]);
    let answer = server.get("/m.gguf");
    assert_eq!(
        (answer.header("content-length"), answer.text()),
        (None, "0123456789")
    );
    assert!(answer.complete);
    assert_eq!(
        server.ask("HEAD", "/m.gguf", &[]).header("content-length"),
        None
    );
    let part = server.get_range("/m.gguf", "bytes=2-4");
    assert_eq!((part.status, part.text()), (206, "234"));

    let server = Server::start(&dir, &["--fault", "ignore-range"]);
    let answer = server.get_range("/m.gguf", "bytes=2-4");
    assert_eq!((answer.status, answer.text()), (200, "0123456789"));
    assert_eq!(answer.header("content-range"), None);

    let server = Server::start(&dir, &["--fault", "etag"]);
    let etag = server.get("/m.gguf").header("etag").unwrap().to_owned();
    let if_range = format!("If-Range: {etag}");
    let answer = server.ask("GET", "/m.gguf", &["Range: bytes=2-4", &if_range]);
    assert_eq!((answer.status, answer.text()), (200, "0123456789"));
    assert_ne!(answer.header("etag"), Some(&*etag));
}

/// A line carries no more than it can, however many connections share it. (That it carries as much
/// is for benchmarks.)
#[test]
fn the_line_is_shared() {
    let (dir, bytes) = large("throttle");
    let server = Server::start(&dir, &["--throttle", "6MB"]);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert!(server.get("/large.gguf").body == bytes));
        }
    });
    // Six megabytes, less what the line makes up for at first.
    let elapsed = begun.elapsed();
    assert!(elapsed > Duration::from_millis(950), "{elapsed:?}");
}

/// Files are larger than memory.
#[cfg(unix)]
#[test]
fn files_are_not_held_in_memory() {
    const FILE_BYTES: u64 = 1 << 30;
    const MEMORY_KIB: u64 = 512 << 10;
    let dir = site("memory");
    let file = dir.join("large.gguf");
    fs::File::create(&file)
        .unwrap()
        .set_len(FILE_BYTES)
        .unwrap();
    let script = format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_univi")]);
    command.args(["serve", path(&dir), "--port", "0", "--json"]);
    // What the allocator reserves for each thread is no memory, but counts as such.
    command.env("MALLOC_ARENA_MAX", "1");
    let mut server = Server::of(command);
    let mut stream =
        server.connect("GET /large.gguf HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    let came = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    assert!(came > FILE_BYTES, "{came}");
    assert_eq!(server.line()["bytes"], FILE_BYTES);
    fs::remove_file(file).unwrap();
}

#[test]
fn what_cannot_be_served_is_said() {
    let dir = site("refused");
    let first = Server::start(&dir, &[]);
    let args = ["serve", path(&dir), "--port", &first.port.to_string()];
    refused(
        &args,
        &format!("cannot listen on 127.0.0.1:{} (--port", first.port),
    );
    refused(&["serve", path(&dir.join("nothing"))], "nothing");
    refused(&["serve", path(&dir.join("secret"))], "not a folder");
    let mount = format!("/models={}", path(&dir.join("nothing")));
    refused(&["serve", path(&dir), "--mount", &mount], "nothing");
    let mount = format!("/models={}", path(&dir));
    let twice = ["serve", path(&dir), "--mount", &mount, "--mount", &mount];
    complains(&twice, run(&twice, ""), "two folders");
    for args in [
        &["serve"][..],
        &["serve", ".", "--port", "65536"],
        &["serve", ".", "--host", "nowhere"],
        &["serve", ".", "--mount", "models"],
        &["serve", ".", "--mount", "/=models"],
        &["serve", ".", "--mount", "/a/../b=models"],
        &["serve", ".", "--fail", "2"],
        &["serve", ".", "--throttle", "fast"],
        &["serve", ".", "--fault", "gremlins"],
        &["serve", ".", "--json", "--log"],
    ] {
        assert_eq!(run(args, "").status.code(), Some(2), "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it() {
    let (dir, _) = large("ctrl-c");
    let mut server = Server::start(&dir, &["--fault", "stall=1MB"]);
    let mut stream = server.connect("GET /large.gguf HTTP/1.1\r\nHost: here\r\n\r\n");
    stream.read_exact(&mut [0; 1000]).unwrap();
    let pid = server.child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    assert_eq!(server.child.wait().unwrap().code(), Some(130));
}
