//! A server that behaves as the Hugging Face Hub does, over folders of the disk: listings with
//! sizes and digests, addresses of files that redirect to another origin, signed and good for a
//! while, ranges, gated repositories, and what goes wrong on demand.
//!
//! ```text
//! the Hub                                      its storage, at another port
//! /api/models/OWNER/NAME/revision/REV          /OWNER/NAME/PATH?signature=N
//! /api/models/OWNER/NAME/tree/COMMIT
//! /OWNER/NAME/resolve/REV/PATH ──302──▶
//! ```
//!
//! A folder is `ROOT/OWNER/NAME`. All of its revisions, `main` and every other, are one commit,
//! whose digest follows from the files. Files of at least [`LARGE_BYTES`] are kept by their
//! SHA-256, and the Hub redirects to the storage for them; smaller ones it sends itself.
//!
//! Like the real storage, this one refuses preflights, and so conditional requests of browsers;
//! unlike it, it refuses requests that bring the Hub's token along, so that a test sees them.
//!
//! For tests in other languages everything is also at `/control/`: `POST /control/faults` takes a
//! list of [`Fault`]s as JSON, `POST /control/expire` ends all signatures, `GET /control/requests`
//! returns what was asked since the last `POST /control/reset`.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read, Result as IoResult, Seek, SeekFrom, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::files_below;

mod fault;

pub use fault::{Fault, FaultKind};

/// Files from this length on are in the storage.
pub const LARGE_BYTES: u64 = 4096;

/// Bytes that are written at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// How long a connection that stalls says nothing.
const STALL: Duration = Duration::from_secs(3600);

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whether it came to the storage rather than to the Hub.
    pub is_storage: bool,
    /// `GET`, `HEAD`, `OPTIONS`.
    pub method: String,
    /// Without what follows a `?`.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// Whether it had an `Authorization` header.
    pub has_token: bool,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the body that were sent.
    pub bytes: u64,
}

/// How the server behaves.
#[derive(Debug, Clone, Default)]
pub struct TestHubOptions {
    /// The token that reads everything.
    pub token: Option<String>,
    /// Repositories, `OWNER/NAME`, that are read with the token alone.
    pub gated: Vec<String>,
    /// Files of one page of a listing; all where it is 0.
    pub page_files: usize,
    /// Bytes that are sent in a second on each connection; as fast as can be where it is 0.
    pub bytes_per_s: u64,
    /// Requests that a signed address is good for; any number where it is 0.
    pub signature_uses: u32,
}

/// A request, and how many bytes of its answer were sent so far.
type Record = Arc<(Request, AtomicU64)>;

struct State {
    root: PathBuf,
    options: TestHubOptions,
    storage: SocketAddr,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<Vec<Record>>,
    bytes_per_s: AtomicU64,
    /// Signatures and how often each was used.
    signatures: Mutex<HashMap<String, u32>>,
    digests: Mutex<HashMap<PathBuf, String>>,
}

/// A server that runs until the program ends.
pub struct TestHub {
    address: SocketAddr,
    state: Arc<State>,
}

impl TestHub {
    /// Serves the folders `root/OWNER/NAME`.
    ///
    /// # Panics
    /// Where this machine has no port left.
    pub fn start(root: &Path, options: TestHubOptions) -> TestHub {
        TestHub::start_at(root, options, 0)
    }

    /// The same at a port; at any where it is 0.
    ///
    /// # Panics
    /// Where the port is taken.
    pub fn start_at(root: &Path, options: TestHubOptions, port: u16) -> TestHub {
        let listen = |port| TcpListener::bind(("127.0.0.1", port)).expect("a port");
        let (hub, storage) = (listen(port), listen(0));
        let state = Arc::new(State {
            root: root.to_owned(),
            storage: storage.local_addr().expect("it listens"),
            faults: Mutex::default(),
            requests: Mutex::default(),
            bytes_per_s: AtomicU64::new(options.bytes_per_s),
            signatures: Mutex::default(),
            digests: Mutex::default(),
            options,
        });
        let address = hub.local_addr().expect("it listens");
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let state = state.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    thread::spawn(move || converse(stream, &state, is_storage));
                }
            });
        }
        TestHub { address, state }
    }

    /// The address that `HF_ENDPOINT` takes.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has something go wrong from now on.
    pub fn fault(&self, path: &str, times: u32, kind: FaultKind) {
        let path = path.to_string();
        lock(&self.state.faults).push(Fault { path, times, kind });
    }

    /// Ends all faults.
    pub fn heal(&self) {
        lock(&self.state.faults).clear();
    }

    /// Ends all signatures.
    pub fn expire(&self) {
        lock(&self.state.signatures).clear();
    }

    /// Limits the bytes that are sent in a second on each connection; 0 ends that.
    pub fn throttle(&self, bytes_per_s: u64) {
        self.state.bytes_per_s.store(bytes_per_s, Ordering::Relaxed);
    }

    /// What was asked since the last time.
    pub fn take_requests(&self) -> Vec<Request> {
        let records = std::mem::take(&mut *lock(&self.state.requests));
        records.iter().map(request).collect()
    }
}

