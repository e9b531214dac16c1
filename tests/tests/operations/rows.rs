//! What happens to rows: copies, functions of numbers, norms, rotary positions, the choice of one.

use std::ops::Range;

use univi::{
    backend::{Activation, Backend, NOT_FINITE},
    sampler::Choice,
};

use crate::{Random, TOLERANCE, assert_close, read, read_ids};

pub fn check_rows<B: Backend>(b: &B) {
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

pub fn check_pointwise<B: Backend>(b: &B) {
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

pub fn check_norms<B: Backend>(b: &B) {
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

pub fn check_rope<B: Backend>(b: &B) {
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

pub fn check_choose<B: Backend>(b: &B) {
    let random = &mut Random(12);
    let choose = |logits: &[f32], choice: &Choice| {
        read_ids(b, &b.choose(&b.tensor(logits, logits.len()), choice))[0]
    };
    for cols in [1, 2, 255, 256, 257, 32000] {
        let mut logits: Vec<f32> = random.values(cols).iter().map(|x| 4.0 * x).collect();
        assert_choice(&logits, &Choice::GREEDY, choose(&logits, &Choice::GREEDY));
        // Some that are equal, among them the best, and both zeros.
        for (i, logit) in logits.iter_mut().enumerate() {
            *logit = match i % 5 {
                0 => (2.0 * *logit).round() / 2.0,
                1 => -0.0,
                _ => *logit,
            };
        }
        assert_choice(&logits, &Choice::GREEDY, choose(&logits, &Choice::GREEDY));
        for (temperature, top_k, top_p, min_p) in [
            (1.0, 0, 1.0, 0.0),
            (0.2, 0, 1.0, 0.0),
            (1.5, 40, 1.0, 0.0),
            (1.0, 0, 0.9, 0.0),
            (0.7, 20, 0.8, 0.05),
            (1.0, 1, 1.0, 0.0),
            (2.0, cols, 0.3, 0.0),
            (1e-6, 0, 0.5, 0.5),
        ] {
            for unit in [0.0, 0.31, 0.77, 0.999_999_94] {
                let choice = Choice {
                    temperature,
                    top_k,
                    top_p,
                    min_p,
                    unit,
                };
                assert_choice(&logits, &choice, choose(&logits, &choice));
            }
        }
        for damaged in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut logits = logits.clone();
            logits[cols / 2] = damaged;
            for temperature in [0.0, 1.0] {
                let choice = Choice {
                    temperature,
                    ..Choice::GREEDY
                };
                assert_eq!(choose(&logits, &choice), NOT_FINITE);
            }
        }
    }
}

/// That `found` is the choice, or would be if what was drawn were another number within rounding.
fn assert_choice(logits: &[f32], choice: &Choice, found: u32) {
    const ROUNDING: f64 = 2e-6;
    let mut ranked: Vec<(usize, f64)> = (0..)
        .zip(logits.iter().map(|&logit| f64::from(logit)))
        .collect();
    // Equal ones stay in the order of their ids.
    ranked.sort_by(|a, b| b.1.partial_cmp(&a.1).expect("finite"));
    if choice.temperature == 0.0 {
        assert_eq!(found as usize, ranked[0].0);
        return;
    }
    let best = ranked[0].1;
    let holds = [-ROUNDING, 0.0, ROUNDING].into_iter().any(|off| {
        let mut kept = ranked.clone();
        if choice.top_k > 0 {
            kept.truncate(choice.top_k);
        }
        for (_, weight) in &mut kept {
            *weight = ((*weight - best) / f64::from(choice.temperature)).exp();
        }
        let enough = (f64::from(choice.top_p) + off) * kept.iter().map(|(_, w)| w).sum::<f64>();
        let mut so_far = 0.0;
        kept.retain(|(_, weight)| {
            let is_needed = choice.top_p == 1.0 || so_far < enough;
            so_far += weight;
            is_needed && *weight >= f64::from(choice.min_p)
        });
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let before = kept.iter().filter(|(id, _)| *id < found as usize);
        let before = before.map(|(_, weight)| weight).sum::<f64>() / total;
        let own = kept.iter().find(|(id, _)| *id == found as usize);
        let unit = f64::from(choice.unit);
        own.is_some_and(|(_, weight)| {
            before - ROUNDING <= unit && unit <= before + weight / total + ROUNDING
        })
    });
    assert!(holds, "{found} of {} by {choice:?}", logits.len());
}
