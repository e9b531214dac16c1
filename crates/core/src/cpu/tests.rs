//! That training can differentiate what inference computes, and that what takes a shorter way
//! computes the same.

use candle_core::{Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Cpu, KvCache, Matrix,
    panel_products::panel_products,
    row_products::{MOST_ROWS, row_products},
    values::f32s,
};
use crate::{
    Result,
    backend::{Activation, Backend, Clusters, Heads, KvType},
    gguf::GgmlType,
    sampler::Choice,
};

/// Central differences in f32 are no better than this, relative to the largest part of a gradient.
const GRADIENT_TOLERANCE: f32 = 2e-2;

/// How far a parameter moves for a difference.
const STEP: f32 = 1e-2;

/// Numbers without any pattern, from -1 to 1.
fn scattered(count: usize, seed: u32) -> Vec<f32> {
    let hash = |i: u32| {
        (i.wrapping_add(seed))
            .wrapping_mul(2654435761)
            .rotate_left(13)
            .wrapping_mul(2246822519)
    };
    (0..count as u32)
        .map(|i| (hash(i) >> 8) as f32 / (1 << 23) as f32 - 1.)
        .collect()
}

/// Compares the gradient of `loss` at random parameters of this shape with differences.
fn check_gradient(what: &str, shape: (usize, usize), loss: impl Fn(&Tensor) -> Tensor) {
    let start = scattered(shape.0 * shape.1, 1);
    let value = |values: &[f32]| {
        let x = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        loss(&x).to_scalar::<f32>().unwrap()
    };
    let var = Var::from_tensor(&Tensor::from_slice(&start, shape, &Device::Cpu).unwrap()).unwrap();
    let gradients = loss(var.as_tensor()).backward().unwrap();
    let gradient = gradients
        .get(&var)
        .unwrap_or_else(|| panic!("{what}: no gradient came through"));
    let gradient = f32s(gradient).unwrap();
    let size = gradient.iter().fold(0f32, |size, g| size.max(g.abs()));
    assert!(size > 1e-3, "{what}: the gradient vanishes");
    for i in 0..start.len() {
        let moved = |by: f32| {
            let mut values = start.clone();
            values[i] += by;
            value(&values)
        };
        let expected = (moved(STEP) - moved(-STEP)) / (2. * STEP);
        let error = (gradient[i] - expected).abs() / size;
        assert!(
            error < GRADIENT_TOLERANCE,
            "{what} at {i}: {}, expected {expected}",
            gradient[i]
        );
    }
}

/// A number in which every element of `x` counts differently.
fn weigh(x: &Tensor) -> Tensor {
    let weights = Tensor::from_vec(scattered(x.elem_count(), 9), x.dims(), &Device::Cpu).unwrap();
    (x * weights).and_then(|x| x.sum_all()).unwrap()
}

fn constant(rows: usize, cols: usize, seed: u32) -> Tensor {
    Cpu.tensor(&scattered(rows * cols, seed), cols)
}

const HEADS: Heads = Heads {
    heads: 4,
    kv_heads: 2,
    head_dim: 4,
};

/// Room for so many positions of two heads.
fn cache(positions: usize) -> KvCache {
    let mut cache = Cpu.kv_cache(8, positions, KvType::F32);
    pollster::block_on(Cpu.reserve(&mut cache, positions)).unwrap();
    cache
}

#[test]
fn gradients_reach_weights() {
    let x = constant(3, 8, 2);
    check_gradient("matmul", (5, 8), |w| {
        weigh(&Cpu.matmul(&x, &Matrix::Plain(w.clone())))
    });
    let ids = Cpu.ids(&[1, 4, 1]);
    check_gradient("embed", (5, 8), |w| {
        weigh(&Cpu.embed(&Matrix::Plain(w.clone()), &ids))
    });
    check_gradient("weight of a norm", (1, 8), |w| {
        weigh(&Cpu.rms_norm(&x, w, 1e-5))
    });
}