fn request(record: &Record) -> Request {
    Request {
        bytes: record.1.load(Ordering::Relaxed),
        ..record.0.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request as it came.
struct Asked {
    method: String,
    path: String,
    query: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// An answer: its body is bytes, or a part of a file.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

enum Body {
    Bytes(Vec<u8>),
    File(PathBuf, u64, u64),
}

impl Answer {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: Body::Bytes(body.into()),
        }
    }

    fn json(value: &Value) -> Answer {
        Answer::new(200, value.to_string()).with("Content-Type", "application/json")
    }

    fn error(status: u16, code: &str, message: &str) -> Answer {
        Answer::new(status, message)
            .with("X-Error-Code", code)
            .with("X-Error-Message", message)
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    fn len(&self) -> u64 {
        match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File(_, _, len) => *len,
        }
    }
}

/// Answers the requests of one connection, one after the other.
fn converse(stream: TcpStream, state: &State, is_storage: bool) {
    let _ = stream.set_nodelay(true);
    let Ok(mut out) = stream.try_clone() else {
        return;
    };
    let mut reader = BufReader::new(stream);
    while let Ok(Some(asked)) = read_request(&mut reader) {
        let fault = take_fault(state, is_storage, &asked.path);
        let mut answer = match &fault {
            Some(FaultKind::Status(status, retry_after)) => {
                let answer = Answer::new(*status, "as was asked");
                match retry_after {
                    Some(seconds) => answer.with("Retry-After", seconds.to_string()),
                    None => answer,
                }
            }
            Some(FaultKind::Body(body)) => Answer::new(200, body.as_str()),
            _ if asked.path.starts_with("/control/") => control(state, &asked),
            _ if is_storage => of_storage(state, &asked, &fault),
            _ => of_hub(state, &asked, &fault),
        };
        if !(is_storage && asked.method == "OPTIONS") {
            answer = answer.with("Access-Control-Allow-Origin", "*").with(
                "Access-Control-Expose-Headers",
                "X-Repo-Commit,X-Error-Code,X-Error-Message,ETag,Link,Accept-Ranges,\
                 Content-Range,X-Linked-Size,X-Linked-ETag,Retry-After",
            );
        }
        let record = Request {
            is_storage,
            method: asked.method.clone(),
            path: asked.path.clone(),
            range: asked.headers.get("range").cloned(),
            has_token: asked.headers.contains_key("authorization"),
            status: answer.status,
            bytes: 0,
        };
        let is_control = asked.path.starts_with("/control/");
        let body = asked.method != "HEAD";
        // Noted before it is sent: whoever has an answer finds it here.
        let record = Arc::new((record, AtomicU64::new(0)));
        if !is_control {
            lock(&state.requests).push(record.clone());
        }
        let sent = send(&mut out, state, &answer, &fault, body, &record.1);
        if !matches!(sent, Ok(true)) {
            let _ = out.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> IoResult<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next(), words.next());
    let (Some(method), Some(target)) = (method, target) else {
        return Ok(None);
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut asked = Asked {
        method: method.to_string(),
        path: decode(path),
        query: query.to_string(),
        headers: HashMap::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            let name = name.to_ascii_lowercase();
            asked.headers.insert(name, value.trim().to_string());
        }
    }
    let length = asked.headers.get("content-length");
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body)?;
    Ok(Some(asked))
}

/// `%2F` becomes `/`, and so on.
fn decode(path: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let digits = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped.filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn take_fault(state: &State, is_storage: bool, path: &str) -> Option<FaultKind> {
    let path = format!("{}:{path}", if is_storage { "storage" } else { "hub" });
    let mut faults = lock(&state.faults);
    let fault = faults
        .iter_mut()
        .find(|fault| fault.times > 0 && path.contains(&fault.path))?;
    if !matches!(fault.kind, FaultKind::Corrupt(_)) {
        fault.times -= 1;
    }
    Some(fault.kind.clone())
}

/// Whether a fault that counts where it shows still has a time left, which is counted.
fn shows(state: &State, kind: &FaultKind) -> bool {
    let mut faults = lock(&state.faults);
    let mut left = faults.iter_mut().filter(|fault| fault.times > 0);
    let found = left.find(|fault| fault.kind == *kind);
    found.map(|fault| fault.times -= 1).is_some()
}

/// Sends an answer; whether the connection goes on.
fn send(
    out: &mut TcpStream,
    state: &State,
    answer: &Answer,
    fault: &Option<FaultKind>,
    has_body: bool,
    counter: &AtomicU64,
) -> IoResult<bool> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", answer.len());
    out.write_all(head.as_bytes())?;
    if !has_body {
        return Ok(true);
    }
    let (mut source, start): (Box<dyn Read>, u64) = match &answer.body {
        Body::Bytes(bytes) => (Box::new(&bytes[..]), 0),
        Body::File(path, start, len) => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(*start))?;
            (Box::new(file.take(*len)), *start)
        }
    };
    let begun = Instant::now();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut sent = 0;
    loop {
        let room = match fault {
            Some(FaultKind::Drop(bytes) | FaultKind::Stall(bytes)) => bytes.saturating_sub(sent),
            _ => u64::MAX,
        };
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        if room == 0 && sent < answer.len() {
            if let Some(FaultKind::Stall(_)) = fault {
                // Until the other side has had enough.
                out.set_read_timeout(Some(STALL))?;
                let _ = out.read(&mut [0; 1]);
            }
            return Ok(false);
        }
        let n = source.read(&mut chunk[..room])?;
        if n == 0 {
            return Ok(true);
        }
        if let Some(kind @ FaultKind::Corrupt(at)) = fault
            && let Some(at) = at.checked_sub(start + sent)
            && let Some(byte) = chunk[..n].get_mut(at as usize)
            && shows(state, kind)
        {
            *byte ^= 0x40;
        }
        sent += n as u64;
        counter.store(sent, Ordering::Relaxed);
        out.write_all(&chunk[..n])?;
        let bytes_per_s = state.bytes_per_s.load(Ordering::Relaxed);
        if bytes_per_s > 0 {
            let due = Duration::from_secs_f64(sent as f64 / bytes_per_s as f64);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        _ => "Something",
    }
}

