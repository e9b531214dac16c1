//! Work of one kind alone, for measuring how much of it a device can do.

use crate::{
    backend::Load,
    gpu::{
        device::Gpu,
        kernel::{Kernel, params, work},
        tensor::Tensor,
    },
};

use super::copy;

pub(super) const READ: Kernel =
    Kernel::new::<ReadParams>("ceiling_read", include_str!("ceiling_read.wgsl"), 1, 1);
pub(super) const MULTIPLY: Kernel = Kernel::new::<MultiplyParams>(
    "ceiling_multiply",
    include_str!("ceiling_multiply.wgsl"),
    0,
    1,
);

/// Workgroups of 256 threads: more than any device runs at once.
const GROUPS: usize = 1024;
const THREADS: usize = 256 * GROUPS;
/// What is read and copied: more than caches hold.
const BUFFER_BYTES: u64 = 128 << 20;
/// Floating-point operations of a thread in a round of `ceiling_multiply`.
const ROUND_OPS: u64 = 8 * 4 * 2;

params! {
    struct ReadParams {
        vectors: u32,
        threads: u32,
    }
}

params! {
    struct MultiplyParams {
        rounds: u32,
        factor: f32,
        addend: f32,
    }
}

/// Records about `amount` of `load` -> how much it is.
pub fn exert(gpu: &Gpu, load: Load, amount: u64) -> u64 {
    let bytes = BUFFER_BYTES.min(gpu.0.memory.max_bytes());
    let buffer = || gpu.alloc((bytes / 16) as usize, 4);
    match load {
        Load::Read => {
            let (x, y) = (buffer(), gpu.alloc(THREADS, 4));
            let passes = amount.div_ceil(bytes);
            (0..passes).for_each(|_| read(gpu, &x, &y));
            passes * bytes
        }
        Load::Copy => {
            let (x, y) = (buffer(), buffer());
            let passes = amount.div_ceil(2 * bytes);
            (0..passes).for_each(|_| copy(gpu, &x, 0, x.len(), y.binding(), 0));
            passes * 2 * bytes
        }
        Load::MultiplyAdd => multiply(gpu, amount),
    }
}

fn read(gpu: &Gpu, x: &Tensor, y: &Tensor) {
    let params = ReadParams {
        vectors: x.rows as u32,
        threads: THREADS as u32,
    };
    let groups = [GROUPS as u32, 1, 1];
    gpu.run(
        READ,
        &[x.binding(), y.binding()],
        &params,
        groups,
        work(&[x.len()]),
    );
}

fn multiply(gpu: &Gpu, ops: u64) -> u64 {
    let y = gpu.alloc(THREADS, 4);
    let round = ROUND_OPS * THREADS as u64;
    // No dispatch may keep a device for longer than any other does.
    let most = (gpu.max_work() / round).max(1);
    let all = ops.div_ceil(round);
    let mut left = all;
    while left > 0 {
        let rounds = left.min(most);
        let params = MultiplyParams {
            rounds: rounds as u32,
            factor: 0.999,
            addend: 0.001,
        };
        let groups = [GROUPS as u32, 1, 1];
        gpu.run(MULTIPLY, &[y.binding()], &params, groups, rounds * round);
        left -= rounds;
    }
    all * round
}