#[test]
fn gradients_pass_through() {
    let stored = {
        let mut matrix = Cpu.alloc_matrix(GgmlType::F32, 5, 8).unwrap();
        Cpu.write_matrix(&mut matrix, 0, bytemuck::cast_slice(&scattered(40, 3)));
        matrix
    };
    check_gradient("a stored matrix", (3, 8), |x| {
        weigh(&Cpu.matmul(x, &stored))
    });
    let (one, bias) = (constant(1, 8, 4), constant(1, 8, 5));
    check_gradient("rms_norm", (3, 8), |x| weigh(&Cpu.rms_norm(x, &one, 1e-5)));
    check_gradient("layer_norm", (3, 8), |x| {
        weigh(&Cpu.layer_norm(x, &one, &bias, 1e-5))
    });
    check_gradient("add", (1, 8), |x| weigh(&Cpu.add(&constant(3, 8, 6), x)));
    check_gradient("quick gelu", (3, 8), |x| {
        weigh(&Cpu.activate(x, Activation::QuickGelu))
    });
    check_gradient("gelu", (3, 8), |x| {
        weigh(&Cpu.activate(x, Activation::Gelu))
    });
    let up = constant(3, 8, 7);
    check_gradient("silu_mul", (3, 8), |x| weigh(&Cpu.silu_mul(x, &up)));
    check_gradient("mean", (4, 8), |x| weigh(&Cpu.mean(x, 2)));
    check_gradient("gather", (4, 8), |x| {
        weigh(&Cpu.gather(x, &Cpu.ids(&[2, 0, 2])))
    });
    check_gradient("slice and concat", (4, 8), |x| {
        weigh(&Cpu.concat(&[&Cpu.slice(x, 1..3), x]))
    });
    let table = constant(7, 4, 8);
    check_gradient("rope", (3, 16), |x| weigh(&Cpu.rope(x, &table, 8, 2)));
    let groups = Cpu.ids(&[0, 1, 1, 2, 0, 2]);
    check_gradient("merge", (6, 8), |x| weigh(&Cpu.merge(x, &groups, 2, 3)));
}

#[test]
fn gradients_pass_through_attention() {
    let (q, kv) = (constant(6, 16, 2), constant(6, 8, 3));
    check_gradient("queries", (6, 16), |q| {
        weigh(&Cpu.attention(q, &kv, &kv, HEADS, 2))
    });
    check_gradient("keys", (6, 8), |k| {
        weigh(&Cpu.attention(&q, k, &kv, HEADS, 2))
    });
    check_gradient("values", (6, 8), |v| {
        weigh(&Cpu.attention(&q, &kv, v, HEADS, 2))
    });

    let causal = |k: &Tensor, v: &Tensor| {
        let mut cache = cache(9);
        Cpu.append(&mut cache, 0, k, v);
        weigh(&Cpu.attention_causal(&q, &cache, HEADS, 0))
    };
    check_gradient("keys of a cache", (6, 8), |k| causal(k, &kv));
    check_gradient("values of a cache", (6, 8), |v| causal(&kv, v));
}

#[test]
fn a_cache_continues_where_it_was() {
    let (q, k, v) = (constant(6, 16, 2), constant(6, 8, 3), constant(6, 8, 4));
    let whole = {
        let mut cache = cache(6);
        Cpu.append(&mut cache, 0, &k, &v);
        f32s(&Cpu.attention_causal(&q, &cache, HEADS, 0)).unwrap()
    };
    let mut cache = cache(6);
    // What is written over is forgotten.
    Cpu.append(&mut cache, 0, &v, &k);
    let mut parts = Vec::new();
    for rows in [0..2, 2..3, 3..6] {
        let pos = rows.start;
        Cpu.append(
            &mut cache,
            pos,
            &Cpu.slice(&k, rows.clone()),
            &Cpu.slice(&v, rows.clone()),
        );
        parts
            .extend(f32s(&Cpu.attention_causal(&Cpu.slice(&q, rows), &cache, HEADS, pos)).unwrap());
    }
    for (part, whole) in parts.iter().zip(&whole) {
        assert!((part - whole).abs() < 1e-6, "{part}, expected {whole}");
    }
}