/// What tests ask for themselves.
fn control(state: &State, asked: &Asked) -> Answer {
    match &*asked.path {
        "/control/faults" => {
            let value: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
            let faults = value.as_array().map(Vec::as_slice).unwrap_or_default();
            match faults.iter().map(Fault::from_json).collect() {
                Ok(faults) => *lock(&state.faults) = faults,
                Err(reason) => return Answer::new(400, reason),
            }
        }
        "/control/expire" => lock(&state.signatures).clear(),
        "/control/reset" => lock(&state.requests).clear(),
        "/control/requests" => {
            let requests = lock(&state.requests);
            let requests: Vec<Value> = requests
                .iter()
                .map(request)
                .map(|request| {
                    json!({
                        "is_storage": request.is_storage,
                        "method": request.method,
                        "path": request.path,
                        "range": request.range,
                        "has_token": request.has_token,
                        "status": request.status,
                        "bytes": request.bytes,
                    })
                })
                .collect();
            return Answer::json(&requests.into());
        }
        _ => return Answer::new(404, "no such control"),
    }
    Answer::json(&Value::Null)
}

/// A file of a repository.
struct Entry {
    path: String,
    bytes: u64,
    /// SHA-256 of a large file; what Git calls a small one.
    digest: String,
    is_large: bool,
}

/// What a repository holds, and its commit.
fn listing(state: &State, repository: &str) -> Option<(String, Vec<Entry>)> {
    let folder = state.root.join(repository);
    let is_name = repository.split('/').count() == 2 && !repository.contains("..");
    if !is_name || !folder.is_dir() {
        return None;
    }
    let mut commit = Sha256::new();
    let mut entries = Vec::new();
    for path in files_below(&folder) {
        let bytes = path.metadata().ok()?.len();
        let inside = path
            .strip_prefix(&folder)
            .ok()?
            .to_str()?
            .replace('\\', "/");
        let is_large = bytes >= LARGE_BYTES;
        let digest = digest(state, &path, is_large)?;
        commit.update(&inside);
        commit.update(&digest);
        entries.push(Entry {
            path: inside,
            bytes,
            digest,
            is_large,
        });
    }
    Some((hex::encode(commit.finalize())[..40].to_string(), entries))
}

