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
    /// How much of it was there before: it says nothing about the rate.
    found: u64,
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
            found: 0,
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

    /// Sets the count to what is there without any work, as of an earlier run.
    pub fn skip_to(&mut self, done: u64) {
        self.found += done.saturating_sub(self.done);
        self.set(done);
        if let Some(bar) = &self.bar {
            bar.reset_eta();
        }
    }

    /// Does what prints other lines while the bar is out of the way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Returns how much was done in a second, in a time that is counted from the start.
    fn rate(&self, elapsed: Duration) -> f64 {
        self.done.saturating_sub(self.found) as f64 / elapsed.as_secs_f64().max(1e-3)
    }

    fn share(&self) -> String {
        let percent = self
            .done
            .saturating_mul(100)
            .checked_div(self.total)
            .unwrap_or(100);
        match self.unit {
            Unit::Bytes => {
                let rate = self.rate(self.begun.elapsed());
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Progress, Unit};

    #[test]
    fn what_was_there_before_says_nothing_about_the_rate() {
        let mut progress = Progress::new("downloading", Unit::Bytes, 1000);
        progress.skip_to(600);
        progress.set(700);
        // Another file, half of which was there.
        progress.skip_to(800);
        progress.set(900);
        assert_eq!(progress.rate(Duration::from_secs(2)), 100.);
        assert!(progress.share().starts_with("90 % of 1000 B"));
    }
}
