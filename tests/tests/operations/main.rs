//! Every operation of a backend against plain Rust in f64, on random values and at the edges of
//! shapes.

use std::ops::Range;

use pollster::block_on;
use univi::{
    Cpu,
    backend::{Activation, Backend, Heads, KvType},
    gguf::GgmlType,
    gpu::{Gpu, GpuOptions, LimitsChoice},
};
use univi_convert::quantize;

/// f32 sums of some thousand terms of size 1, in any order.
const TOLERANCE: f64 = 2e-5;

/// Of attention over keys and values that were rounded to bytes, relative to the size of the
/// result; 0.0048 was measured.
const Q8_ERROR: f32 = 1e-2;

/// A GPU is required: a machine without one has Mesa's lavapipe (`cargo xtask setup`).
fn gpu() -> Gpu {
    block_on(Gpu::new(GpuOptions::default())).expect("a GPU, or lavapipe")
}

/// Numbers in -1..1, the same on every run.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    fn number(&mut self) -> f32 {
        self.bits() as f32 / (1u32 << 30) as f32 - 1.0
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    fn below(&mut self, end: usize) -> usize {
        self.bits() as usize % end
    }
}

#[track_caller]
fn assert_close(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "lengths");
    let error = |i: usize| (f64::from(got[i]) - want[i]).abs() / want[i].abs().max(1.0);
    assert!(got.iter().all(|x| x.is_finite()), "not finite");
    if let Some(worst) = (0..got.len()).max_by(|&a, &b| error(a).total_cmp(&error(b))) {
        assert!(
            error(worst) <= tolerance,
            "at {worst}: {} instead of {}, off by {:e}",
            got[worst],
            want[worst],
            error(worst)
        );
    }
}

fn read<B: Backend>(b: &B, x: &B::Tensor) -> Vec<f32> {
    let data = block_on(b.read(x)).expect("a result");
    let [rows, cols] = b.shape(x);
    assert_eq!(data.len(), rows * cols);
    data
}

fn read_ids<B: Backend>(b: &B, ids: &B::Ids) -> Vec<u32> {
    block_on(b.read_ids(ids)).expect("a result")
}

/// Bytes of random weights `[rows, cols]`, and what they stand for.
fn weights(random: &mut Random, ty: GgmlType, rows: usize, cols: usize) -> (Vec<u8>, Vec<f32>) {
    let bytes = match ty {
        // Read, but not written: any quants under the scale 0.00037.
        GgmlType::Iq4Nl | GgmlType::Iq4Xs => {
            let blocks = rows * cols / ty.block_len();
            let block = |_| {
                [
                    vec![0, 0x0e],
                    (2..ty.block_bytes()).map(|_| random.bits() as u8).collect(),
                ]
                .concat()
            };
            (0..blocks).flat_map(block).collect()
        }
        _ => quantize(ty, &random.values(rows * cols)).expect("whole blocks"),
    };
    let mut values = vec![0.0; rows * cols];
    ty.dequantize(&bytes, &mut values);
    (bytes, values)
}

fn matrix<B: Backend>(b: &B, ty: GgmlType, rows: usize, cols: usize, bytes: &[u8]) -> B::Matrix {
    let mut matrix = b.alloc_matrix(ty, rows, cols).expect("room");
    // In pieces, as they come from a network.
    for (i, piece) in bytes.chunks(4096).enumerate() {
        b.write_matrix(&mut matrix, i * 4096, piece);
    }
    matrix
}

/// `x [t, k]` times the transpose of `w [n, k]`.
fn product(x: &[f32], w: &[f32], k: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| {
        x.iter()
            .zip(w)
            .map(|(x, w)| f64::from(*x) * f64::from(*w))
            .sum()
    };
    x.chunks(k)
        .flat_map(|x| w.chunks(k).map(move |w| dot(x, w)))
        .collect()
}

fn check_matmul<B: Backend>(b: &B, ty: GgmlType, t: usize, n: usize, k: usize) {
    let random = &mut Random((t * n * k) as u64);
    let (bytes, w) = weights(random, ty, n, k);
    let x = random.values(t * k);
    let y = b.matmul(&b.tensor(&x, k), &matrix(b, ty, n, k, &bytes));
    assert_eq!(b.shape(&y), [t, n]);
    assert_close(&read(b, &y), &product(&x, &w, k), TOLERANCE);
}