#[test]
fn ties_go_to_the_first() {
    let x = Cpu.tensor(&[1., 3., 3.], 3);
    let first = Cpu.choose(&x, &Choice::GREEDY);
    assert_eq!(first.to_vec1::<u32>().unwrap(), [1]);

    // Four equal tokens, then two others: everything about the first four ties.
    let x = Cpu.tensor(&[0., 0., 0., 0., 0., 0., 0., 0., 5., 5., 9., 9.], 2);
    let Clusters { centres, groups } = Cpu.dpc_knn(&x, 1, 3, 1, None);
    assert_eq!(centres.to_vec1::<u32>().unwrap(), [0, 4, 5]);
    assert_eq!(groups.to_vec1::<u32>().unwrap(), [0, 0, 0, 0, 1, 2]);
}

#[test]
fn no_room_is_an_error() {
    let code = |result: Result<()>| result.err().map(|error| error.code());
    for ty in [KvType::F32, KvType::Q8] {
        let grown = |width, positions| {
            let mut cache = Cpu.kv_cache(width, positions, ty);
            pollster::block_on(Cpu.reserve(&mut cache, positions))
        };
        assert_eq!(code(grown(1 << 50, 8)), Some("out-of-memory"));
        assert_eq!(code(grown(1 << 30, 1 << 30)), Some("out-of-memory"));
    }
    assert_eq!(
        code(Cpu.alloc_matrix(GgmlType::F32, 1 << 30, 1 << 30).map(drop)),
        Some("out-of-memory")
    );
}

#[test]
fn what_is_not_differentiated_is_computed_alike() {
    // What a variable enters is composed of candle's operations.
    let tracked = |x: &Tensor| Var::from_tensor(x).unwrap().into_inner();
    let alike = |what: &str, found: &Tensor, expected: &Tensor| {
        assert!(
            !found.track_op() && expected.track_op(),
            "{what} is no comparison"
        );
        assert_eq!(found.dims(), expected.dims(), "{what}");
        let (found, expected) = (f32s(found).unwrap(), f32s(expected).unwrap());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let error = (found - expected).abs();
            assert!(
                error <= 2e-6 * (1. + expected.abs()),
                "{what}: {found} at {i}, expected {expected}"
            );
        }
    };
    for (rows, cols) in [(1, 8), (3, 40), (9, 64)] {
        let (x, y) = (constant(rows, cols, 1), constant(rows, cols, 2));
        let (weight, bias) = (constant(1, cols, 3), constant(1, cols, 4));
        let t = tracked(&x);
        alike(
            "rms_norm",
            &Cpu.rms_norm(&x, &weight, 1e-5),
            &Cpu.rms_norm(&t, &weight, 1e-5),
        );
        alike(
            "layer_norm",
            &Cpu.layer_norm(&x, &weight, &bias, 1e-5),
            &Cpu.layer_norm(&t, &weight, &bias, 1e-5),
        );
        alike("silu_mul", &Cpu.silu_mul(&x, &y), &Cpu.silu_mul(&t, &y));
        alike(
            "quick gelu",
            &Cpu.activate(&x, Activation::QuickGelu),
            &Cpu.activate(&t, Activation::QuickGelu),
        );
        for rotary in [4, 8] {
            let table = constant(rows + 2, rotary, 5);
            alike(
                "rope",
                &Cpu.rope(&x, &table, 8, 2),
                &Cpu.rope(&t, &table, 8, 2),
            );
        }
    }
    for (kv_heads, head_dim) in [(4, 4), (2, 36), (1, 64)] {
        let heads = Heads {
            heads: 4,
            kv_heads,
            head_dim,
        };
        let (width, kv_width) = (4 * head_dim, kv_heads * head_dim);
        for (queries, keys) in [
            (1, 1),
            (1, 9),
            (5, 9),
            (8, 300),
            (9, 9),
            (49, 65),
            (60, 130),
        ] {
            let q = constant(queries, width, 1);
            let (k, v) = (constant(keys, kv_width, 2), constant(keys, kv_width, 3));
            alike(
                "attention",
                &Cpu.attention(&q, &k, &v, heads, 1),
                &Cpu.attention(&tracked(&q), &k, &v, heads, 1),
            );
            let mut cache = Cpu.kv_cache(kv_width, keys, KvType::F32);
            pollster::block_on(Cpu.reserve(&mut cache, keys)).unwrap();
            Cpu.append(&mut cache, 0, &k, &v);
            let pos = keys - queries;
            alike(
                "attention_causal",
                &Cpu.attention_causal(&q, &cache, heads, pos),
                &Cpu.attention_causal(&tracked(&q), &cache, heads, pos),
            );
        }
        for rows in [3, 9, 50] {
            let q = constant(3 * rows, width, 1);
            let (k, v) = (
                constant(3 * rows, kv_width, 2),
                constant(3 * rows, kv_width, 3),
            );
            alike(
                "attention of three",
                &Cpu.attention(&q, &k, &v, heads, 3),
                &Cpu.attention(&tracked(&q), &k, &v, heads, 3),
            );
        }
    }
}

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

