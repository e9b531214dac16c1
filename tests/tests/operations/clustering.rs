//! Clustering and merging.

use univi::backend::Backend;

use crate::{Random, assert_close, read, read_ids};

/// The rules of `Backend::dpc_knn`, word by word, over exact distances.
fn clusters(
    x: &[f32],
    c: usize,
    clusters: usize,
    k: usize,
    noise: Option<&[f32]>,
) -> (Vec<u32>, Vec<u32>) {
    let n = x.len() / c;
    let row = |i: usize| &x[i * c..(i + 1) * c];
    let d: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let squares = |j| {
                row(i)
                    .iter()
                    .zip(row(j))
                    .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                    .sum::<f64>()
            };
            (0..n).map(|j| (squares(j) / c as f64).sqrt()).collect()
        })
        .collect();
    let density: Vec<f64> = (0..n)
        .map(|i| {
            let mut near = d[i].clone();
            near.sort_by(f64::total_cmp);
            let mean = near[..k].iter().map(|d| d * d).sum::<f64>() / k as f64;
            (-mean).exp() + noise.map_or(0.0, |noise| 1e-6 * f64::from(noise[i]))
        })
        .collect();
    let farthest = d.iter().flatten().copied().fold(0.0, f64::max);
    let score: Vec<f64> = (0..n)
        .map(|i| {
            let denser =
                (0..n).filter(|&j| density[j] > density[i] || (density[j] == density[i] && j < i));
            density[i]
                * denser
                    .map(|j| d[i][j])
                    .min_by(f64::total_cmp)
                    .unwrap_or(farthest)
        })
        .collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| score[j].total_cmp(&score[i])); // Stable: lower index first.
    order.truncate(clusters);
    let groups = (0..n)
        .map(|i| {
            let own = order.iter().position(|&centre| centre == i);
            let nearest =
                || (0..clusters).min_by(|&a, &b| d[i][order[a]].total_cmp(&d[i][order[b]]));
            own.or_else(nearest).expect("a cluster") as u32
        })
        .collect();
    (order.iter().map(|&i| i as u32).collect(), groups)
}

pub fn check_dpc_knn<B: Backend>(
    b: &B,
    random: &mut Random,
    x: &[f32],
    shape: (usize, usize, usize),
    count: usize,
    k: usize,
) {
    let (batch, n, c) = shape;
    let noise: Vec<f32> = random
        .values(batch * n)
        .iter()
        .map(|x| (x + 1.0) * 500.0)
        .collect();
    for noise in [None, Some(noise)] {
        let recorded = noise.as_ref().map(|noise| b.tensor(noise, n));
        let got = b.dpc_knn(&b.tensor(x, c), batch, count, k, recorded.as_ref());
        let (centres, groups) = (read_ids(b, &got.centres), read_ids(b, &got.groups));
        assert_eq!((centres.len(), groups.len()), (batch * count, batch * n));
        for set in 0..batch {
            let noise = noise.as_ref().map(|noise| &noise[set * n..(set + 1) * n]);
            let want = clusters(&x[set * n * c..(set + 1) * n * c], c, count, k, noise);
            assert_eq!(
                centres[set * count..(set + 1) * count],
                want.0,
                "centres of {shape:?}, {count}, k {k}"
            );
            assert_eq!(
                groups[set * n..(set + 1) * n],
                want.1,
                "groups of {shape:?}, {count}, k {k}"
            );
        }
    }
}

pub fn check_clustering<B: Backend>(b: &B) {
    let random = &mut Random(10);
    // Distances of small whole numbers are exact in f32, so that ties are the same ties everywhere.
    let shapes = [
        (1, 1, 1, 1, 1),
        (1, 2, 3, 1, 2),
        (2, 17, 5, 4, 3),
        (3, 64, 8, 16, 3),
        (1, 81, 64, 32, 5),
        (1, 300, 33, 64, 5),
        (2, 12, 4, 12, 1),
    ];
    for (batch, n, c, count, k) in shapes {
        let x = random.values(batch * n * c);
        check_dpc_knn(b, random, &x, (batch, n, c), count, k);
    }
    // All tokens are alike: the first ones are the centres.
    let got = b.dpc_knn(&b.tensor(&[0.5; 40], 4), 1, 3, 2, None);
    assert_eq!(read_ids(b, &got.centres), [0, 1, 2]);
    assert_eq!(read_ids(b, &got.groups), [0, 1, 2, 0, 0, 0, 0, 0, 0, 0]);
    // k = 1: all densities are equal, so each centre is the token farthest from all before it.
    let got = b.dpc_knn(
        &b.tensor(&[0.0, 10.0, 1.0, 14.0, 11.0, 2.0], 1),
        1,
        3,
        1,
        None,
    );
    assert_eq!(read_ids(b, &got.centres), [0, 1, 3]);
    assert_eq!(read_ids(b, &got.groups), [0, 1, 0, 2, 1, 0]);
}

pub fn check_merge<B: Backend>(b: &B) {
    let random = &mut Random(11);
    for (batch, n, cols, clusters) in [(1, 1, 1, 1), (2, 9, 5, 3), (3, 256, 70, 64)] {
        let x = random.values(batch * n * cols);
        let groups: Vec<u32> = (0..batch * n)
            .map(|_| random.below(clusters) as u32)
            .collect();
        let mut want = vec![0.0; batch * clusters * cols];
        for set in 0..batch {
            for cluster in 0..clusters {
                let members: Vec<usize> = (set * n..(set + 1) * n)
                    .filter(|&i| groups[i] as usize == cluster)
                    .collect();
                for col in 0..cols {
                    let sum: f64 = members.iter().map(|&i| f64::from(x[i * cols + col])).sum();
                    want[(set * clusters + cluster) * cols + col] =
                        sum / (members.len() as f64 + 1e-6);
                }
            }
        }
        let y = b.merge(&b.tensor(&x, cols), &b.ids(&groups), batch, clusters);
        assert_close(&read(b, &y), &want, 2e-6);
    }
}
