//! A server within the test, and what asks it over a connection.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
    time::Duration,
};

use univi_serve::{Report, RequestRecord, ServeOptions};

/// Nothing here takes as long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a thread of its own, which ends with the test's process.
pub struct Server {
    address: SocketAddr,
    records: Mutex<Receiver<RequestRecord>>,
}

impl Server {
    pub fn start(dir: &Path) -> Server {
        Server::with(ServeOptions::new(dir))
    }

    pub fn with(options: ServeOptions) -> Server {
        let (sender, records) = mpsc::channel();
        let sender = Mutex::new(sender);
        let options = options.report(move |report| match report {
            // Most tests don't read them, and have ended by then.
            Report::Request(record) => drop(sender.lock().unwrap().send(record)),
            other => panic!("{other:?}"),
        });
        let server = univi_serve::Server::bind(options).unwrap();
        let address = server.address();
        std::thread::spawn(move || server.run());
        Server {
            address,
            records: Mutex::new(records),
        }
    }

    /// The next request that is over.
    pub fn record(&self) -> RequestRecord {
        let records = self.records.lock().unwrap();
        records.recv_timeout(PATIENCE).unwrap()
    }

    /// A connection that has sent `request`.
    pub fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Asks for `path` in a connection of its own. `headers` are lines.
    pub fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Reply {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{headers}\r\n");
        let mut stream = self.connect(&request);
        Reply::read(&mut stream, method == "HEAD")
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[])
    }

    pub fn get_range(&self, path: &str, range: &str) -> Reply {
        self.ask("GET", path, &[&format!("Range: {range}")])
    }
}

pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// Whether all of the body came.
    pub complete: bool,
}

impl Reply {
    pub fn read(stream: &mut TcpStream, is_head: bool) -> Reply {
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

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Whether all of them came before the connection ended.
pub fn read_bytes(stream: &mut impl Read, bytes: u64, into: &mut Vec<u8>) -> bool {
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
