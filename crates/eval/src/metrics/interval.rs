//! How certain a figure is.

use serde::{Deserialize, Serialize};

/// The standard normal distribution has 95 % within so many deviations.
const Z: f64 = 1.959_963_984_540_054;

/// Samples that are drawn again; enough for two digits.
const RESAMPLES: usize = 1000;

/// Where a figure lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// From here.
    pub low: f64,
    /// To here.
    pub high: f64,
}

impl Interval {
    /// Returns Wilson's interval of a share; `None` of nothing.
    pub fn wilson(count: usize, of: usize) -> Option<Interval> {
        if of == 0 {
            return None;
        }
        let n = of as f64;
        let share = count as f64 / n;
        let centre = share + Z * Z / (2. * n);
        let half = Z * (share * (1. - share) / n + Z * Z / (4. * n * n)).sqrt();
        let scale = 1. + Z * Z / n;
        Some(Interval {
            low: ((centre - half) / scale).max(0.),
            high: ((centre + half) / scale).min(1.),
        })
    }

    /// Returns the bootstrap's interval of a mean; `None` of nothing. The same values give the same
    /// interval.
    pub fn of_mean(values: &[f64]) -> Option<Interval> {
        Interval::bootstrap(values.len(), |drawn| {
            let sum: f64 = drawn.iter().map(|&i| values[i]).sum();
            Some(sum / drawn.len() as f64)
        })
    }

    /// Returns the percentile bootstrap's interval of a statistic of `n` answers, given the indices
    /// of those that were drawn.
    pub fn bootstrap(n: usize, statistic: impl Fn(&[usize]) -> Option<f64>) -> Option<Interval> {
        if n == 0 {
            return None;
        }
        let mut state = 0u64;
        let mut drawn = vec![0; n];
        let mut values: Vec<f64> = Vec::with_capacity(RESAMPLES);
        for _ in 0..RESAMPLES {
            for index in &mut drawn {
                // The top of the product is an index, nearly as often as any other.
                *index = ((u128::from(split_mix(&mut state)) * n as u128) >> 64) as usize;
            }
            values.extend(statistic(&drawn));
        }
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get((share * values.len() as f64) as usize).copied();
        Some(Interval {
            low: at(0.025)?,
            high: at(0.975)?,
        })
    }
}

/// SplitMix64, the generator that others are seeded with.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