fn digest(state: &State, path: &Path, is_large: bool) -> Option<String> {
    if let Some(digest) = lock(&state.digests).get(path) {
        return Some(digest.clone());
    }
    let mut file = File::open(path).ok()?;
    let digest = match is_large {
        true => hash(Sha256::new(), &mut file)?,
        false => {
            let mut sha1 = Sha1::new();
            sha1.update(format!("blob {}\0", file.metadata().ok()?.len()));
            hash(sha1, &mut file)?
        }
    };
    lock(&state.digests).insert(path.to_owned(), digest.clone());
    Some(digest)
}

fn hash(mut digest: impl Digest, file: &mut File) -> Option<String> {
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk).ok()? {
            0 => return Some(hex::encode(digest.finalize())),
            n => digest.update(&chunk[..n]),
        }
    }
}

fn of_hub(state: &State, asked: &Asked, fault: &Option<FaultKind>) -> Answer {
    if asked.method == "OPTIONS" {
        return Answer::new(200, "")
            .with("Access-Control-Allow-Methods", "GET,HEAD,OPTIONS")
            .with(
                "Access-Control-Allow-Headers",
                "authorization,range,if-range",
            );
    }
    let parts: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
    let (repository, rest) = match &parts[..] {
        ["api", "models", owner, name, rest @ ..] => (format!("{owner}/{name}"), rest),
        [owner, name, rest @ ..] => (format!("{owner}/{name}"), rest),
        _ => return Answer::new(404, "not found"),
    };
    let token = asked.headers.get("authorization");
    let right = state
        .options
        .token
        .as_ref()
        .map(|token| format!("Bearer {token}"));
    let not_found = || Answer::error(401, "RepoNotFound", "Invalid username or password.");
    if token.is_some() && token != right.as_ref() {
        return Answer::new(401, "Invalid credentials in Authorization header");
    }
    let Some((commit, entries)) = listing(state, &repository) else {
        return not_found();
    };
    let is_gated = state.options.gated.contains(&repository);
    let is_api = parts[0] == "api";
    // What there is may be seen by all; its contents may not.
    if is_gated && token.is_none() && !is_api {
        return Answer::error(401, "GatedRepo", "Access to this model is restricted.");
    }
    match rest {
        [_, "missing", ..] => Answer::error(404, "RevisionNotFound", "Invalid rev id"),
        ["revision", ..] if is_api => {
            let mut answer = json!({ "id": repository, "sha": commit, "gated": is_gated });
            if asked.query.contains("blobs=true") {
                answer["siblings"] = siblings(&entries);
            }
            if let Some(license) = license(&state.root.join(&repository)) {
                answer["cardData"] = json!({ "license": license });
            }
            Answer::json(&answer)
        }
        ["tree", ..] if is_api => tree(state, asked, &entries),
        ["resolve", revision, path @ ..] => {
            let (revision, path) = match (*revision, path) {
                ("refs", ["pr", _, path @ ..]) => ("refs", path),
                other => (other.0, other.1),
            };
            let _ = revision;
            let path = path.join("/");
            let Some(entry) = entries.iter().find(|entry| entry.path == path) else {
                return Answer::error(404, "EntryNotFound", "Entry not found");
            };
            let answer = match entry.is_large {
                true => {
                    let mut signatures = lock(&state.signatures);
                    let signature =
                        hex::encode(Sha256::digest(format!("{} {path}", signatures.len())));
                    signatures.insert(signature.clone(), 0);
                    let place = format!(
                        "http://{}/{repository}/{}?signature={signature}",
                        state.storage,
                        path.replace(' ', "%20")
                    );
                    Answer::new(302, "")
                        .with("Location", place)
                        .with("X-Linked-Size", entry.bytes.to_string())
                        .with("X-Linked-ETag", format!("\"{}\"", entry.digest))
                }
                false => {
                    let file = state.root.join(&repository).join(&path);
                    part(asked, file, entry.bytes, fault)
                        .with("ETag", format!("\"{}\"", entry.digest))
                }
            };
            answer.with("X-Repo-Commit", commit)
        }
        _ => not_found(),
    }
}

