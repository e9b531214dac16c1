//! Products of a few rows of activations with weights as they are stored: numbers are dequantized
//! in registers, and multiplied there.

use std::borrow::Cow;

use super::threads::for_each;
use crate::{
    gguf::{BlockWork, Blocks, GgmlType, row_sixteens},
    simd::{LANES, Simd},
};

/// Most rows of activations: from here on products of dequantized panels are as fast.
pub(super) const MOST_ROWS: usize = 8;

/// Numbers that a thread takes at a time: some ten microseconds of work.
const TASK_NUMBERS: usize = 64 * 1024;

/// Multiplies `x [t, cols]`, of at most [`MOST_ROWS`] rows, with every row of `weights`, of which
/// each takes `row_bytes`: `[t, rows]`.
pub(super) fn row_products(
    ty: GgmlType,
    weights: &[u8],
    row_bytes: usize,
    x: &[f32],
    cols: usize,
) -> Vec<f32> {
    let t = x.len() / cols;
    assert!((1..=MOST_ROWS).contains(&t), "{t} rows");
    let (x, cols) = whole_vectors(x, cols);
    let rows = weights.len() / row_bytes;
    let mut products = vec![0.; rows * t];
    let task_rows = (TASK_NUMBERS / cols).max(1);
    let tasks = products
        .chunks_mut(task_rows * t)
        .zip(weights.chunks(task_rows * row_bytes));
    for_each(tasks, |(out, weights)| {
        ty.with_blocks(Task {
            weights,
            row_bytes,
            x: &x,
            cols,
            out,
        });
    });
    if t == 1 {
        return products;
    }
    let by_row = |i: usize| products[i..].iter().step_by(t).copied();
    (0..t).flat_map(by_row).collect()
}

/// Rows of whole vectors: zeros where there is no number, and nothing comes of what lies there.
pub(super) fn whole_vectors(x: &[f32], cols: usize) -> (Cow<'_, [f32]>, usize) {
    let width = cols.next_multiple_of(LANES);
    if width == cols {
        return (Cow::Borrowed(x), cols);
    }
    let mut wide = vec![0.; x.len() / cols * width];
    for (wide, x) in wide.chunks_exact_mut(width).zip(x.chunks_exact(cols)) {
        wide[..cols].copy_from_slice(x);
    }
    (Cow::Owned(wide), width)
}

/// The products with some of the rows.
struct Task<'a> {
    weights: &'a [u8],
    row_bytes: usize,
    x: &'a [f32],
    cols: usize,
    out: &'a mut [f32],
}

impl BlockWork for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<B: Blocks, S: Simd>(self, simd: S) {
        let t = self.x.len() / self.cols;
        for (row, out) in self
            .weights
            .chunks_exact(self.row_bytes)
            .zip(self.out.chunks_exact_mut(t))
        {
            let mut rest = self.x;
            let mut out = out.iter_mut();
            // A number that is dequantized is multiplied with up to four rows.
            while let Some(xs) = take_rows::<4>(&mut rest, self.cols) {
                products::<B, S, 4, 1>(simd, row, xs, &mut out);
            }
            if let Some(xs) = take_rows::<2>(&mut rest, self.cols) {
                products::<B, S, 2, 1>(simd, row, xs, &mut out);
            }
            if let Some(xs) = take_rows::<1>(&mut rest, self.cols) {
                products::<B, S, 1, 2>(simd, row, xs, &mut out);
            }
        }
    }
}

/// The first `T` rows, if there are so many.
#[inline(always)]
fn take_rows<'a, const T: usize>(x: &mut &'a [f32], cols: usize) -> Option<[&'a [f32]; T]> {
    let (rows, rest) = x.split_at_checked(T * cols)?;
    *x = rest;
    Some(std::array::from_fn(|i| &rows[i * cols..(i + 1) * cols]))
}

/// Multiplies a row of weights with `T` rows of activations, in `SUMS` sums of each, so that no
/// addition waits for the one before.
#[allow(clippy::needless_range_loop)] // Adaptors of iterators might be called.
#[inline(always)]
fn products<'a, B: Blocks, S: Simd, const T: usize, const SUMS: usize>(
    simd: S,
    row: &[u8],
    x: [&[f32]; T],
    out: &mut impl Iterator<Item = &'a mut f32>,
) {
    let mut sums = [[simd.splat(0.); SUMS]; T];
    let x = x.map(|x| x.as_chunks::<LANES>().0);
    row_sixteens::<B, S>(
        simd,
        row,
        #[inline(always)]
        |i, w| {
            for row in 0..T {
                let sum = &mut sums[row][i % SUMS];
                *sum = simd.mul_add(w, simd.load(&x[row][i]), *sum);
            }
        },
    );
    for (sums, out) in sums.into_iter().zip(out) {
        let sum = sums.into_iter().reduce(|a, b| simd.add(a, b));
        *out = simd.sum(sum.expect("at least one"));
    }
}
