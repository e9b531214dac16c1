//! What a compiler reports of a shader.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is known of one shader on one GPU.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// The kernel, and what it works on: `matvec/q4_0`.
    pub kernel: String,
    /// Registers of a thread: VGPRs on AMD, live ones on Intel.
    pub registers: u64,
    /// AMD: the waves of a SIMD that fit at once.
    pub waves: Option<u64>,
    /// Intel: how many threads run as one.
    pub simd: Option<u64>,
    /// Registers that went to memory and back.
    pub spills: u64,
    /// All instructions.
    pub instructions: u64,
    /// AMD: arithmetic instructions.
    pub valu: Option<u64>,
    /// AMD: those of them that the largest loop has, where no other loop is within it.
    pub loop_valu: Option<u64>,
    /// Intel: messages to memory and to workgroup memory.
    pub sends: Option<u64>,
    /// The compiler's own estimate: cycles on Intel, inverse throughput on AMD. For comparing
    /// variants of one kernel, since loops count as if they ran a fixed number of times.
    pub cycles: u64,
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:24}", self.kernel)?;
        if let Some(waves) = self.waves {
            write!(f, " waves {waves:2}")?;
        }
        if let Some(simd) = self.simd {
            write!(f, " simd {simd:2}")?;
        }
        write!(
            f,
            "  registers {:3}  spills {:3}  instructions {:5}",
            self.registers, self.spills, self.instructions
        )?;
        if let Some(valu) = self.valu {
            write!(f, "  valu {valu:5}")?;
        }
        if let Some(loop_valu) = self.loop_valu {
            write!(f, " (loop {loop_valu:5})")?;
        }
        if let Some(sends) = self.sends {
            write!(f, "  sends {sends:4}")?;
        }
        write!(f, "  cycles {:7}", self.cycles)
    }
}
