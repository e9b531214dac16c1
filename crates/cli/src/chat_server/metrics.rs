//! What the server counts, as Prometheus reads it.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

use univi::session::Usage;

use super::queue::Timings;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// With an answer that the model ended.
    Stop,
    /// With an answer that was cut off.
    Length,
    /// The client left before the end.
    Cancelled,
    /// The request was wrong, or its key.
    Refused,
    /// There was no place in the queue.
    QueueFull,
    /// It waited too long.
    TimedOut,
    /// The server failed.
    Failed,
}

impl Outcome {
    const ALL: [(Outcome, &'static str); 7] = [
        (Outcome::Stop, "stop"),
        (Outcome::Length, "length"),
        (Outcome::Cancelled, "cancelled"),
        (Outcome::Refused, "refused"),
        (Outcome::QueueFull, "queue_full"),
        (Outcome::TimedOut, "timed_out"),
        (Outcome::Failed, "failed"),
    ];
}

/// What was counted since the server began.
#[derive(Default)]
pub struct Metrics(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    outcomes: BTreeMap<Outcome, u64>,
    answers: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    visual_tokens: u64,
    completion_tokens: u64,
    queue_s: f64,
    encode_s: f64,
    first_text_s: f64,
    decode_s: f64,
    visuals_encoded: u64,
    visuals_reused: u64,
}

impl Metrics {
    /// Counts a request that is over.
    pub fn count(&self, outcome: Outcome) {
        *self.counts().outcomes.entry(outcome).or_default() += 1;
    }

    /// Counts what an answer took, whole or not.
    pub fn add(&self, usage: &Usage, timings: &Timings) {
        let mut counts = self.counts();
        counts.answers += 1;
        counts.prompt_tokens += usage.prompt as u64;
        counts.cached_tokens += usage.reused as u64;
        counts.visual_tokens += usage.visual as u64;
        counts.completion_tokens += usage.completion as u64;
        counts.queue_s += timings.queue.as_secs_f64();
        counts.encode_s += timings.encode.as_secs_f64();
        counts.first_text_s += timings.first_text.as_secs_f64();
        counts.decode_s += timings.decode.as_secs_f64();
    }

    /// Counts a picture or clip, encoded or found among those that were.
    pub fn visual(&self, reused: bool) {
        let mut counts = self.counts();
        match reused {
            true => counts.visuals_reused += 1,
            false => counts.visuals_encoded += 1,
        }
    }

    /// Writes everything in Prometheus' text format, with the queue as it is now.
    pub fn text(&self, (waiting, running): (usize, usize), request_bytes: u64) -> String {
        let counts = self.counts();
        let mut text = Text(String::new());
        text.head(
            "univi_requests_total",
            "counter",
            "Requests by how they ended.",
        );
        for (outcome, name) in Outcome::ALL {
            let count = counts.outcomes.get(&outcome).copied().unwrap_or_default();
            text.line(
                &format!("univi_requests_total{{outcome=\"{name}\"}}"),
                count,
            );
        }
        for (name, kind, help, value) in [
            (
                "univi_queue_length",
                "gauge",
                "Requests that wait.",
                waiting as u64,
            ),
            (
                "univi_requests_running",
                "gauge",
                "Requests that are being answered.",
                running as u64,
            ),
            (
                "univi_request_bytes",
                "gauge",
                "Memory that requests take while they arrive and wait.",
                request_bytes,
            ),
            (
                "univi_prompt_tokens_total",
                "counter",
                "Tokens of prompts.",
                counts.prompt_tokens,
            ),
            (
                "univi_cached_tokens_total",
                "counter",
                "Tokens of prompts that were still in a KV cache.",
                counts.cached_tokens,
            ),
            (
                "univi_visual_tokens_total",
                "counter",
                "Tokens of prompts that stand for pictures and clips.",
                counts.visual_tokens,
            ),
            (
                "univi_completion_tokens_total",
                "counter",
                "Tokens of answers.",
                counts.completion_tokens,
            ),
            (
                "univi_visuals_encoded_total",
                "counter",
                "Pictures and clips that were encoded.",
                counts.visuals_encoded,
            ),
            (
                "univi_visuals_reused_total",
                "counter",
                "Pictures and clips that had been encoded before.",
                counts.visuals_reused,
            ),
        ] {
            text.head(name, kind, help);
            text.line(name, value);
        }
        for (name, help, seconds) in [
            (
                "univi_queue_seconds",
                "Seconds that answered requests waited.",
                counts.queue_s,
            ),
            (
                "univi_encode_seconds",
                "Seconds of decoding and encoding pictures and clips.",
                counts.encode_s,
            ),
            (
                "univi_time_to_first_token_seconds",
                "Seconds from the encoded prompt to the first text.",
                counts.first_text_s,
            ),
            (
                "univi_decode_seconds",
                "Seconds from the first text to the end.",
                counts.decode_s,
            ),
        ] {
            text.head(name, "summary", help);
            text.line(&format!("{name}_sum"), seconds);
            text.line(&format!("{name}_count"), counts.answers);
        }
        text.0
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }
}
