//! Times.

use serde::Serialize;
use univi::Result;

/// After so many seconds a thing has been measured often enough.
const ENOUGH_SECONDS: f64 = 20.;

/// Measures how long things take, and says what it measures.
pub struct Stopwatch<'a> {
    rounds: usize,
    /// Seconds since any moment.
    now: &'a dyn Fn() -> f64,
    begins: &'a mut dyn FnMut(&str),
}

/// Seconds that something took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the times are no longer.
    pub median: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
    /// How often it was measured: less often than asked for where it takes long.
    pub rounds: usize,
}

impl<'a> Stopwatch<'a> {
    /// Measures each thing `rounds` times, at least once, by the clock `now`, in seconds. `begins`
    /// hears what is measured next.
    pub fn new(
        rounds: usize,
        now: &'a dyn Fn() -> f64,
        begins: &'a mut dyn FnMut(&str),
    ) -> Stopwatch<'a> {
        Stopwatch {
            rounds: rounds.max(1),
            now,
            begins,
        }
    }

    /// Says what is measured next.
    pub(crate) fn begins(&mut self, what: &str) {
        (self.begins)(what);
    }

    /// Measures `work`, after it ran once for caches, pipelines and pages; where that takes very
    /// long, it is the measurement.
    pub(crate) async fn time(&self, mut work: impl AsyncFnMut() -> Result<()>) -> Result<Spread> {
        let first = self.once(&mut work).await?;
        if first > ENOUGH_SECONDS {
            return Ok(Spread::of(vec![first]));
        }
        let mut times = Vec::with_capacity(self.rounds);
        while times.len() < self.rounds && times.iter().sum::<f64>() < ENOUGH_SECONDS {
            times.push(self.once(&mut work).await?);
        }
        Ok(Spread::of(times))
    }

    /// Measures `work` once.
    pub(crate) async fn once(&self, work: &mut impl AsyncFnMut() -> Result<()>) -> Result<f64> {
        let began = (self.now)();
        work().await?;
        // Clocks of browsers are coarse: no time at all would be endless speed.
        Ok(((self.now)() - began).max(1e-6))
    }
}

impl Spread {
    /// Of times, at least one.
    fn of(mut times: Vec<f64>) -> Spread {
        times.sort_by(f64::total_cmp);
        Spread {
            median: times[times.len() / 2],
            min: times[0],
            max: times[times.len() - 1],
            rounds: times.len(),
        }
    }

    /// The time of one of `count` equal parts.
    pub(crate) fn divided_by(self, count: usize) -> Spread {
        let part = |seconds: f64| seconds / count as f64;
        Spread {
            median: part(self.median),
            min: part(self.min),
            max: part(self.max),
            rounds: self.rounds,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A clock that `work` itself moves on.
    fn times(rounds: usize, takes: &[f64]) -> Spread {
        let time = Cell::new(0.);
        let now = || time.get();
        let mut ignore = |_: &str| ();
        let stopwatch = Stopwatch::new(rounds, &now, &mut ignore);
        let mut next = takes.iter();
        let work = async || {
            time.set(time.get() + next.next().expect("no more rounds than there are times"));
            Ok(())
        };
        let mut future = Box::pin(stopwatch.time(work));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(spread) => spread.unwrap(),
            std::task::Poll::Pending => panic!("nothing waits"),
        }
    }

    #[test]
    fn the_first_round_warms_up() {
        let spread = times(3, &[9., 3., 1., 2.]);
        assert_eq!((spread.median, spread.min, spread.max), (2., 1., 3.));
        assert_eq!(spread.rounds, 3);
    }

    #[test]
    fn what_takes_long_is_measured_less_often() {
        assert_eq!(times(5, &[100.]).rounds, 1);
        assert_eq!(times(5, &[15., 15., 15.]).rounds, 2);
    }
}
