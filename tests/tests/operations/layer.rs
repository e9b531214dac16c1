//! Parts of a layer that a backend may compute in fewer steps than they are composed of, against
//! the composition on the CPU.

use pollster::block_on;
use univi::{
    Cpu,
    backend::{Backend, CachePlace, Heads, KvType, Norm, Rotation},
    gguf::GgmlType,
};

use crate::{Random, TOLERANCE, assert_close, matrix, read, weights};

const EPS: f32 = 1e-5;

/// How weights that belong together are stored: alike, and where one of them has more bits.
const TYPES: [[GgmlType; 3]; 3] = [
    [GgmlType::Q4_0; 3],
    [GgmlType::Q4K, GgmlType::Q4K, GgmlType::Q8_0],
    [GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_0],
];

/// Rows: of a token, of some, as many as few are, and of a prompt.
const ROWS: [usize; 5] = [1, 2, 8, 9, 70];

/// What follows a product of some hundred terms multiplies its error.
const AFTER_PRODUCTS: f64 = 10.0 * TOLERANCE;

/// What a cache of bytes makes of keys and values of size 1.
const AFTER_ROUNDING: f64 = 0.05;

/// Of a table and a cache.
const POSITIONS: usize = 100;

fn close(got: &[f32], want: &[f32], tolerance: f64) {
    let want: Vec<f64> = want.iter().map(|&x| f64::from(x)).collect();
    assert_close(got, &want, tolerance);
}

/// Matrices `[rows, cols]` of these types on both backends, as they are and put together.
struct Matrices<B: Backend> {
    plain: Vec<B::Matrix>,
    stacked: Vec<B::Matrix>,
    cpu: Vec<univi::cpu::Matrix>,
}

