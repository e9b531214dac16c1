//! DPC-KNN on one set of tokens, in plain loops: the executable specification.

use rayon::prelude::*;

/// Weight of the optional noise in a density.
const NOISE: f32 = 1e-6;

/// Groups the `n` rows of `x [n, channels]`: (centres, best score first; the cluster of each
/// token).
pub(super) fn dpc_knn(
    x: &[f32],
    channels: usize,
    clusters: usize,
    k: usize,
    noise: Option<&[f32]>,
) -> (Vec<u32>, Vec<u32>) {
    let n = x.len() / channels;
    assert!(
        (1..=n).contains(&clusters) && (1..=n).contains(&k),
        "{clusters} clusters, {k} neighbours of {n} tokens"
    );
    let distances = distances(x, channels);
    let row = |i: usize| &distances[i * n..(i + 1) * n];

    let mut nearest = vec![0.; n];
    let density: Vec<f32> = (0..n)
        .map(|i| {
            nearest.copy_from_slice(row(i));
            nearest.select_nth_unstable_by(k - 1, f32::total_cmp);
            // In rising order, so that the sum does not depend on how the selection works.
            nearest[..k].sort_unstable_by(f32::total_cmp);
            let mean = nearest[..k].iter().map(|d| d * d).sum::<f32>() / k as f32;
            (-mean).exp() + noise.map_or(0., |noise| noise[i] * NOISE)
        })
        .collect();

    let largest = distances.iter().copied().fold(0., f32::max);
    let denser =
        |j: usize, i: usize| density[j] > density[i] || (density[j] == density[i] && j < i);
    let score: Vec<f32> = (0..n)
        .map(|i| {
            let delta = (0..n)
                .filter(|&j| denser(j, i))
                .map(|j| row(i)[j])
                .reduce(f32::min);
            delta.unwrap_or(largest) * density[i]
        })
        .collect();

    let mut centres: Vec<usize> = (0..n).collect();
    // The sort is stable: equal scores stay in the order of their tokens.
    centres.sort_by(|&a, &b| score[b].total_cmp(&score[a]));
    centres.truncate(clusters);

    let mut groups: Vec<u32> = (0..n)
        .map(|i| {
            let nearer = |best: usize, rank: usize| {
                if row(i)[centres[rank]] < row(i)[centres[best]] {
                    rank
                } else {
                    best
                }
            };
            (1..clusters).fold(0, nearer) as u32
        })
        .collect();
    for (rank, &centre) in centres.iter().enumerate() {
        groups[centre] = rank as u32;
    }
    (
        centres.into_iter().map(|centre| centre as u32).collect(),
        groups,
    )
}

/// All pairs' `|x_i - x_j| / sqrt(channels)`.
fn distances(x: &[f32], channels: usize) -> Vec<f32> {
    let n = x.len() / channels;
    let scale = (channels as f32).sqrt();
    let mut distances = vec![0.; n * n];
    distances
        .par_chunks_exact_mut(n)
        .zip(x.par_chunks_exact(channels))
        .for_each(|(row, a)| {
            for (distance, b) in row.iter_mut().zip(x.chunks_exact(channels)) {
                *distance = squared_distance(a, b).sqrt() / scale;
            }
        });
    distances
}

/// Summed in lanes: quicker than one long sum, and closer to the exact one.
fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let square = |a: &f32, b: &f32| (a - b) * (a - b);
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.; LANES];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += square(a, b);
        }
    }
    sums.iter().sum::<f32>()
        + a_rest
            .iter()
            .zip(b_rest)
            .map(|(a, b)| square(a, b))
            .sum::<f32>()
}