fn check_matmuls<B: Backend>(b: &B) {
    for ty in GgmlType::ALL {
        let k = if ty.block_len() == 256 { 512 } else { 96 };
        for t in [1, 3, 9, 70] {
            check_matmul(b, ty, t, 67, k);
        }
        check_matmul(b, ty, 1, 1, k);
        check_matmul(b, ty, 65, 1, k);
    }
    // A patch of 14 x 14 pixels in three colours, and widths that no vector divides.
    for ty in [GgmlType::F32, GgmlType::F16, GgmlType::BF16] {
        for (t, k) in [(1, 588), (40, 588), (1, 7), (9, 33), (2, 1), (16, 147)] {
            check_matmul(b, ty, t, 65, k);
        }
    }
    // More rows than a workgroup's worth of 32 columns, and an odd number of blocks per row.
    check_matmul(b, GgmlType::Q4_0, 2, 301, 32);
    check_matmul(b, GgmlType::Q8_0, 100, 301, 160);
}

fn check_embed<B: Backend>(b: &B) {
    let random = &mut Random(2);
    for ty in GgmlType::ALL {
        let cols = if ty.block_len() == 256 { 512 } else { 96 };
        let (bytes, table) = weights(random, ty, 51, cols);
        let ids: Vec<u32> = (0..40)
            .map(|_| random.below(51) as u32)
            .chain([0, 50])
            .collect();
        let y = b.embed(&matrix(b, ty, 51, cols, &bytes), &b.ids(&ids));
        assert_eq!(b.shape(&y), [ids.len(), cols]);
        let want: Vec<f64> = ids
            .iter()
            .flat_map(|&id| {
                table[id as usize * cols..][..cols]
                    .iter()
                    .map(|&x| f64::from(x))
            })
            .collect();
        // A fused multiply-add may differ in the last place of the larger product.
        assert_close(&read(b, &y), &want, 2e-7);
    }
    let (bytes, table) = weights(random, GgmlType::F32, 5, 7);
    let y = b.embed(&matrix(b, GgmlType::F32, 5, 7, &bytes), &b.ids(&[4, 1]));
    assert_eq!(read(b, &y), [&table[28..], &table[7..14]].concat());
}

/// Bytes that a quantizer never writes: every scale, subnormal ones too, every quant.
fn check_random_blocks<B: Backend>(b: &B) {
    let random = &mut Random(3);
    for ty in GgmlType::ALL
        .into_iter()
        .filter(|ty| *ty != GgmlType::F32 && *ty != GgmlType::BF16)
    {
        let cols = if ty.is_quantized() {
            ty.block_len() * 2
        } else {
            64
        };
        let rows = 64;
        let row_bytes = ty.row_bytes(cols).expect("whole blocks");
        let bytes: Vec<u8> = loop {
            // The high byte of halves is kept below infinity's by masking a bit of every odd byte.
            let bytes: Vec<u8> = (0..rows * row_bytes)
                .map(|_| random.bits() as u8 & 0xbf)
                .collect();
            if ty.first_not_finite(&bytes).is_none() {
                break bytes;
            }
        };
        let mut table = vec![0.0; rows * cols];
        ty.dequantize(&bytes, &mut table);
        let ids: Vec<u32> = (0..rows as u32).collect();
        let got = read(
            b,
            &b.embed(&matrix(b, ty, rows, cols, &bytes), &b.ids(&ids)),
        );
        // Relative to the block, since products of different sizes are added there.
        for (got, want) in got.chunks(16).zip(table.chunks(16)) {
            let largest = want
                .iter()
                .fold(0f32, |a, x| a.max(x.abs()))
                .max(f32::MIN_POSITIVE);
            for (got, want) in got.iter().zip(want) {
                assert!(
                    (got - want).abs() <= 1e-6 * largest,
                    "{}: {got} instead of {want}",
                    ty.name()
                );
            }
        }
    }
}

