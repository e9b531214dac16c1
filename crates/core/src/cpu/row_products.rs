//! Products of a few rows of activations with weights as they are stored: numbers are dequantized
//! a piece at a time, into memory that never leaves the first-level cache, and multiplied there.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::gguf::{BlockWork, GgmlType};

/// Most rows of activations: from here on a general product of dequantized weights is as fast.
pub(super) const MOST_ROWS: usize = 8;

/// Numbers that are dequantized at a time: whole blocks of every type.
const PIECE: usize = 256;

/// Numbers that a thread takes at a time: some ten microseconds of work.
const TASK_NUMBERS: usize = 64 * 1024;

/// Vectors that are added up side by side, so that no addition waits for the one before.
const SUMS: usize = 4;

/// Multiplies `x [t, cols]`, of at most [`MOST_ROWS`] rows, with every row of `weights`, of which
/// each takes `row_bytes`: `[rows, t]`.
pub(super) fn row_products(
    ty: GgmlType,
    weights: &[u8],
    row_bytes: usize,
    x: &[f32],
    cols: usize,
) -> Vec<f32> {
    let t = x.len() / cols;
    assert!((1..=MOST_ROWS).contains(&t), "{t} rows");
    let mut out = vec![0.; weights.len() / row_bytes * t];
    let rows = (TASK_NUMBERS / cols).max(1);
    out.par_chunks_mut(rows * t)
        .zip(weights.par_chunks(rows * row_bytes))
        .for_each(|(out, weights)| {
            ty.with_blocks(Task {
                weights,
                row_bytes,
                piece_bytes: PIECE / ty.block_len() * ty.block_bytes(),
                x,
                cols,
                out,
            });
        });
    out
}

/// The products with some of the rows.
struct Task<'a> {
    weights: &'a [u8],
    row_bytes: usize,
    piece_bytes: usize,
    x: &'a [f32],
    cols: usize,
    out: &'a mut [f32],
}

impl BlockWork for Task<'_> {
    type Output = ();

    fn run(self, dequantize: impl Fn(&[u8], &mut [f32]) + Copy) {
        pulp::Arch::new().dispatch(Vectorized {
            task: self,
            dequantize,
        });
    }
}

/// A task in the instructions of the processor that is there.
struct Vectorized<'a, D> {
    task: Task<'a>,
    dequantize: D,
}

impl<D: Fn(&[u8], &mut [f32]) + Copy> WithSimd for Vectorized<'_, D> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task {
            weights,
            row_bytes,
            piece_bytes,
            x,
            cols,
            out,
        } = self.task;
        let t = x.len() / cols;
        let mut numbers = [0.; PIECE];
        let none = ([simd.splat_f32s(0.); SUMS], 0.);
        let mut sums = [none; MOST_ROWS];
        let sums = &mut sums[..t]; // What is not used is neither cleared nor copied.
        for (row, out) in weights.chunks_exact(row_bytes).zip(out.chunks_exact_mut(t)) {
            sums.fill(none);
            for (piece, start) in row.chunks(piece_bytes).zip((0..cols).step_by(PIECE)) {
                let numbers = &mut numbers[..PIECE.min(cols - start)];
                (self.dequantize)(piece, numbers);
                for (x, (sums, rest)) in x.chunks_exact(cols).zip(&mut *sums) {
                    *rest += add_products(simd, numbers, &x[start..start + numbers.len()], sums);
                }
            }
            for (out, ([a, b, c, d], rest)) in out.iter_mut().zip(&*sums) {
                let sum = simd.add_f32s(simd.add_f32s(*a, *b), simd.add_f32s(*c, *d));
                *out = simd.reduce_sum_f32s(sum) + rest;
            }
        }
    }
}

/// Adds `a * b` to `sums`; what is no whole vector is returned.
#[inline(always)]
fn add_products<S: Simd>(simd: S, a: &[f32], b: &[f32], sums: &mut [S::f32s; SUMS]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let ((a_fours, a_ones), (b_fours, b_ones)) = (a.as_chunks::<SUMS>(), b.as_chunks::<SUMS>());
    for (a, b) in a_fours.iter().zip(b_fours) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = simd.mul_add_e_f32s(*a, *b, *sum);
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_ones).zip(b_ones) {
        *sum = simd.mul_add_e_f32s(*a, *b, *sum);
    }
    a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::{MOST_ROWS, row_products};
    use crate::gguf::GgmlType;

    /// Bytes without any pattern, in which scales are small and finite.
    fn stored(ty: GgmlType, numbers: usize) -> Vec<u8> {
        let mut bytes = vec![0; ty.row_bytes(numbers).unwrap()];
        ChaCha8Rng::seed_from_u64(3).fill_bytes(&mut bytes);
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            let scales: &[usize] = match ty {
                GgmlType::F32 => {
                    block[3] = block[3] & 0x80 | 0x3c;
                    continue;
                }
                GgmlType::F16 | GgmlType::BF16 => {
                    block[1] = block[1] & 0x80 | 0x3c;
                    continue;
                }
                GgmlType::Q2K => &[80, 82],
                GgmlType::Q3K => &[108],
                GgmlType::Q6K => &[208],
                GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4K | GgmlType::Q5K => &[0, 2],
                _ => &[0],
            };
            for &at in scales {
                block[at + 1] = block[at + 1] & 0x80 | 0x20;
            }
        }
        bytes
    }

    #[test]
    fn as_of_dequantized_rows() {
        for ty in GgmlType::ALL {
            // More than a task, whole pieces and a part of one, and rows that fill no vector.
            let widths: &[usize] = match ty.block_len() {
                1 => &[1, 7, 255, 600],
                32 => &[32, 256, 608],
                _ => &[256, 768],
            };
            for &cols in widths {
                let rows = 200_000 / cols.max(100) + 3;
                let weights = stored(ty, rows * cols);
                let mut numbers = vec![0.; rows * cols];
                ty.dequantize(&weights, &mut numbers);
                for t in [1, 3, MOST_ROWS] {
                    let mut rng = ChaCha8Rng::seed_from_u64(5);
                    let x: Vec<f32> = (0..t * cols).map(|_| rng.random_range(-1.0..1.0)).collect();
                    let found = row_products(ty, &weights, weights.len() / rows, &x, cols);
                    assert_eq!(found.len(), rows * t);
                    for (i, found) in found.iter().enumerate() {
                        let row = &numbers[i / t * cols..][..cols];
                        let products = row
                            .iter()
                            .zip(&x[i % t * cols..])
                            .map(|(w, x)| f64::from(*w) * f64::from(*x));
                        let (sum, size) =
                            products.fold((0., 0.), |(sum, size), p| (sum + p, size + p.abs()));
                        let error = (f64::from(*found) - sum).abs();
                        assert!(
                            error <= 1e-6 * size,
                            "{ty}, {rows} x {cols}, {t}: {found} at {i}, expected {sum}"
                        );
                    }
                }
            }
        }
    }
}
