//! What the compilers of GPUs make of every shader, on a machine without those GPUs.
//!
//! Mesa's RADV compiles for any AMD GPU on "null hardware", and its ANV for any Intel GPU over a
//! stub of the kernel's interface. Both report registers, waves, widths and spills, which no
//! software adapter shows: a kernel that is quick on lavapipe may spill, or leave a laptop's GPU
//! mostly idle.
//!
//! - `budget`: what every kernel is held to, and what is let off, with its reason;
//! - `gpu`: the GPUs, and how their drivers are chosen;
//! - `driver`: a driver, called directly;
//! - `loop_body`: instructions of the innermost work, counted in a disassembly;
//! - `statistics`: what a compiler reports, for all drivers alike.

mod budget;
mod driver;
mod gpu;
mod loop_body;
mod statistics;

pub use self::{
    budget::{Fault, exceptions, faults},
    driver::compile_all,
    gpu::{GPUS, Gpu, Unavailable, Vendor},
    statistics::Statistics,
};