fn matrices<B: Backend>(
    b: &B,
    random: &mut Random,
    types: &[GgmlType],
    rows: &[usize],
    cols: usize,
) -> Matrices<B> {
    let (mut plain, mut stacked, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for (&ty, &rows) in types.iter().zip(rows) {
        let (bytes, _) = weights(random, ty, rows, cols);
        plain.push(matrix(b, ty, rows, cols, &bytes));
        stacked.push(matrix(b, ty, rows, cols, &bytes));
        cpu.push(matrix(&Cpu, ty, rows, cols, &bytes));
    }
    let mut all: Vec<&mut B::Matrix> = stacked.iter_mut().collect();
    block_on(b.stack(&mut all)).expect("a healthy device");
    Matrices {
        plain,
        stacked,
        cpu,
    }
}

/// A row of weights near 0.1, so that products are of size 1, and x whose rows differ in size.
fn normed(random: &mut Random, t: usize, cols: usize) -> (Vec<f32>, Vec<f32>) {
    let x = random.values(t * cols);
    let sized = x.iter().enumerate();
    (
        random.values(cols).iter().map(|w| 0.1 + w / 20.0).collect(),
        sized
            .map(|(i, x)| x * (1 + i / cols % 5) as f32 * 3.0)
            .collect(),
    )
}

pub fn check_residual<B: Backend>(b: &B) {
    let random = &mut Random(21);
    for (ty, n, k) in [
        (GgmlType::Q4_0, 68, 96),
        (GgmlType::Q4K, 132, 512),
        (GgmlType::F32, 67, 64), // What is added to has no whole vectors.
        (GgmlType::F32, 64, 33), // What is multiplied has no whole blocks.
    ] {
        for t in ROWS {
            let Matrices { plain, cpu, .. } = matrices(b, random, &[ty], &[n], k);
            let (x, y) = (random.values(t * n), random.values(t * k));
            let want = Cpu.add_matmul(&Cpu.tensor(&x, n), &Cpu.tensor(&y, k), &cpu[0]);
            let got = b.add_matmul(&b.tensor(&x, n), &b.tensor(&y, k), &plain[0]);
            close(&read(b, &got), &read(&Cpu, &want), TOLERANCE);
        }
    }
}

pub fn check_swiglu<B: Backend>(b: &B) {
    let random = &mut Random(22);
    for types in TYPES {
        for (ffn, cols) in [(67, 256), (128, 768), (1, 256)] {
            let found = matrices(b, random, &types[..2], &[ffn, ffn], cols);
            for t in ROWS {
                let (weight, x) = normed(random, t, cols);
                let (tw, tx) = (Cpu.tensor(&weight, cols), Cpu.tensor(&x, cols));
                let norm = Norm {
                    weight: &tw,
                    eps: EPS,
                };
                let want = read(&Cpu, &Cpu.swiglu(&tx, norm, &found.cpu[0], &found.cpu[1]));
                for w in [&found.plain, &found.stacked] {
                    let (tw, tx) = (b.tensor(&weight, cols), b.tensor(&x, cols));
                    let norm = Norm {
                        weight: &tw,
                        eps: EPS,
                    };
                    let got = read(b, &b.swiglu(&tx, norm, &w[0], &w[1]));
                    close(&got, &want, AFTER_PRODUCTS);
                }
            }
        }
    }
}

pub fn check_qkv<B: Backend>(b: &B) {
    let random = &mut Random(23);
    let shapes = [(2, 2, 20, 12), (4, 2, 16, 16), (1, 1, 4, 2)];
    for (types, shape) in TYPES.into_iter().zip(shapes.into_iter().cycle()) {
        let (heads, kv_heads, head_dim, rotary) = shape;
        let (q, kv, cols) = (heads * head_dim, kv_heads * head_dim, 256);
        let heads = Heads {
            heads,
            kv_heads,
            head_dim,
        };
        let found = matrices(b, random, &types, &[q, kv, kv], cols);
        let table = random.values(POSITIONS * rotary);
        for t in ROWS {
            let (weight, x) = normed(random, t, cols);
            let want =
                queries_and_answers(&Cpu, &found.cpu, &x, &weight, &table, heads, KvType::F32);
            let check = |w: &[B::Matrix], ty, tolerance| {
                let got = queries_and_answers(b, w, &x, &weight, &table, heads, ty);
                for (got, want) in got.iter().zip(&want) {
                    close(got, want, tolerance);
                }
            };
            check(&found.stacked, KvType::F32, AFTER_PRODUCTS);
            if t == 2 || t == 9 {
                check(&found.plain, KvType::F32, AFTER_PRODUCTS);
                check(&found.stacked, KvType::Q8, AFTER_ROUNDING);
            }
        }
    }
}

/// The queries of `x` at positions 0 .. and then t .., and what they make of the cache.
fn queries_and_answers<B: Backend>(
    b: &B,
    w: &[B::Matrix],
    x: &[f32],
    weight: &[f32],
    table: &[f32],
    heads: Heads,
    ty: KvType,
) -> Vec<Vec<f32>> {
    let cols = weight.len();
    let t = x.len() / cols;
    // What comes second sees what came first.
    let times = if 2 * t <= POSITIONS { 2 } else { 1 };
    let mut cache = b.kv_cache(heads.kv_heads * heads.head_dim, POSITIONS, ty);
    block_on(b.reserve(&mut cache, POSITIONS)).expect("room");
    let (x, weight) = (b.tensor(x, cols), b.tensor(weight, cols));
    let table = b.tensor(table, table.len() / POSITIONS);
    let mut all = Vec::new();
    for i in 0..times {
        let norm = Norm {
            weight: &weight,
            eps: EPS,
        };
        let rotation = Rotation {
            table: &table,
            head_dim: heads.head_dim,
        };
        let place = CachePlace {
            cache: &mut cache,
            pos: i * t,
        };
        let q = b.project_qkv(&x, norm, [&w[0], &w[1], &w[2]], rotation, &mut [place]);
        let y = b.attention_causal(&q[0], &cache, heads, i * t);
        all.extend([read(b, &q[0]), read(b, &y)]);
    }
    all
}
