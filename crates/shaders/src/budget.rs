//! What every shader is held to, and what is let off, with its reason.

use std::fmt;

use crate::{
    Statistics,
    gpu::{Gpu, Vendor},
};

/// The fewest threads that may run as one on Intel: at 8, half of the machine idles.
const LEAST_SIMD: f64 = 16.0;
/// The fewest waves of a SIMD, of 32, that hide memory's latency on RDNA.
const LEAST_WAVES: f64 = 8.0;
/// The kernels that have to hide it: those that read much for what they compute.
const WAVES_OF: [&str; 2] = ["matmul/", "attention"];
/// The GPU whose instructions are counted.
const COUNTED_ON: &str = "navi31";
/// Arithmetic instructions that a weight may take in a product with one row, of the loop alone.
const INSTRUCTIONS: [(&str, f64); 5] = [
    ("matvec/q4_0", 3.0),
    ("matvec/q4_k", 3.5),
    ("matvec/q6_k", 4.0),
    ("matvec/q8_0", 2.5),
    ("matvec/f16", 2.0),
];
/// Weights that a thread of such a product multiplies in one pass of its loop.
const WEIGHTS_OF_A_PASS: f64 = 128.0;

/// What can't be met.
struct Exception {
    /// The beginning of the kernels' names.
    kernels: &'static str,
    gpu: &'static str,
    measure: Measure,
    /// What is allowed instead.
    allowed: f64,
    reason: &'static str,
}

const MISALIGNED: &str = "blocks of 18, 34 or 210 bytes lie across words";
const SIX_BITS: &str = "scales of 6 bits are put together for every 32 weights";
const ODD_COLUMNS: &str = "a row of an odd number of halves may begin in the middle of a word";
const HOISTED: &str = "all reads of a pass are moved before their use";

const EXCEPTIONS: &[Exception] = &[
    Exception {
        kernels: "matvec/q4_0",
        gpu: "navi31",
        measure: Measure::InstructionsPerWeight,
        allowed: 3.6,
        reason: MISALIGNED,
    },
    Exception {
        kernels: "matvec/q4_k",
        gpu: "navi31",
        measure: Measure::InstructionsPerWeight,
        allowed: 3.8,
        reason: SIX_BITS,
    },
    Exception {
        kernels: "matvec/q6_k",
        gpu: "navi31",
        measure: Measure::InstructionsPerWeight,
        allowed: 6.6,
        reason: MISALIGNED,
    },
    Exception {
        kernels: "matvec/q8_0",
        gpu: "navi31",
        measure: Measure::InstructionsPerWeight,
        allowed: 4.2,
        reason: MISALIGNED,
    },
    Exception {
        kernels: "matvec/f16",
        gpu: "navi31",
        measure: Measure::InstructionsPerWeight,
        allowed: 3.3,
        reason: ODD_COLUMNS,
    },
    Exception {
        kernels: "matvec",
        gpu: "tgl",
        measure: Measure::Simd,
        allowed: 8.0,
        reason: HOISTED,
    },
    Exception {
        kernels: "attention/",
        gpu: "tgl",
        measure: Measure::Simd,
        allowed: 8.0,
        reason: HOISTED,
    },
    Exception {
        kernels: "matvec",
        gpu: "dg2",
        measure: Measure::Simd,
        allowed: 8.0,
        reason: HOISTED,
    },
    Exception {
        kernels: "attention/",
        gpu: "dg2",
        measure: Measure::Simd,
        allowed: 8.0,
        reason: HOISTED,
    },
];

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Spills,
    Simd,
    Waves,
    InstructionsPerWeight,
}

impl Measure {
    /// Whether more of it is better.
    fn more_is_better(self) -> bool {
        matches!(self, Measure::Simd | Measure::Waves)
    }

    fn holds(self, found: f64, limit: f64) -> bool {
        if self.more_is_better() {
            found >= limit
        } else {
            found <= limit
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Measure::Spills => "spills",
            Measure::Simd => "threads that run as one",
            Measure::Waves => "waves of a SIMD",
            Measure::InstructionsPerWeight => "instructions a weight",
        })
    }
}

/// What a shader is not that it should be; or what is let off and need not be.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns what exceeds its budget on `gpu`, and the exceptions of it that nothing needs any more:
/// whoever makes a kernel better takes them away.
pub fn faults(gpu: Gpu, statistics: &[Statistics]) -> Vec<Fault> {
    check(gpu, statistics, EXCEPTIONS)
}

/// Returns what is let off on `gpu`: kernels, what, how far, and why.
pub fn exceptions(gpu: Gpu) -> Vec<String> {
    let of_gpu = EXCEPTIONS
        .iter()
        .filter(|exception| exception.gpu == gpu.name);
    of_gpu
        .map(|exception| {
            format!(
                "{}: {} {} allowed: {}",
                exception.kernels, exception.allowed, exception.measure, exception.reason
            )
        })
        .collect()
}