/// Products of stored weights with `t` rows of activations, as [`Matrix::matmul`] chooses.
fn products(ty: GgmlType, weights: &[u8], row_bytes: usize, x: &[f32], cols: usize) -> Vec<f32> {
    if x.len() / cols <= MOST_ROWS {
        row_products(ty, weights, row_bytes, x, cols)
    } else {
        panel_products(ty, weights, row_bytes, x, cols)
    }
}

#[test]
fn products_are_those_of_dequantized_rows() {
    for ty in GgmlType::ALL {
        // Whole pieces and a part of one, and rows that fill no vector.
        let widths: &[usize] = match ty.block_len() {
            1 => &[1, 7, 255, 600],
            32 => &[32, 256, 608],
            _ => &[256, 768],
        };
        for &cols in widths {
            // More than a thread takes at a time, and a last panel that is not full.
            let rows = 70;
            let weights = stored(ty, rows * cols);
            let mut numbers = vec![0.; rows * cols];
            ty.dequantize(&weights, &mut numbers);
            for t in [1, 2, 7, MOST_ROWS, MOST_ROWS + 1, 23] {
                let x = scattered(t * cols, 5);
                let found = products(ty, &weights, weights.len() / rows, &x, cols);
                assert_eq!(found.len(), rows * t);
                for (i, found) in found.iter().enumerate() {
                    let row = &numbers[i % rows * cols..][..cols];
                    let products = row
                        .iter()
                        .zip(&x[i / rows * cols..])
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

#[test]
fn results_do_not_depend_on_threads() {
    let (ty, cols, rows) = (GgmlType::Q4_1, 1024, 300);
    let weights = stored(ty, rows * cols);
    let heads = Heads {
        heads: 6,
        kv_heads: 3,
        head_dim: 32,
    };
    let (k, v) = (constant(130, 96, 2), constant(130, 96, 3));
    let on_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let product = |t: usize| {
                let x = scattered(t * cols, 5);
                products(ty, &weights, weights.len() / rows, &x, cols)
            };
            let attention =
                |t: usize| f32s(&Cpu.attention(&constant(t, 192, 1), &k, &v, heads, 1)).unwrap();
            [
                product(1),
                product(5),
                product(60),
                attention(1),
                attention(130),
            ]
        })
    };
    let alone = on_threads(1);
    for threads in [2, 3, 7] {
        assert!(on_threads(threads) == alone, "{threads} threads");
    }
}
