//! Attention, and the caches of keys and values.

use pollster::block_on;
use univi::{
    Cpu,
    backend::{Backend, Heads, KvType},
};

use crate::{Random, TOLERANCE, assert_close, read};

/// Of attention over keys and values that were rounded to bytes, relative to the size of the
/// result; 0.0048 was measured.
const Q8_ERROR: f32 = 1e-2;

/// Attention of each row of q over the first `seen(row)` rows of k and v.
fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    heads: Heads,
    seen: impl Fn(usize) -> usize,
) -> Vec<f64> {
    let Heads {
        heads,
        kv_heads,
        head_dim,
    } = heads;
    let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    let mut y = vec![0.0; q.len()];
    for row in 0..q.len() / width {
        for head in 0..heads {
            let at = row * width + head * head_dim;
            let kv = |key: usize| key * kv_width + head / (heads / kv_heads) * head_dim;
            let score = |key: usize| -> f64 {
                let dot: f64 = (0..head_dim)
                    .map(|d| f64::from(q[at + d]) * f64::from(k[kv(key) + d]))
                    .sum();
                dot / (head_dim as f64).sqrt()
            };
            let scores: Vec<f64> = (0..seen(row)).map(score).collect();
            let largest = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (key, weight) in weights.iter().enumerate() {
                for d in 0..head_dim {
                    y[at + d] += weight / total * f64::from(v[kv(key) + d]);
                }
            }
        }
    }
    y
}

pub fn check_attention<B: Backend>(b: &B) {
    let random = &mut Random(8);
    let shapes = [
        (1, 1, 1, 1, 4),
        (2, 5, 2, 1, 8),
        (1, 257, 2, 2, 64),
        (3, 66, 4, 2, 16),
        (1, 100, 1, 1, 128),
        (2, 17, 2, 1, 80),
        (1, 40, 2, 1, 256),
        (1, 9, 1, 1, 132),
    ];
    for (batch, n, heads, kv_heads, head_dim) in shapes {
        let heads = Heads {
            heads,
            kv_heads,
            head_dim,
        };
        let width = heads.heads * head_dim;
        let kv_width = kv_heads * head_dim;
        let q: Vec<f32> = random
            .values(batch * n * width)
            .iter()
            .map(|x| x * 3.0)
            .collect();
        let (k, v) = (
            random.values(batch * n * kv_width),
            random.values(batch * n * kv_width),
        );
        let sets = q
            .chunks(n * width)
            .zip(k.chunks(n * kv_width).zip(v.chunks(n * kv_width)));
        let want: Vec<f64> = sets
            .flat_map(|(q, (k, v))| attention(q, k, v, heads, |_| n))
            .collect();
        let y = b.attention(
            &b.tensor(&q, width),
            &b.tensor(&k, kv_width),
            &b.tensor(&v, kv_width),
            heads,
            batch,
        );
        assert_close(&read(b, &y), &want, TOLERANCE);
    }
}

/// A prompt, single tokens, a question, up to the last position; then the end once more after going
/// back.
const TURNS: [(usize, usize); 10] = [
    (0, 70),
    (70, 1),
    (71, 1),
    (72, 8),
    (80, 9),
    (89, 150),
    (239, 60),
    (299, 1),
    (10, 3),
    (290, 10),
];

/// A cache with room for `positions`.
fn cache<B: Backend>(b: &B, width: usize, positions: usize, ty: KvType) -> B::KvCache {
    let mut cache = b.kv_cache(width, positions, ty);
    block_on(b.reserve(&mut cache, positions)).expect("room");
    cache
}

/// What a cache makes of rows of `width`.
fn kept(x: &[f32], width: usize, ty: KvType) -> Vec<f32> {
    let block = |x: &[f32]| {
        let largest = x.iter().fold(0f32, |m, x| m.max(x.abs()));
        let quant = |x: &f32| (x * (127. / largest)).round_ties_even() * (largest / 127.);
        x.iter().map(quant).collect::<Vec<f32>>()
    };
    match ty {
        KvType::F32 => x.to_vec(),
        KvType::Q8 => x
            .chunks(width)
            .flat_map(|row| row.chunks(32).flat_map(block))
            .collect(),
    }
}

