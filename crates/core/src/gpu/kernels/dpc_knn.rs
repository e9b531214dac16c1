//! Density peaks clustering with k nearest neighbours.

use super::{copy::widen, gather::gather, tile::PLACE};
use crate::{
    backend::{Clusters, MAX_NEIGHBOURS},
    gpu::{
        device::Gpu,
        kernel::{Kernel, params, work},
        tensor::{Ids, Tensor},
    },
};

pub(super) const DISTANCE: Kernel =
    Kernel::new::<DistanceParams>("distance", include_str!("distance.wgsl"), 2, 1).with(&[PLACE]);
pub(super) const DENSITY: Kernel =
    Kernel::new::<DensityParams>("density", include_str!("density.wgsl"), 2, 2);
pub(super) const SEPARATION: Kernel =
    Kernel::new::<SeparationParams>("separation", include_str!("separation.wgsl"), 3, 1);
pub(super) const RANK: Kernel =
    Kernel::new::<CentresParams>("rank", include_str!("rank.wgsl"), 1, 1);
pub(super) const NEAREST: Kernel =
    Kernel::new::<CentresParams>("nearest", include_str!("nearest.wgsl"), 2, 1);

/// Distances that are kept at once. A long event has 6400 tokens: its whole matrix would be larger
/// than what a binding may show, so it is computed in blocks of columns, twice.
const MAX_DISTANCE_BYTES: usize = 64 << 20;
/// Tokens of a workgroup of [`DISTANCE`], along both sides.
const TILE: usize = 32;

params! {
    struct DistanceParams {
        m: u32,
        n: u32,
        first: u32,
        rows: u32,
        blocks: u32,
        scale: f32,
    }
}

params! {
    struct DensityParams {
        n: u32,
        first: u32,
        rows: u32,
        k: u32,
        noisy: u32,
    }
}

params! {
    struct SeparationParams {
        n: u32,
        first: u32,
        rows: u32,
    }
}

params! {
    struct CentresParams {
        n: u32,
        clusters: u32,
    }
}

/// Consecutive tokens of every set.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    rows: usize,
}

/// See [`crate::backend::Backend::dpc_knn`].
pub fn dpc_knn(
    gpu: &Gpu,
    x: &Tensor,
    batch: usize,
    clusters: usize,
    k: usize,
    noise: Option<&Tensor>,
) -> Clusters<Ids> {
    assert!(
        batch > 0 && x.rows.is_multiple_of(batch),
        "{batch} sets of {:?}",
        x.shape()
    );
    let n = x.rows / batch;
    assert!(
        (1..=n).contains(&clusters) && (1..=n.min(MAX_NEIGHBOURS)).contains(&k),
        "{clusters} clusters, k {k} of {n}"
    );
    if let Some(noise) = noise {
        assert_eq!(noise.len(), x.rows);
    }
    let scale = 1.0 / (x.cols as f32).sqrt();
    let x = &widen(gpu, x, x.cols.next_multiple_of(32));

    let spans = spans(gpu, x, batch, n);
    let density = gpu.alloc(batch, n);
    let farthest = gpu.alloc(batch, n);
    let score = gpu.alloc(batch, n);
    // With a single span the distances are those of the first sweep.
    let mut kept = None;
    for &span in &spans {
        let d = distances(gpu, x, x, batch, span, scale);
        let params = DensityParams {
            n: n as u32,
            first: span.first as u32,
            rows: span.rows as u32,
            k: k as u32,
            noisy: u32::from(noise.is_some()),
        };
        let noise = noise.unwrap_or(&d);
        let buffers = [
            d.binding(),
            noise.binding(),
            density.binding(),
            farthest.binding(),
        ];
        gpu.run(
            DENSITY,
            &buffers,
            &params,
            lanes(span.rows, batch),
            work(&[2, d.len()]),
        );
        kept = (spans.len() == 1).then_some(d);
    }
    for &span in &spans {
        let d = kept
            .take()
            .unwrap_or_else(|| distances(gpu, x, x, batch, span, scale));
        let params = SeparationParams {
            n: n as u32,
            first: span.first as u32,
            rows: span.rows as u32,
        };
        let buffers = [
            d.binding(),
            density.binding(),
            farthest.binding(),
            score.binding(),
        ];
        gpu.run(
            SEPARATION,
            &buffers,
            &params,
            lanes(span.rows, batch),
            work(&[2, d.len()]),
        );
    }

    let params = CentresParams {
        n: n as u32,
        clusters: clusters as u32,
    };
    let centres = gpu.alloc_ids(batch * clusters);
    gpu.run(
        RANK,
        &[score.binding(), centres.binding()],
        &params,
        lanes(n, batch),
        work(&[x.rows, n]),
    );
    let chosen = gather(gpu, x, &centres, batch);
    let d = distances(gpu, &chosen, x, batch, Span { first: 0, rows: n }, scale);
    let groups = gpu.alloc_ids(x.rows);
    let buffers = [d.binding(), centres.binding(), groups.binding()];
    gpu.run(
        NEAREST,
        &buffers,
        &params,
        lanes(n, batch),
        work(&[d.len()]),
    );
    Clusters { centres, groups }
}

/// `[batch, a.rows / batch, span.rows]`: distances between all of `a` and the tokens `span` of
/// `x`, set by set.
fn distances(gpu: &Gpu, a: &Tensor, x: &Tensor, batch: usize, span: Span, scale: f32) -> Tensor {
    let d = gpu.alloc(a.rows, span.rows);
    let m = a.rows / batch;
    let params = DistanceParams {
        m: m as u32,
        n: (x.rows / batch) as u32,
        first: span.first as u32,
        rows: span.rows as u32,
        blocks: (x.cols / 32) as u32,
        scale,
    };
    let groups = [
        span.rows.div_ceil(TILE) as u32,
        m.div_ceil(TILE) as u32,
        batch as u32,
    ];
    gpu.run(
        DISTANCE,
        &[a.binding(), x.binding(), d.binding()],
        &params,
        groups,
        work(&[3, d.len(), x.cols]),
    );
    d
}

/// Tokens whose distances to all others are looked at together.
fn spans(gpu: &Gpu, x: &Tensor, batch: usize, n: usize) -> Vec<Span> {
    let by_memory = MAX_DISTANCE_BYTES / 4 / (batch * n);
    let by_work = (gpu.max_work() / work(&[3, batch, n, x.cols])) as usize;
    // Whole workgroups, and at least one.
    let rows = (by_memory.min(by_work) / 64).max(1) * 64;
    (0..n)
        .step_by(rows)
        .map(|first| Span {
            first,
            rows: rows.min(n - first),
        })
        .collect()
}

/// A workgroup for 64 tokens of each set.
fn lanes(tokens: usize, batch: usize) -> [u32; 3] {
    [tokens.div_ceil(64) as u32, batch as u32, 1]
}
