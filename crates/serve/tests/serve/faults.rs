//! What goes wrong on demand, how fast bytes come, and what is reported of it.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::Path,
    time::{Duration, Instant},
};

use univi_serve::{Fault, FaultKind, ServeOptions, StatusCode};

use crate::{
    client::{Server, read_bytes},
    large, site,
};

/// For how long a connection is silent that has stalled.
const SILENCE: Duration = Duration::from_millis(300);

fn with(dir: &Path, faults: &[Fault]) -> Server {
    let options = ServeOptions::new(dir);
    Server::with(faults.iter().cloned().fold(options, ServeOptions::fault))
}

#[test]
fn each_request_is_reported_once() {
    let (site, bytes) = large();
    let dir = site.path().join("models");
    let server = Server::start(&dir);
    server.get_range("/large.gguf?v=1", "bytes=10-19");
    let record = server.record();
    assert_eq!(record.method, "GET");
    assert_eq!(record.path, "/large.gguf");
    assert_eq!(record.range.as_deref(), Some("bytes=10-19"));
    assert_eq!((record.status, record.bytes), (206, 10));
    assert!(record.faults.is_empty());
    server.ask("HEAD", "/large.gguf", &[]);
    let record = server.record();
    assert_eq!((&*record.method, record.range), ("HEAD", None));
    assert_eq!((record.status, record.bytes), (200, 0));
    assert_eq!(server.get("/large.gguf").body, bytes);
    assert_eq!(server.record().bytes, bytes.len() as u64);

    // Who leaves in the middle is reported, too. The file is larger than what a connection can
    // hold.
    let huge = 1 << 30;
    fs::File::create(dir.join("huge.gguf"))
        .unwrap()
        .set_len(huge)
        .unwrap();
    let mut stream = server.connect("GET /huge.gguf HTTP/1.1\r\nHost: here\r\n\r\n");
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    let record = server.record();
    assert_eq!(record.path, "/huge.gguf");
    assert!((1..huge).contains(&record.bytes), "{record:?}");
}

#[test]
fn statuses_and_pages_instead_of_the_file() {
    let site = site();
    let dir = site.path();
    let status = Fault::new(FaultKind::Status(StatusCode::TOO_MANY_REQUESTS));
    let status = status.retry_after_s(2).times(2).path("m.gguf");
    let options = ServeOptions::new(dir.join("models"))
        .fault(status.name("busy"))
        .fault(Fault::new(FaultKind::Html).path("manifest"));
    let server = Server::with(options);
    for _ in 0..2 {
        let answer = server.get("/m.gguf");
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (429, Some("2"))
        );
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(server.record().faults, ["busy"]);
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
    let site = site();
    let dir = site.path();
    let statuses = |seed| -> Vec<u16> {
        let failure = Fault::new(FaultKind::Status(StatusCode::SERVICE_UNAVAILABLE));
        let options = ServeOptions::new(dir.join("models")).seed(seed);
        let server = Server::with(options.fault(failure.rate(0.5)));
        (0..40).map(|_| server.get("/m.gguf").status).collect()
    };
    let first = statuses(1);
    assert!(first.iter().all(|status| [200, 503].contains(status)));
    assert!(first.contains(&200) && first.contains(&503), "{first:?}");
    assert_eq!(statuses(1), first);
    assert_ne!(statuses(2), first);
}

#[test]
fn one_byte_is_wrong() {
    let (site, bytes) = large();
    let dir = site.path().join("models");
    let wrong_at = |body: &[u8], right: &[u8]| -> Vec<usize> {
        assert_eq!(body.len(), right.len());
        (0..right.len()).filter(|&i| body[i] != right[i]).collect()
    };
    let server = with(&dir, &[Fault::new(FaultKind::Corrupt)]);
    let whole = wrong_at(&server.get("/large.gguf").body, &bytes);
    assert_eq!(whole.len(), 1);
    let part = server.get_range("/large.gguf", "bytes=1000-1999");
    assert_eq!(wrong_at(&part.body, &bytes[1000..2000]).len(), 1);
    assert_eq!(server.get("/empty.gguf").text(), "");

    let again = with(&dir, &[Fault::new(FaultKind::Corrupt)]);
    assert_eq!(wrong_at(&again.get("/large.gguf").body, &bytes), whole);

    let once = with(&dir, &[Fault::new(FaultKind::Corrupt).times(1)]);
    assert_ne!(once.get("/large.gguf").body, bytes);
    assert_eq!(once.get("/large.gguf").body, bytes);
}

#[test]
fn bodies_end_early() {
    let (site, bytes) = large();
    let dir = site.path().join("models");
    let server = with(&dir, &[Fault::new(FaultKind::Shorten(1_000_000))]);
    let short = server.get("/large.gguf");
    assert!(short.complete);
    assert_eq!(short.body, bytes[..1_000_000]);
    let part = server.get_range("/large.gguf", "bytes=999990-");
    assert_eq!(
        part.header("content-range"),
        Some("bytes 999990-999999/1000000")
    );
    assert_eq!(part.body, bytes[999_990..1_000_000]);

    let drop = Fault::new(FaultKind::Drop(1_000_000)).times(1);
    let chunked = [drop.clone(), Fault::new(FaultKind::NoLength)];
    for faults in [&[drop][..], &chunked] {
        let server = with(&dir, faults);
        let broken = server.get("/large.gguf");
        assert_eq!((broken.status, broken.complete), (200, false), "{faults:?}");
        assert_eq!(broken.body, bytes[..1_000_000], "{faults:?}");
        assert_eq!(server.record().bytes, 1_000_000);
        let rest = server.get_range("/large.gguf", "bytes=1000000-");
        assert_eq!(rest.status, 206);
        assert!(rest.body == bytes[1_000_000..], "{faults:?}");
    }
}

#[test]
fn a_connection_falls_silent() {
    let (site, bytes) = large();
    let dir = site.path().join("models");
    let server = with(
        &dir,
        &[Fault::new(FaultKind::Stall(1_000_000)).path("large")],
    );
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
    assert_eq!(server.record().path, "/m.gguf");
    drop(stream);
    let record = server.record();
    assert_eq!((&*record.path, record.bytes), ("/large.gguf", 1_000_000));
}

#[test]
fn headers_that_hosts_get_wrong() {
    let site = site();
    let dir = site.path();
    let dir = dir.join("models");
    let server = with(&dir, &[Fault::new(FaultKind::NoLength)]);
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

    let server = with(&dir, &[Fault::new(FaultKind::IgnoreRange)]);
    let answer = server.get_range("/m.gguf", "bytes=2-4");
    assert_eq!((answer.status, answer.text()), (200, "0123456789"));
    assert_eq!(answer.header("content-range"), None);

    let server = with(&dir, &[Fault::new(FaultKind::Etag)]);
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
    let (site, bytes) = large();
    let dir = site.path().join("models");
    let server = Server::with(ServeOptions::new(&dir).throttle(6_000_000));
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
