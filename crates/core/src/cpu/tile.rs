//! The inner loop of products of matrices.

use std::array::from_ref;

use crate::simd::{LANES, Simd};

/// Adds the products of `R` rows `x [depth]` with sixteen columns, `w [depth, 16]`, to `sums`. The
/// sums stay in registers, so that a number that is loaded is used several times.
#[allow(clippy::needless_range_loop)] // Adaptors of iterators might be called.
#[inline(always)]
pub(super) fn tile<S: Simd, const R: usize>(
    simd: S,
    x: [&[f32]; R],
    w: &[[f32; LANES]],
    sums: &mut [S::F32s; R],
) {
    let (steps, rest) = w.as_chunks::<STEP>();
    let x_steps = x.map(|x| &x.as_chunks::<STEP>().0[..steps.len()]);
    for (i, w) in steps.iter().enumerate() {
        let mut x = [&[0.; STEP]; R];
        for row in 0..R {
            x[row] = &x_steps[row][i];
        }
        add_products(simd, x, w, sums);
    }
    for (i, w) in rest.iter().enumerate() {
        let i = steps.len() * STEP + i;
        add_products(simd, x.map(|x| from_ref(&x[i])), from_ref(w), sums);
    }
}

/// Depth within which no bound is checked.
const STEP: usize = 8;

/// [`tile`] of a depth that the compiler knows.
#[allow(clippy::needless_range_loop)] // Adaptors of iterators might be called.
#[inline(always)]
fn add_products<S: Simd, const R: usize, const DEPTH: usize>(
    simd: S,
    x: [&[f32; DEPTH]; R],
    w: &[[f32; LANES]; DEPTH],
    sums: &mut [S::F32s; R],
) {
    for i in 0..DEPTH {
        let w = simd.load(&w[i]);
        for row in 0..R {
            sums[row] = simd.mul_add(simd.splat(x[row][i]), w, sums[row]);
        }
    }
}

/// Work whose tiles have as many rows as the processor's registers allow.
pub(super) trait TileWork {
    /// Works with tiles of `R` rows. It has to inline all that it calls.
    fn run<S: Simd, const R: usize>(self, simd: S);
}

/// Does `work` in tiles of [`Simd::TILE_ROWS`].
#[inline(always)]
pub(super) fn in_tiles<S: Simd>(simd: S, work: impl TileWork) {
    match S::TILE_ROWS {
        2 => work.run::<S, 2>(simd),
        4 => work.run::<S, 4>(simd),
        6 => work.run::<S, 6>(simd),
        rows => {
            assert_eq!(rows, MOST_TILE_ROWS);
            work.run::<S, MOST_TILE_ROWS>(simd);
        }
    }
}

/// Most rows of a tile.
pub(super) const MOST_TILE_ROWS: usize = 8;

/// Divides `rows` rows into tiles of `R`: the first row of each, and how many of its rows the
/// tile before has already. The last tile overlaps, so that none has fewer rows.
#[inline(always)]
pub(super) fn tiles<const R: usize>(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    assert!(rows >= R, "{rows} rows in tiles of {R}");
    (0..rows).step_by(R).map(move |start| {
        let first = start.min(rows - R);
        (first, start - first)
    })
}
