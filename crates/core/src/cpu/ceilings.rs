//! Work of one kind alone, for measuring how much of it the processor can do on all threads.

use std::hint::black_box;

use super::{Cpu, threads};
use crate::{
    Result,
    backend::Load,
    simd::{LANES, Simd, SimdWork, dispatch},
};

/// What is read and copied, in numbers: more than caches hold.
const NUMBERS: usize = 16 << 20;
/// What a thread takes at a time.
const PIECE: usize = 64 * 1024;
/// Chains of vectors that don't wait for each other.
const CHAINS: usize = 8;
/// Rounds that a thread takes at a time.
const ROUNDS: u64 = 16 * 1024;
/// Floating-point operations of [`ROUNDS`].
const PIECE_OPS: u64 = ROUNDS * (CHAINS * LANES * 2) as u64;

impl Cpu {
    /// See [`OpenDevice::exert`](crate::OpenDevice::exert).
    pub(crate) async fn exert(self, load: Load, amount: u64) -> Result<u64> {
        Ok(exert(load, amount))
    }
}

fn exert(load: Load, amount: u64) -> u64 {
    let bytes = 4 * NUMBERS as u64;
    match load {
        Load::Read => {
            let x = vec![1f32; NUMBERS];
            let passes = amount.div_ceil(bytes);
            for _ in 0..passes {
                threads::for_each(x.chunks(PIECE), |piece| {
                    black_box(dispatch(Sum(piece)));
                });
            }
            passes * bytes
        }
        Load::Copy => {
            let (x, mut y) = (vec![1f32; NUMBERS], vec![0f32; NUMBERS]);
            let passes = amount.div_ceil(2 * bytes);
            for _ in 0..passes {
                threads::for_each(x.chunks(PIECE).zip(y.chunks_mut(PIECE)), |(from, to)| {
                    to.copy_from_slice(from);
                });
                black_box(&mut y);
            }
            passes * 2 * bytes
        }
        Load::MultiplyAdd => {
            let pieces = amount.div_ceil(PIECE_OPS);
            threads::for_each(0..pieces, |i| {
                black_box(dispatch(MultiplyAdd(i as f32)));
            });
            pieces * PIECE_OPS
        }
    }
}

struct Sum<'a>(&'a [f32]);

impl SimdWork for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mut sums = [simd.splat(0.); CHAINS];
        let (pieces, _) = self.0.as_chunks::<{ CHAINS * LANES }>();
        for piece in pieces {
            let (vectors, _) = piece.as_chunks::<LANES>();
            for (sum, x) in sums.iter_mut().zip(vectors) {
                *sum = simd.add(*sum, simd.load(x));
            }
        }
        let mut sum = sums[0];
        for other in &sums[1..] {
            sum = simd.add(sum, *other);
        }
        simd.sum(sum)
    }
}

struct MultiplyAdd(f32);

impl SimdWork for MultiplyAdd {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let factor = simd.splat(black_box(0.999));
        let addend = simd.splat(black_box(0.001));
        let mut chains = [simd.splat(self.0); CHAINS];
        for _ in 0..ROUNDS {
            for chain in &mut chains {
                *chain = simd.mul_add(*chain, factor, addend);
            }
        }
        let mut sum = chains[0];
        for other in &chains[1..] {
            sum = simd.add(sum, *other);
        }
        simd.sum(sum)
    }
}