/// All files, as they are listed with the repository itself.
fn siblings(entries: &[Entry]) -> Value {
    let shown = entries.iter().map(|entry| {
        let mut shown = json!({
            "rfilename": entry.path, "size": entry.bytes, "blobId": entry.digest[..40],
        });
        if entry.is_large {
            let digest = &entry.digest;
            shown["lfs"] = json!({ "sha256": digest, "size": entry.bytes, "pointerSize": 134 });
        }
        shown
    });
    shown.collect::<Vec<_>>().into()
}

/// The licence that the model card's header states.
fn license(folder: &Path) -> Option<String> {
    let card = std::fs::read_to_string(folder.join("README.md")).ok()?;
    let header = card.strip_prefix("---\n")?.split("\n---").next()?;
    let stated = header
        .lines()
        .find_map(|line| line.strip_prefix("license:"));
    stated.map(|license| license.trim().to_string())
}

fn tree(state: &State, asked: &Asked, entries: &[Entry]) -> Answer {
    let cursor = asked
        .query
        .split('&')
        .find_map(|part| part.strip_prefix("cursor="));
    let first: usize = cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let page = match state.options.page_files {
        0 => entries.len(),
        files => files,
    };
    let shown = entries.iter().skip(first).take(page).map(|entry| {
        let mut shown = json!({
            "type": "file", "oid": entry.digest[..40], "size": entry.bytes, "path": entry.path,
        });
        if entry.is_large {
            let digest = &entry.digest;
            shown["lfs"] = json!({ "oid": digest, "size": entry.bytes, "pointerSize": 134 });
        }
        shown
    });
    // Folders are listed, too.
    let folders = entries
        .iter()
        .filter_map(|entry| entry.path.rsplit_once('/'));
    let folders = folders.filter(|_| first == 0).map(|(folder, _)| {
        json!({ "type": "directory", "oid": "0".repeat(40), "size": 0, "path": folder })
    });
    let answer = Answer::json(&folders.chain(shown).collect::<Vec<_>>().into());
    match first + page < entries.len() {
        true => {
            let host = asked.headers.get("host").cloned().unwrap_or_default();
            let next = format!(
                "<http://{host}{}?recursive=true&cursor={}>; rel=\"next\"",
                asked.path,
                first + page
            );
            answer.with("Link", next)
        }
        false => answer,
    }
}

fn of_storage(state: &State, asked: &Asked, fault: &Option<FaultKind>) -> Answer {
    if asked.method == "OPTIONS" {
        return Answer::new(403, "no preflights here");
    }
    if asked.headers.contains_key("authorization") {
        return Answer::new(400, "a token of the Hub came along");
    }
    let signature = asked.query.strip_prefix("signature=").unwrap_or_default();
    let is_good = match lock(&state.signatures).get_mut(signature) {
        Some(uses) => {
            *uses += 1;
            state.options.signature_uses == 0 || *uses <= state.options.signature_uses
        }
        None => false,
    };
    if !is_good {
        return Answer::new(403, "Request has expired");
    }
    let file = state.root.join(asked.path.trim_start_matches('/'));
    match file.metadata() {
        Ok(found) if !asked.path.contains("..") => part(asked, file, found.len(), fault),
        _ => Answer::new(404, "not found"),
    }
}

/// A file, or the part that a range names.
fn part(asked: &Asked, file: PathBuf, bytes: u64, fault: &Option<FaultKind>) -> Answer {
    let range = asked.headers.get("range");
    let range = range.and_then(|range| range.strip_prefix("bytes="));
    let ends = range.and_then(|range| {
        let (start, end) = range.split_once('-')?;
        let start: u64 = start.parse().ok()?;
        let end = match end {
            "" => bytes,
            end => end.parse::<u64>().ok()?.checked_add(1)?.min(bytes),
        };
        Some((start, end))
    });
    let whole = Answer {
        status: 200,
        headers: vec![("Accept-Ranges", "bytes".into())],
        body: Body::File(file.clone(), 0, bytes),
    };
    match ends {
        None => whole,
        Some(_) if *fault == Some(FaultKind::IgnoreRange) => whole,
        Some((start, end)) if start < end => Answer {
            status: 206,
            headers: vec![(
                "Content-Range",
                format!("bytes {start}-{}/{bytes}", end - 1),
            )],
            body: Body::File(file, start, end - start),
        },
        Some(_) => Answer::new(416, "").with("Content-Range", format!("bytes */{bytes}")),
    }
}
