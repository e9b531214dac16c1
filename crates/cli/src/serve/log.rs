//! One line for each request, once it is over.

use std::time::Instant;

use serde::Serialize;

use crate::out;

/// Who reads about requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Nobody.
    Nobody,
    /// People, on stderr.
    People,
    /// Programs, as JSON on stdout.
    Programs,
}

/// A request and its answer. Dropping it prints the line, so that there is one however it ends.
#[derive(Debug, Serialize)]
pub struct Record {
    #[serde(skip)]
    pub log: Log,
    #[serde(skip)]
    pub begun: Instant,
    pub method: String,
    /// As it stood in the request, without what follows a `?`.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    pub status: u16,
    /// Bytes of the body that the connection took, which are at most a buffer more than what
    /// arrived.
    pub bytes: u64,
    /// The rules of `--fault` that bent the answer.
    pub faults: Vec<String>,
}

impl Drop for Record {
    fn drop(&mut self) {
        match self.log {
            Log::Nobody => {}
            Log::People => out::note(&self.line()),
            // Where the reader has gone, pages are still served.
            Log::Programs => {
                let _ = out::line(&serde_json::json!(self).to_string());
            }
        }
    }
}

impl Record {
    fn line(&self) -> String {
        let range = self.range.as_deref().unwrap_or("whole");
        let elapsed_ms = self.begun.elapsed().as_millis();
        let mut line = format!(
            "{} {} {range}: {}, {} bytes in {elapsed_ms} ms",
            self.method, self.path, self.status, self.bytes
        );
        for fault in &self.faults {
            line += &format!(" [{fault}]");
        }
        line
    }
}