fn check(gpu: Gpu, statistics: &[Statistics], exceptions: &[Exception]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut needed = vec![false; exceptions.len()];
    for shader in statistics {
        for (measure, found, limit) in measured(gpu, shader) {
            if measure.holds(found, limit) {
                continue;
            }
            let exception = exceptions.iter().position(|exception| {
                exception.gpu == gpu.name
                    && exception.measure == measure
                    && shader.kernel.starts_with(exception.kernels)
            });
            let allowed = exception.map_or(limit, |i| exceptions[i].allowed);
            if let Some(i) = exception {
                needed[i] = true;
            }
            if !measure.holds(found, allowed) {
                faults.push(Fault(format!(
                    "{} on {}: {found:.1} {measure}, allowed are {allowed}",
                    shader.kernel, gpu.name
                )));
            }
        }
    }
    for (exception, needed) in exceptions.iter().zip(needed) {
        if exception.gpu == gpu.name && !needed {
            faults.push(Fault(format!(
                "{} on {}: the exception for {} ({}) is not needed any more",
                exception.kernels, gpu.name, exception.measure, exception.reason
            )));
        }
    }
    faults
}

/// What counts of a shader on `gpu`: the measure, what was found, and the limit.
fn measured(gpu: Gpu, shader: &Statistics) -> Vec<(Measure, f64, f64)> {
    let mut measured = vec![(Measure::Spills, shader.spills as f64, 0.0)];
    if let (Vendor::Intel, Some(simd)) = (gpu.vendor, shader.simd) {
        measured.push((Measure::Simd, simd as f64, LEAST_SIMD));
    }
    if gpu.name != COUNTED_ON {
        return measured;
    }
    if let Some(waves) = shader.waves
        && WAVES_OF.iter().any(|name| shader.kernel.starts_with(name))
    {
        measured.push((Measure::Waves, waves as f64, LEAST_WAVES));
    }
    let limit = INSTRUCTIONS.iter().find(|(name, _)| *name == shader.kernel);
    if let Some((_, limit)) = limit {
        // What can't be counted is too much.
        let valu = shader.loop_valu.map_or(f64::INFINITY, |valu| valu as f64);
        let each = valu / WEIGHTS_OF_A_PASS;
        measured.push((Measure::InstructionsPerWeight, each, *limit));
    }
    measured
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GPUS;

    fn shader(kernel: &str) -> Statistics {
        Statistics {
            kernel: kernel.into(),
            simd: Some(16),
            waves: Some(8),
            loop_valu: Some(256),
            ..Statistics::default()
        }
    }

    fn let_off(gpu: Gpu, measure: Measure, allowed: f64) -> Exception {
        Exception {
            kernels: "matmul/",
            gpu: gpu.name,
            measure,
            allowed,
            reason: "a test",
        }
    }

    #[test]
    fn what_is_within_its_budget_has_no_fault() {
        for gpu in GPUS {
            for kernel in ["matvec/f16", "matmul/f16", "add"] {
                assert_eq!(check(gpu, &[shader(kernel)], &[]), []);
            }
        }
    }

    #[test]
    fn what_exceeds_its_budget_is_named() {
        let [navi31, renoir, tgl, _] = GPUS;
        let faults = |gpu, shader| -> usize { check(gpu, &[shader], &[]).len() };
        let spilling = Statistics {
            spills: 1,
            ..shader("add")
        };
        assert_eq!(faults(renoir, spilling), 1);
        let narrow = Statistics {
            simd: Some(8),
            ..shader("add")
        };
        assert_eq!(faults(tgl, narrow), 1);
        let few_waves = Statistics {
            waves: Some(7),
            ..shader("matmul/f32")
        };
        assert_eq!(faults(navi31, few_waves), 1);
        let long = Statistics {
            loop_valu: Some(513),
            ..shader("matvec/f16")
        };
        assert_eq!(faults(navi31, long), 1);
    }

    #[test]
    fn an_exception_lets_off_what_it_says_and_no_more() {
        let tgl = GPUS[2];
        let spilling = |spills| Statistics {
            spills,
            ..shader("matmul/f32")
        };
        let exceptions = [let_off(tgl, Measure::Spills, 3.0)];
        assert_eq!(check(tgl, &[spilling(3)], &exceptions), []);
        assert_eq!(check(tgl, &[spilling(4)], &exceptions).len(), 1);
        assert_eq!(
            check(tgl, &[spilling(0)], &exceptions).len(),
            1,
            "nothing needs it"
        );
        assert_eq!(
            check(GPUS[3], &[spilling(3)], &exceptions).len(),
            1,
            "it is another GPU's"
        );
    }
}