pub fn check_causal_in<B: Backend>(b: &B, ty: KvType) {
    let random = &mut Random(9);
    for (heads, kv_heads, head_dim) in [(1, 1, 4), (4, 2, 16), (2, 2, 20), (3, 3, 64), (8, 2, 128)]
    {
        let heads = Heads {
            heads,
            kv_heads,
            head_dim,
        };
        let (width, kv_width) = (heads.heads * head_dim, kv_heads * head_dim);
        let capacity = 300;
        let (k, v) = (
            random.values(capacity * kv_width),
            random.values(capacity * kv_width),
        );
        let (kept_k, kept_v) = (kept(&k, kv_width, ty), kept(&v, kv_width, ty));
        let mut cache = cache(b, kv_width, capacity, ty);
        for (start, t) in TURNS {
            let rows = |x: &[f32]| b.tensor(&x[start * kv_width..(start + t) * kv_width], kv_width);
            b.append(&mut cache, start, &rows(&k), &rows(&v));
            let q: Vec<f32> = random.values(t * width).iter().map(|x| x * 3.0).collect();
            let y = b.attention_causal(&b.tensor(&q, width), &cache, heads, start);
            let want = attention(&q, &kept_k, &kept_v, heads, |row| start + row + 1);
            assert_close(&read(b, &y), &want, TOLERANCE);
        }
    }
}

pub fn check_causal<B: Backend>(b: &B) {
    check_causal_in(b, KvType::F32);
}

pub fn check_causal_q8<B: Backend>(b: &B) {
    check_causal_in(b, KvType::Q8);
}

/// That a cache is as far from exact as its rounding says, and no further.
pub fn check_q8_is_close<B: Backend>(b: &B) {
    let random = &mut Random(15);
    let heads = Heads {
        heads: 4,
        kv_heads: 4,
        head_dim: 64,
    };
    let (width, t) = (256, 200);
    let [q, k, v] = [3.0, 1.0, 1.0].map(|size| {
        let values = random.values(t * width);
        b.tensor(&values.iter().map(|x| x * size).collect::<Vec<_>>(), width)
    });
    let [exact, rounded] = [KvType::F32, KvType::Q8].map(|ty| {
        let mut cache = cache(b, width, t, ty);
        b.append(&mut cache, 0, &k, &v);
        read(b, &b.attention_causal(&q, &cache, heads, 0))
    });
    let mean = |of: fn(f32, f32) -> f32| {
        let sum: f32 = exact.iter().zip(&rounded).map(|(&a, &b)| of(a, b)).sum();
        sum / exact.len() as f32
    };
    let error = (mean(|a, b| (a - b) * (a - b)) / mean(|a, _| a * a)).sqrt();
    assert!((1e-4..Q8_ERROR).contains(&error), "{error}");
}

/// Caches that grow, are copied and written over hold what one with all the room holds from the
/// beginning.
pub fn check_growth<B: Backend>(b: &B) {
    let random = &mut Random(16);
    let heads = Heads {
        heads: 2,
        kv_heads: 1,
        head_dim: 36,
    };
    let (most, width) = (1500, 36);
    for ty in [KvType::F32, KvType::Q8] {
        let mut whole = cache(b, width, most, ty);
        let mut grown = b.kv_cache(width, most, ty);
        let mut copy = block_on(b.copy_kv_cache(&grown, 0)).expect("room");
        // Over the steps of growth in one row, some, and many; back, and on.
        for (i, (pos, t)) in [
            (0, 250),
            (250, 6),
            (256, 1),
            (257, 400),
            (600, 20),
            (620, 700),
            (1320, 180),
            (1499, 1),
        ]
        .into_iter()
        .enumerate()
        {
            let [k, v] = [(); 2].map(|()| b.tensor(&random.values(t * width), width));
            let q = b.tensor(&random.values(t * 2 * width), 2 * width);
            if i % 3 == 2 {
                let cache = if i % 2 == 0 { &grown } else { &copy };
                copy = block_on(b.copy_kv_cache(cache, pos)).expect("room");
                std::mem::swap(&mut copy, &mut grown);
            }
            let [want, got] = [&mut whole, &mut grown].map(|cache| {
                block_on(b.reserve(cache, pos + t)).expect("room");
                b.append(cache, pos, &k, &v);
                read(b, &b.attention_causal(&q, cache, heads, pos))
            });
            assert_eq!(want, got, "{ty:?} at {pos}");
            block_on(b.reserve(&mut copy, pos + t)).expect("room");
            b.append(&mut copy, pos, &k, &v);
        }
    }
}

#[test]
fn caches_on_the_cpu() {
    check_causal(&Cpu);
    check_causal_q8(&Cpu);
    check_q8_is_close(&Cpu);
    check_growth(&Cpu);
}
