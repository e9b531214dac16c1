//! What a test has go wrong.

use serde_json::Value;

/// What goes wrong with answers about a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Requests for which this is a part of `hub:/PATH`, or of `storage:/PATH`.
    pub path: String,
    /// How many of them.
    pub times: u32,
    /// What goes wrong.
    pub kind: FaultKind,
}

/// What goes wrong with an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// This status, with `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// The connection breaks after so many bytes of the body.
    Drop(u64),
    /// The connection falls silent after so many bytes of the body.
    Stall(u64),
    /// The whole file, whatever range was asked for.
    IgnoreRange,
    /// This, with status 200.
    Body(String),
    /// A byte of the body, at this offset of the file, is another one. Answers without that byte do
    /// not count.
    Corrupt(u64),
}

impl Fault {
    /// Reads `{"path": "..", "times": 1, "kind": "status", "status": 429, "retry_after_s": 1}`; the
    /// other kinds are `drop` and `stall` with `bytes`, `ignore-range`, `body` with `body`, and
    /// `corrupt` with `at`.
    ///
    /// # Errors
    /// What is not understood.
    pub fn from_json(value: &Value) -> Result<Fault, String> {
        let number = |key: &str| value[key].as_u64().unwrap_or_default();
        let kind = match value["kind"].as_str().unwrap_or_default() {
            "status" => {
                let status = u16::try_from(number("status")).map_err(|e| e.to_string())?;
                FaultKind::Status(status, value["retry_after_s"].as_u64())
            }
            "drop" => FaultKind::Drop(number("bytes")),
            "stall" => FaultKind::Stall(number("bytes")),
            "body" => {
                let body = value["body"].as_str().unwrap_or_default();
                FaultKind::Body(body.to_string())
            }
            "ignore-range" => FaultKind::IgnoreRange,
            "corrupt" => FaultKind::Corrupt(number("at")),
            other => return Err(format!("{other:?} is no kind of fault")),
        };
        Ok(Fault {
            path: value["path"].as_str().unwrap_or_default().to_string(),
            times: value["times"]
                .as_u64()
                .map_or(u32::MAX, |times| times as u32),
            kind,
        })
    }
}