fn check_rows<B: Backend>(b: &B) {
    let random = &mut Random(4);
    for cols in [1, 3, 64, 129] {
        let (x, y) = (random.values(10 * cols), random.values(3 * cols));
        let (tx, ty) = (b.tensor(&x, cols), b.tensor(&y, cols));
        for range in [0..10, 0..1, 3..7, 9..10, 4..4] as [Range<usize>; 5] {
            let part = b.slice(&tx, range.clone());
            assert_eq!(b.shape(&part), [range.len(), cols]);
            assert_eq!(read(b, &part), x[range.start * cols..range.end * cols]);
            // A slice of a slice, used by another operation.
            if range.len() > 2 {
                let inner = b.slice(&part, 1..range.len());
                let twice = b.add(&inner, &inner);
                let want: Vec<f32> = x[(range.start + 1) * cols..range.end * cols]
                    .iter()
                    .map(|x| x + x)
                    .collect();
                assert_eq!(read(b, &twice), want);
            }
        }
        let joined = b.concat(&[&tx, &ty, &b.slice(&tx, 2..4)]);
        assert_eq!(
            read(b, &joined),
            [&x[..], &y, &x[2 * cols..4 * cols]].concat()
        );
        let gathered = b.gather(&tx, &b.ids(&[9, 0, 3, 3]));
        assert_eq!(
            read(b, &gathered),
            [9, 0, 3, 3].map(|i| &x[i * cols..(i + 1) * cols]).concat()
        );
        let mean = |run: usize| -> Vec<f64> {
            let column = |rows: &[f32], c: usize| {
                rows.iter()
                    .skip(c)
                    .step_by(cols)
                    .map(|&x| f64::from(x))
                    .sum::<f64>()
            };
            x.chunks(run * cols)
                .flat_map(|rows| (0..cols).map(move |c| column(rows, c) / run as f64))
                .collect()
        };
        assert_close(&read(b, &b.mean(&tx, 5)), &mean(5), 1e-6);
        assert_eq!(read(b, &b.mean(&tx, 1)), x);
    }
}

fn check_pointwise<B: Backend>(b: &B) {
    let random = &mut Random(5);
    for (rows, cols) in [(1, 1), (6, 37), (130, 300)] {
        let x: Vec<f32> = random.values(rows * cols).iter().map(|x| x * 6.0).collect();
        let y = random.values(rows * cols);
        let (tx, ty) = (b.tensor(&x, cols), b.tensor(&y, cols));
        let pairs = || {
            x.iter()
                .zip(&y)
                .map(|(&x, &y)| (f64::from(x), f64::from(y)))
        };

        assert_close(
            &read(b, &b.add(&tx, &ty)),
            &pairs().map(|(x, y)| x + y).collect::<Vec<_>>(),
            1e-6,
        );
        for period in (1..=rows).filter(|period| rows % period == 0) {
            let some = b.slice(&ty, 0..period);
            let want: Vec<f64> = x
                .iter()
                .enumerate()
                .map(|(i, &x)| f64::from(x) + f64::from(y[i % (period * cols)]))
                .collect();
            assert_close(&read(b, &b.add(&tx, &some)), &want, 1e-6);
        }
        let silu = |x: f64| x / (1.0 + (-x).exp());
        assert_close(
            &read(b, &b.silu_mul(&tx, &ty)),
            &pairs().map(|(x, y)| silu(x) * y).collect::<Vec<_>>(),
            2e-6,
        );
        let quick = pairs()
            .map(|(x, _)| x / (1.0 + (-1.702 * x).exp()))
            .collect::<Vec<_>>();
        assert_close(
            &read(b, &b.activate(&tx, Activation::QuickGelu)),
            &quick,
            2e-6,
        );
        let gelu = pairs()
            .map(|(x, _)| 0.5 * x * (1.0 + erf(x / 2f64.sqrt())))
            .collect::<Vec<_>>();
        assert_close(&read(b, &b.activate(&tx, Activation::Gelu)), &gelu, 2e-6);
    }
    // Nothing overflows far out.
    let far = b.tensor(&[-1e4, 1e4, -100.0, 100.0, 0.0], 5);
    for f in [Activation::QuickGelu, Activation::Gelu] {
        assert_close(
            &read(b, &b.activate(&far, f)),
            &[0.0, 1e4, 0.0, 100.0, 0.0],
            1e-6,
        );
    }
    assert_close(
        &read(b, &b.silu_mul(&far, &far)),
        &[0.0, 1e8, 0.0, 1e4, 0.0],
        1e-6,
    );
}

