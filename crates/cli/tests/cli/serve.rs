//! `univi serve`: what its options do, and how it starts and ends. What it answers is tested with
//! the library, `univi-serve`.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{command, complains, path, refused, run, scratch};

/// Nothing here takes as long, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server that ends with the test.
pub struct Server {
    child: Child,
    pub port: u16,
    lines: BufReader<ChildStdout>,
}

impl Server {
    fn start(dir: &Path, args: &[&str]) -> Server {
        let mut command = command(&["serve", path(dir), "--port", "0", "--json"]);
        command.args(args);
        Server::of(command)
    }

    pub fn of(mut command: Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut server = Server {
            child,
            port: 0,
            lines,
        };
        let line = server.line();
        server.port = line["port"].as_u64().unwrap().try_into().unwrap();
        assert_eq!(line["url"], format!("http://127.0.0.1:{}/", server.port));
        server
    }

    /// Sends Ctrl-C -> how the server ends.
    #[cfg(unix)]
    pub fn interrupt(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().code()
    }

    /// The next line that the server prints.
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Sends a request in a connection of its own.
    fn connect(&self, path: &str, header: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Asks for `path` -> the whole answer, its head and its body.
    fn get_with(&self, path: &str, header: &str) -> String {
        let mut answer = Vec::new();
        self.connect(path, header).read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str) -> String {
        self.get_with(path, "")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A page beside a folder of models.
fn site(name: &str) -> PathBuf {
    let dir = scratch(&format!("serve-{name}"));
    for folder in ["page", "models"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for (file, text) in [
        ("page/index.html", "<p>page</p>"),
        ("page/app.js", "1"),
        ("page/.env", "KEY=1"),
        ("models/m.gguf", "0123456789"),
        ("models/manifest.json", "{}"),
        ("secret", "secret"),
    ] {
        fs::write(dir.join(file), text).unwrap();
    }
    dir
}

#[test]
fn options_reach_the_server() {
    let dir = site("options");
    let page = dir.join("page");
    let mount = format!("/models={}", path(&dir.join("models")));
    let further = "https://models.example";
    let server = Server::start(
        &page,
        &["--mount", &mount, "--dotfiles", "--connect-src", further],
    );
    assert!(server.get("/").ends_with("<p>page</p>"));
    assert!(server.get("/models/m.gguf").ends_with("\r\n\r\n0123456789"));
    assert!(server.get("/.env").ends_with("KEY=1"));
    assert!(server.get("/app.js").contains(further));
    let server = Server::start(&page, &[]);
    assert!(server.get("/.env").starts_with("HTTP/1.1 404 "));
    assert!(!server.get("/app.js").contains(further));

    let models = dir.join("models");
    let server = Server::start(&models, &["--corrupt", "1"]);
    assert!(!server.get("/m.gguf").ends_with("0123456789"));

    let failing = |seed: &str| -> Vec<bool> {
        let server = Server::start(&models, &["--fail", "0.5", "--seed", seed]);
        let answers = (0..40).map(|_| server.get("/m.gguf"));
        answers
            .map(|answer| answer.starts_with("HTTP/1.1 503 "))
            .collect()
    };
    let first = failing("1");
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
    assert_eq!(failing("1"), first);
    assert_ne!(failing("2"), first);

    // Ten bytes, of which the line makes up for a fiftieth of a second at first.
    let server = Server::start(&models, &["--throttle", "20"]);
    let begun = Instant::now();
    assert!(server.get("/m.gguf").ends_with("0123456789"));
    assert!(begun.elapsed() > Duration::from_millis(400));
}

#[test]
fn programs_read_what_was_sent() {
    let dir = site("logged");
    let fault = "429,retry-after=2,times=1,path=m.gguf";
    let mut server = Server::start(&dir.join("models"), &["--fault", fault]);
    let refusal = server.get("/m.gguf");
    assert!(refusal.starts_with("HTTP/1.1 429 "), "{refusal}");
    assert!(refusal.contains("retry-after: 2\r\n"), "{refusal}");
    assert_eq!(server.line()["faults"], json!([fault]));

    server.get_with("/m.gguf?v=1", "Range: bytes=2-4\r\n");
    let logged = json!({
        "method": "GET", "path": "/m.gguf", "range": "bytes=2-4", "status": 206, "bytes": 3, "faults": [],
    });
    assert_eq!(server.line(), logged);
    server.get("/nothing");
    let line = server.line();
    assert_eq!(
        (&line["range"], &line["status"]),
        (&json!(null), &json!(404))
    );
}

#[test]
fn people_read_it_where_they_want_to() {
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
        let mut server = Server {
            port: port.parse().unwrap(),
            child,
            lines,
        };
        assert!(server.get("/secret").ends_with("secret"));
        let mut stderr = server.child.stderr.take().unwrap();
        server.child.kill().unwrap();
        let mut noted = String::new();
        stderr.read_to_string(&mut noted).unwrap();
        if wanted {
            let line = "GET /secret whole: 200, 6 bytes in ";
            assert!(noted.starts_with(line), "{noted:?}");
        } else {
            assert_eq!(noted, "");
        }
    }
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
    let mut stream = server.connect("/large.gguf", "");
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
    refused(&args, &format!("cannot listen on 127.0.0.1:{}", first.port));
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
    let dir = site("ctrl-c");
    let mut server = Server::start(&dir.join("models"), &["--fault", "stall=5"]);
    let mut stream = server.connect("/m.gguf", "");
    stream.read_exact(&mut [0; 100]).unwrap();
    assert_eq!(server.interrupt(), Some(130));
}
