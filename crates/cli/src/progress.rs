//! Progress of long work, on stderr.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::out;

/// Work that ends sooner says nothing.
const QUIET: Duration = Duration::from_secs(1);
/// Between two lines where stderr is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown with binary prefixes.
    Bytes,
    /// Things that the label names.
    Items,
}

/// A bar on a terminal, a line now and then elsewhere; nothing for work that ends within a second.
pub struct Progress {
    label: String,
    unit: Unit,
    total: u64,
    done: u64,
    begun: Instant,
    next_line: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts counting towards `total`.
    pub fn new(label: impl Into<String>, unit: Unit, total: u64) -> Progress {
        let label = label.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
            let counted = match unit {
                Unit::Bytes => "{binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}",
                Unit::Items => "{pos} of {len}",
            };
            let template = format!("{{msg}} {{wide_bar}} {counted}, {{eta}} left");
            bar.set_style(
                ProgressStyle::with_template(&template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_message(label.clone());
            bar
        });
        Progress {
            label,
            unit,
            total,
            done: 0,
            begun: Instant::now(),
            next_line: Instant::now() + QUIET,
            bar,
        }
    }

    /// Counts `n` more.
    pub fn advance(&mut self, n: u64) {
        self.set(self.done.saturating_add(n));
    }

    /// Sets the count.
    pub fn set(&mut self, done: u64) {
        self.done = done;
        let due = Instant::now() >= self.next_line;
        match &self.bar {
            Some(bar) => {
                if bar.is_hidden() && due {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                bar.set_position(self.done);
            }
            None if due => {
                self.next_line = Instant::now() + BETWEEN_LINES;
                out::note(&format!("{}: {}", self.label, self.share()));
            }
            None => {}
        }
    }

    /// Does what prints other lines while the bar is out of the way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn share(&self) -> String {
        let percent = self
            .done
            .saturating_mul(100)
            .checked_div(self.total)
            .unwrap_or(100);
        match self.unit {
            Unit::Bytes => {
                let seconds = self.begun.elapsed().as_secs_f64().max(1e-3);
                let rate = self.done as f64 / seconds;
                let left = self.total.saturating_sub(self.done) as f64 / rate.max(1.);
                let left = indicatif::HumanDuration(Duration::from_secs(left as u64));
                let (total, rate) = (bytes(self.total), bytes(rate as u64));
                format!("{percent} % of {total}, {rate}/s, {left} left")
            }
            Unit::Items => format!("{} of {}", self.done, self.total),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A size for people: `3.6 GiB`.
pub fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}