/// The error function by its Taylor series, which converges everywhere; in f64 it does for |x| < 5.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    (sum * 2.0 / std::f64::consts::PI.sqrt()).clamp(-1.0, 1.0)
}

fn check_norms<B: Backend>(b: &B) {
    let random = &mut Random(6);
    for (rows, cols) in [(1, 1), (3, 5), (70, 64), (2, 1025)] {
        // An offset that E[x^2] - E[x]^2 would drown in.
        let x: Vec<f32> = random
            .values(rows * cols)
            .iter()
            .map(|x| x + 100.0)
            .collect();
        let (w, bias) = (random.values(cols), random.values(cols));
        let (tx, tw, tb) = (
            b.tensor(&x, cols),
            b.tensor(&w, cols),
            b.tensor(&bias, cols),
        );
        let eps = 1e-5;
        let rms = x.chunks(cols).flat_map(|row| {
            let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
            let scale = 1.0 / (squares / cols as f64 + f64::from(eps)).sqrt();
            row.iter()
                .zip(&w)
                .map(move |(&x, &w)| f64::from(x) * scale * f64::from(w))
        });
        assert_close(
            &read(b, &b.rms_norm(&tx, &tw, eps)),
            &rms.collect::<Vec<_>>(),
            TOLERANCE,
        );
        let layer = x.chunks(cols).flat_map(|row| {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / cols as f64;
            let variance = row
                .iter()
                .map(|&x| (f64::from(x) - mean).powi(2))
                .sum::<f64>()
                / cols as f64;
            let scale = 1.0 / (variance + f64::from(eps)).sqrt();
            let affine = w.iter().zip(&bias);
            row.iter().zip(affine).map(move |(&x, (&w, &b))| {
                (f64::from(x) - mean) * scale * f64::from(w) + f64::from(b)
            })
        });
        // The mean of numbers near 100 is known to 1e-5 only.
        assert_close(
            &read(b, &b.layer_norm(&tx, &tw, &tb, eps)),
            &layer.collect::<Vec<_>>(),
            2e-4,
        );
    }
}

fn check_rope<B: Backend>(b: &B) {
    let random = &mut Random(7);
    for (heads, head_dim, rotary, rows, pos) in [
        (1, 2, 2, 1, 0),
        (3, 16, 16, 5, 7),
        (2, 20, 12, 4, 0),
        (4, 64, 64, 9, 3),
    ] {
        let cols = heads * head_dim;
        let x = random.values(rows * cols);
        let table = random.values(20 * rotary);
        let want: Vec<f64> = (0..x.len())
            .map(|i| {
                let (row, column) = (i / cols, i % cols % head_dim);
                if column >= rotary {
                    return f64::from(x[i]);
                }
                let at = (pos + row) * rotary + column / 2;
                let (c, s) = (f64::from(table[at]), f64::from(table[at + rotary / 2]));
                match column % 2 {
                    0 => f64::from(x[i]) * c - f64::from(x[i + 1]) * s,
                    _ => f64::from(x[i - 1]) * s + f64::from(x[i]) * c,
                }
            })
            .collect();
        let y = b.rope(
            &b.tensor(&x, cols),
            &b.tensor(&table, rotary),
            head_dim,
            pos,
        );
        assert_close(&read(b, &y), &want, 1e-6);
    }
}

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

