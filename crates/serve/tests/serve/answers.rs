//! Which bytes come, under which headers.

use std::{
    fs,
    io::Write,
    time::{Duration, SystemTime},
};

use univi_serve::{Mount, ServeOptions};

use crate::{
    client::{Reply, Server},
    site,
};

#[test]
fn ranges_are_parts_of_the_file() {
    let site = site();
    let dir = site.path();
    let server = Server::start(&dir.join("models"));
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
    let site = site();
    let dir = site.path();
    let models = Mount::new("/models", dir.join("models")).unwrap();
    let server = Server::with(ServeOptions::new(dir.join("page")).mount(models));
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
    let site = site();
    let dir = site.path();
    let server = Server::start(&dir.join("models"));
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
    let mut stream = server.connect("");
    for (path, status) in [("/m.gguf", 200), ("/nothing", 404), ("/manifest.json", 200)] {
        stream.write_all(request(path).as_bytes()).unwrap();
        assert_eq!(Reply::read(&mut stream, false).status, status, "{path}");
    }
}

#[test]
fn conditions() {
    let site = site();
    let dir = site.path();
    let file = dir.join("models/m.gguf");
    let server = Server::start(&dir.join("models"));
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
