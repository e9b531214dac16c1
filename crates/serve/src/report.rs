//! What a server reports: each request once it is over.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

/// What a server reports while it serves.
#[derive(Debug)]
#[non_exhaustive]
pub enum Report {
    /// A request is over, whether or not all of its answer was sent.
    Request(RequestRecord),
    /// A connection could not be accepted.
    NotAccepted(io::Error),
}

/// A request and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestRecord {
    /// The method, in capitals.
    pub method: String,
    /// The path as it stood in the request, without what follows a `?`.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The status of the answer; 499, as nginx logs it, where the client left before there was one.
    pub status: u16,
    /// Bytes of the body that the connection took, which are at most a buffer more than what
    /// arrived.
    pub bytes: u64,
    /// From the request's headers to the end of its answer.
    pub duration: Duration,
    /// The names of the faults that bent the answer.
    pub faults: Vec<String>,
}

/// Receives reports, on the threads that serve.
pub(crate) type Reporter = Arc<dyn Fn(Report) + Send + Sync>;

/// A request that is being answered. Dropping it reports it, so that each is reported once, however
/// it ends.
pub(crate) struct Pending {
    record: RequestRecord,
    begun: Instant,
    report: Reporter,
}

impl Pending {
    pub(crate) fn new(record: RequestRecord, begun: Instant, report: Reporter) -> Pending {
        Pending {
            record,
            begun,
            report,
        }
    }

    /// Sets the status of the answer.
    pub(crate) fn set_status(&mut self, status: u16) {
        self.record.status = status;
    }

    /// Bytes of the body that were sent so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.record.bytes
    }

    /// Counts `bytes` more as sent.
    pub(crate) fn add_bytes(&mut self, bytes: u64) {
        self.record.bytes += bytes;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut record = self.record.clone();
        record.duration = self.begun.elapsed();
        (self.report)(Report::Request(record));
    }
}