fn check_attention<B: Backend>(b: &B) {
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

fn check_causal_in<B: Backend>(b: &B, ty: KvType) {
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

fn check_causal<B: Backend>(b: &B) {
    check_causal_in(b, KvType::F32);
}

fn check_causal_q8<B: Backend>(b: &B) {
    check_causal_in(b, KvType::Q8);
}

/// That a cache is as far from exact as its rounding says, and no further.
fn check_q8_is_close<B: Backend>(b: &B) {
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
fn check_growth<B: Backend>(b: &B) {
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

fn check_dpc_knn<B: Backend>(
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

fn check_clustering<B: Backend>(b: &B) {
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

fn check_merge<B: Backend>(b: &B) {
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

fn check_argmax<B: Backend>(b: &B) {
    let random = &mut Random(12);
    for cols in [1, 2, 255, 256, 257, 32000] {
        let mut x = random.values(3 * cols);
        x[cols..2 * cols].fill(-2.5);
        x[cols + cols / 3] = -1.5;
        x[cols + cols / 2] = -1.5;
        let want: Vec<u32> = x
            .chunks(cols)
            .map(|row| {
                let largest = row.iter().copied().fold(f32::MIN, f32::max);
                row.iter().position(|&x| x == largest).expect("one") as u32
            })
            .collect();
        assert_eq!(read_ids(b, &b.argmax(&b.tensor(&x, cols))), want);
    }
}

macro_rules! on_every_backend {
    ($($check:ident)*) => {
        mod gpu_backend {
            $(#[test]
            fn $check() {
                super::$check(&super::gpu());
            })*
        }
    };
}

on_every_backend! {
    check_matmuls check_embed check_random_blocks check_rows check_pointwise check_norms check_rope
    check_attention check_causal check_causal_q8 check_q8_is_close check_growth check_clustering check_merge
    check_argmax
}

#[test]
fn caches_on_the_cpu() {
    check_causal(&Cpu);
    check_causal_q8(&Cpu);
    check_q8_is_close(&Cpu);
    check_growth(&Cpu);
}

/// The limits that every WebGPU device has, whatever this one could do.
fn modest_gpu() -> Gpu {
    let options = GpuOptions::default().limits(LimitsChoice::WebGpuDefault);
    block_on(Gpu::new(options)).expect("a GPU, or lavapipe")
}

#[test]
fn weights_beyond_a_binding_are_split() {
    let b = &modest_gpu();
    assert_eq!(b.adapter_info().max_binding_bytes, 128 << 20);
    let random = &mut Random(13);
    // 105 MiB each; rows of 2 bytes more than whole words. Then 150 MiB, in two parts.
    for (rows, cols) in [(3_000, 17_474), (4_501, 17_474)] {
        let bytes: Vec<u8> = (0..rows * cols)
            .flat_map(|i| [i as u8, 0x38 + (i % 7) as u8 % 4])
            .collect();
        let mut w = vec![0.0; rows * cols];
        GgmlType::F16.dequantize(&bytes, &mut w);
        let mut matrix = b.alloc_matrix(GgmlType::F16, rows, cols).expect("room");
        for (i, piece) in bytes.chunks(1 << 22).enumerate() {
            b.write_matrix(&mut matrix, i << 22, piece);
        }
        let x = random.values(cols);
        let y = b.matmul(&b.tensor(&x, cols), &matrix);
        assert_close(&read(b, &y), &product(&x, &w, cols), 1e-4);
        let ids = [0, rows as u32 - 1, 3_500.min(rows as u32 - 1)];
        let want = ids.map(|id| &w[id as usize * cols..][..cols]).concat();
        assert_eq!(read(b, &b.embed(&matrix, &b.ids(&ids))), want);
    }
}

#[test]
fn long_events_are_clustered_in_blocks() {
    let b = &modest_gpu();
    let random = &mut Random(14);
    // 4500 x 4500 distances are more than are kept at once.
    let (n, c) = (4_500, 3);
    let x = random.values(n * c);
    check_dpc_knn(b, random, &x, (1, n, c), 64, 5);
}

#[test]
fn what_does_not_fit_is_refused() {
    let b = &modest_gpu();
    let code = |result: univi::Result<()>| result.expect_err("too large").code();
    assert_eq!(
        code(b.alloc_matrix(GgmlType::F32, 2, 1 << 26).map(drop)),
        "out-of-memory"
    );
    let mut cache = b.kv_cache(4096, 1 << 20, KvType::F32);
    let grown = block_on(b.reserve(&mut cache, 1 << 20));
    assert_eq!(code(grown), "out-of-memory");
    // An intermediate result: the refusal comes with the next read, and the one after that is fine.
    let row = b.tensor(&[1.0; 1 << 20], 1 << 20);
    let large = b.concat(&[&row; 33]);
    assert_eq!(code(block_on(b.read(&large)).map(drop)), "out-of-memory");
    assert_eq!(read(b, &b.slice(&row, 0..1))[7], 1.0);
}

#[test]
fn caches_take_what_they_hold() {
    let b = &gpu();
    let width = 1024;
    let mebibytes = |cache: &mut _, positions| {
        block_on(b.reserve(cache, positions)).expect("room");
        b.memory_bytes() as f64 / f64::from(1 << 20)
    };
    let mut exact = b.kv_cache(width, 4096, KvType::F32);
    let before = b.memory_bytes();
    assert!(mebibytes(&mut exact, 0) == before as f64 / f64::from(1 << 20));
    // 8 KiB a position: 256 of them, then a quarter more than 1,000, then all; the smaller ones are
    // gone.
    for (positions, room) in [
        (1, 256),
        (256, 256),
        (1000, 1250),
        (4000, 4096),
        (4096, 4096),
    ] {
        let found = mebibytes(&mut exact, positions);
        assert!(
            (found - room as f64 / 128.).abs() < 0.1,
            "{found} MiB for {room}"
        );
    }
    drop(exact);
    assert_eq!(b.memory_bytes(), before);
    let mut bytes = b.kv_cache(width, 4096, KvType::Q8);
    assert!((mebibytes(&mut bytes, 4096) - 9.).abs() < 0.1);
    // A copy of a short beginning takes no more than that.
    let copy = block_on(b.copy_kv_cache(&bytes, 300)).expect("room");
    assert!((mebibytes(&mut bytes, 4096) - 9. * (1. + 375. / 4096.)).abs() < 0.1);
    drop((bytes, copy));
}

#[test]
fn a_cache_that_can_not_grow_is_as_it_was() {
    let options = GpuOptions::default().memory_bytes(Some(8 << 20));
    let b = &block_on(Gpu::new(options)).expect("a GPU, or lavapipe");
    let heads = Heads {
        heads: 4,
        kv_heads: 4,
        head_dim: 128,
    };
    let random = &mut Random(17);
    let [q, k, v] = [(); 3].map(|()| b.tensor(&random.values(20 * 512), 512));
    let mut cache = b.kv_cache(512, 1 << 20, KvType::F32);
    block_on(b.reserve(&mut cache, 20)).expect("room");
    b.append(&mut cache, 0, &k, &v);
    let before = read(b, &b.attention_causal(&q, &cache, heads, 0));
    let bytes = b.memory_bytes();
    for _ in 0..2 {
        let error = block_on(b.reserve(&mut cache, 2000)).expect_err("no room");
        assert_eq!(error.code(), "out-of-memory");
        assert_eq!(
            b.memory_bytes(),
            bytes,
            "what was had in vain is given back"
        );
        assert_eq!(before, read(b, &b.attention_causal(&q, &cache, heads, 0)));
    }
    block_on(b.reserve(&mut cache, 700)).expect("room");
    assert_eq!(before, read(b, &b.attention_causal(&q, &cache, heads, 0)));
}

#[test]
fn a_lost_device_is_an_error() {
    let b = &gpu();
    let x = b.tensor(&[1.0, 2.0], 2);
    let before = b.add(&x, &x);
    b.destroy();
    let after = b.add(&before, &x);
    for lost in [block_on(b.read(&before)), block_on(b.read(&after))] {
        assert_eq!(lost.expect_err("no device").code(), "device-lost");
    }
    assert_eq!(
        block_on(b.finish()).expect_err("no device").code(),
        "device-lost"
    );
    let grown = block_on(b.reserve(&mut b.kv_cache(4, 4, KvType::F32), 4));
    assert_eq!(grown.expect_err("no device").code(), "device-lost");
}
