//! What a comparison finds.

use univi::{Error, Result};

/// One comparison with the reference.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Case {
    /// What was compared, beginning with the kind of fixture: `preprocess/rgba crop`.
    pub name: String,
    /// The largest error found; 1 where something that must be equal is not.
    pub error: f64,
    /// The largest error allowed; 0 where values must be equal.
    pub tolerance: f64,
    /// Whether the error is within the tolerance.
    pub passed: bool,
    /// Where the error is, or why the comparison could not be made; empty where all is well.
    pub detail: String,
}

/// What a run of fixtures found.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Report {
    /// Every comparison made.
    pub cases: Vec<Case>,
    /// What could not be compared because a file that it needs is not there.
    pub missing: Vec<String>,
}

impl Report {
    /// Returns whether every comparison passed.
    pub fn passed(&self) -> bool {
        self.cases.iter().all(|case| case.passed)
    }

    /// Returns the comparisons that did not pass.
    pub fn failures(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(|case| !case.passed)
    }

    /// Adds all of another report.
    pub fn extend(&mut self, other: Report) {
        self.cases.extend(other.cases);
        self.missing.extend(other.missing);
    }

    /// Records an error that was measured elsewhere. NaN never passes.
    pub fn measured(
        &mut self,
        name: impl Into<String>,
        error: f64,
        tolerance: f64,
        detail: impl Into<String>,
    ) {
        self.cases.push(Case {
            name: name.into(),
            error,
            tolerance,
            passed: error <= tolerance,
            detail: detail.into(),
        });
    }

    /// Compares floats: the largest absolute difference must be at most `tolerance`.
    pub fn close(
        &mut self,
        name: impl Into<String>,
        found: &[f32],
        expected: &[f32],
        tolerance: f64,
    ) {
        if found.len() != expected.len() {
            let detail = format!("{} values, expected {}", found.len(), expected.len());
            return self.measured(name, f64::INFINITY, tolerance, detail);
        }
        let (mut worst, mut error) = (0, 0.0);
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let difference = f64::from(f - e).abs();
            // NaN is worse than anything, and must not be compared away.
            if difference > error || difference.is_nan() {
                (worst, error) = (i, difference);
                if error.is_nan() {
                    break;
                }
            }
        }
        let detail = match found.get(worst) {
            Some(f) if error > 0.0 || error.is_nan() => {
                format!("worst at {worst}: {f}, expected {}", expected[worst])
            }
            _ => String::new(),
        };
        self.measured(name, error, tolerance, detail);
    }

    /// Compares values that must be equal; of lists the first difference is told.
    pub fn equal<T: PartialEq + std::fmt::Debug>(
        &mut self,
        name: impl Into<String>,
        found: &[T],
        expected: &[T],
    ) {
        let differs = |i: &usize| found.get(*i) != expected.get(*i);
        let detail = match (0..found.len().max(expected.len())).find(differs) {
            None => String::new(),
            Some(i) => format!(
                "at {i} of {}: {:?}, expected {:?} of {}",
                found.len(),
                found.get(i),
                expected.get(i),
                expected.len()
            ),
        };
        let error = if detail.is_empty() { 0.0 } else { 1.0 };
        self.measured(name, error, 0.0, detail);
    }

    /// Compares texts, which must be equal.
    pub fn equal_text(&mut self, name: impl Into<String>, found: &str, expected: &str) {
        let detail = match found == expected {
            true => String::new(),
            false => format!("{found:?}, expected {expected:?}"),
        };
        let error = if detail.is_empty() { 0.0 } else { 1.0 };
        self.measured(name, error, 0.0, detail);
    }

    /// Records a check that could not be carried out.
    pub fn failed(&mut self, name: &str, error: &Error) {
        self.measured(name, f64::INFINITY, 0.0, error.to_string());
    }

    /// Runs `check`; an error that it returns is a failed case, not the end of the run.
    pub fn attempt(&mut self, name: &str, check: impl FnOnce(&mut Report) -> Result<()>) {
        if let Err(error) = check(self) {
            self.failed(name, &error);
        }
    }
}
