//! Loops in lanes, which the compiler turns into the widest vectors that the processor has.

/// Floats that a loop adds up side by side.
pub(super) const LANES: usize = 16;

/// Runs `work` compiled for the processor that is there.
pub(super) fn dispatch<T>(work: impl FnOnce() -> T) -> T {
    pulp::Arch::new().dispatch(work)
}

/// `e^x`, to a relative error of 2e-7 where the result is a normal number: `2^n` times a
/// polynomial.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87., 88.);
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.) - 12_582_912.; // Rounds: 1.5 * 2^23.
    // ln 2 in two parts, so that what is taken away is exact.
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = p * r + c;
    }
    let p = p * r * r + r + 1.;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1. / (1. + exp(-x))
}

/// The sum of `f(i)`, in lanes.
#[inline(always)]
pub(super) fn sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(i + lane);
        }
        i += LANES;
    }
    let mut rest = 0.;
    while i < n {
        rest += f(i);
        i += 1;
    }
    lanes.iter().sum::<f32>() + rest
}
