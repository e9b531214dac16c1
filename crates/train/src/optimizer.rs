//! AdamW (arXiv 1711.05101) and Muon (arXiv 2502.16982): how parameters follow their gradients.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rayon::prelude::*;
use univi::Result;

use crate::{
    autograd::{Strided, product},
    parameters::{Parameters, candle, f32s},
};

/// A gradient for each parameter that has one.
pub type Gradients = BTreeMap<String, Vec<f32>>;

/// How fast parameters learn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Of AdamW: the change of a number in a step.
    pub adam: f32,
    /// Of Muon, for the matrices inside of blocks, scaled so that numbers change as AdamW's would;
    /// `None`: AdamW for them, too.
    pub muon: Option<f32>,
    /// What is taken off a matrix's numbers in a step, times the rate.
    pub weight_decay: f32,
}

/// What it remembers of past gradients.
#[derive(Debug, Clone, Default)]
pub struct Optimizer {
    /// For each parameter the running mean of gradients, and for AdamW that of their squares.
    pub(crate) moments: BTreeMap<String, [Vec<f32>; 2]>,
}

const ADAM_BETAS: [f32; 2] = [0.9, 0.98];
const ADAM_EPS: f32 = 1e-8;
const MUON_MOMENTUM: f32 = 0.95;
/// The size of Muon's changes beside AdamW's.
const MUON_SCALE: f32 = 0.2;

/// Whether a matrix turns one space of channels into another: those are what Muon is made for.
/// Embeddings, patches and heads look numbers up, or are looked up.
fn is_hidden(name: &str, rows: usize) -> bool {
    rows > 1 && (name.starts_with("blk.") || name.starts_with("v.blk."))
}

impl Optimizer {
    /// Moves every parameter that has a gradient; `step` counts from 0, `rates` are this step's.
    ///
    /// # Errors
    /// `Gpu` where the device fails.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        rates: Rates,
        step: u64,
    ) -> Result<()> {
        for (name, gradient) in gradients {
            self.moments
                .entry(name.clone())
                .or_insert_with(|| [vec![0.; gradient.len()], Vec::new()]);
        }
        let moments = self.moments.par_iter_mut().filter_map(|(name, moments)| {
            let gradient = gradients.get(name)?;
            Some((name, moments, gradient))
        });
        moments.try_for_each(|(name, moments, gradient)| {
            let var = parameters.var(name);
            let (rows, cols) = var.dims2().map_err(candle)?;
            let mut x = f32s(var)?;
            let decay = |rate: f32| {
                if rows > 1 {
                    1. - rate * rates.weight_decay
                } else {
                    1.
                }
            };
            match rates.muon.filter(|_| is_hidden(name, rows)) {
                Some(rate) => {
                    let change = muon(&mut moments[0], gradient, [rows, cols]);
                    let rate_here = rate * MUON_SCALE * (rows.max(cols) as f32).sqrt();
                    for (x, change) in x.iter_mut().zip(change) {
                        *x = *x * decay(rate) - rate_here * change;
                    }
                }
                None => adam(
                    &mut x,
                    moments,
                    gradient,
                    rates.adam,
                    decay(rates.adam),
                    step,
                ),
            }
            let x = Tensor::from_vec(x, (rows, cols), var.device()).map_err(candle)?;
            var.set(&x).map_err(candle)
        })
    }
}

fn adam(
    x: &mut [f32],
    moments: &mut [Vec<f32>; 2],
    gradient: &[f32],
    rate: f32,
    decay: f32,
    step: u64,
) {
    let [mean, square] = moments;
    square.resize(gradient.len(), 0.);
    let [beta1, beta2] = ADAM_BETAS;
    // The means begin at 0, and are made up for it.
    let made_up = |beta: f32| 1. - (beta as f64).powf(step as f64 + 1.) as f32;
    let (by_mean, by_square) = (1. / made_up(beta1), 1. / made_up(beta2));
    let moments = mean.iter_mut().zip(square.iter_mut());
    for ((x, gradient), (mean, square)) in x.iter_mut().zip(gradient).zip(moments) {
        *mean = beta1 * *mean + (1. - beta1) * gradient;
        *square = beta2 * *square + (1. - beta2) * gradient * gradient;
        *x = *x * decay - rate * *mean * by_mean / ((*square * by_square).sqrt() + ADAM_EPS);
    }
}

/// Polynomials `a x + b x^3 + c x^5` that one after the other bring singular values from 0.002 to 1
/// near 1, chosen as in Polar Express (arXiv 2505.16932): to between 0.68 and 1.32, with these
/// digits 1.45. Four do about what five of Muon's own do.
const POLYNOMIALS: [[f32; 3]; 4] = [
    [8.4268, -24.9361, 18.4925],
    [4.1116, -3.0591, 0.5750],
    [3.7146, -2.7781, 0.5429],
    [2.7820, -2.0749, 0.4635],
];

/// About the momentum's nearest orthogonal matrix.
fn muon(momentum: &mut [f32], gradient: &[f32], shape: [usize; 2]) -> Vec<f32> {
    let nesterov = momentum
        .iter_mut()
        .zip(gradient)
        .map(|(momentum, gradient)| {
            *momentum = MUON_MOMENTUM * *momentum + gradient;
            gradient + MUON_MOMENTUM * *momentum
        });
    orthogonal(nesterov.collect(), shape)
}

fn view(data: &[f32], rows: usize, cols: usize) -> Strided<'_> {
    Strided {
        data,
        row_stride: rows,
        col_stride: cols,
    }
}

/// `x` with all its singular values near 1, where they are no less than 0.002 of its Frobenius
/// norm.
///
/// Polynomials of x x' commute, so they are multiplied with each other, and with x in the end
/// alone: six tenths of the products' work for a matrix of four times as many columns as rows, a
/// quarter more for a square one.
fn orthogonal(mut x: Vec<f32>, [rows, cols]: [usize; 2]) -> Vec<f32> {
    let size = x.iter().map(|x| x * x).sum::<f32>().sqrt() + 1e-7;
    x.iter_mut().for_each(|x| *x /= size);
    // The smaller square is the cheaper one: x x' for a wide matrix, x' x for a tall one.
    let wide = rows <= cols;
    let n = rows.min(cols);
    let plain = view(&x, cols, 1);
    let turned = view(&x, 1, cols);
    let times = |a: &[f32], b: &[f32]| {
        let mut out = vec![0.; n * n];
        product(
            [n, n, n],
            &mut out,
            n,
            false,
            view(a, n, 1),
            view(b, n, 1),
            1.,
        );
        out
    };
    let mut square = vec![0.; n * n];
    match wide {
        true => product([n, n, cols], &mut square, n, false, plain, turned, 1.),
        false => product([n, n, rows], &mut square, n, false, turned, plain, 1.),
    }
    let mut all: Option<Vec<f32>> = None;
    for (i, [a, b, c]) in POLYNOMIALS.into_iter().enumerate() {
        let mut factor = times(&square, &square);
        for (factor, square) in factor.iter_mut().zip(&square) {
            *factor = c * *factor + b * square;
        }
        factor.iter_mut().step_by(n + 1).for_each(|x| *x += a);
        if i + 1 < POLYNOMIALS.len() {
            square = times(&times(&square, &factor), &factor);
        }
        all = Some(match all {
            Some(all) => times(&all, &factor),
            None => factor,
        });
    }
    let all = all.expect("there are polynomials");
    let all = view(&all, n, 1);
    let mut out = vec![0.; x.len()];
    match wide {
        true => product([rows, cols, n], &mut out, cols, false, all, plain, 1.),
        false => product([rows, cols, n], &mut out, cols, false, plain, all, 1.),
    }
    out
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn singular_values_come_near_1() {
        for value in (2..=1000).map(|thousandths| thousandths as f32 / 1000.) {
            let found = POLYNOMIALS.iter().fold(value, |x, [a, b, c]| {
                x * (a + b * x.powi(2) + c * x.powi(4))
            });
            assert!((0.67..1.46).contains(&found), "{value}: {found}");
        }
    }

    /// Rows of a wide matrix, columns of a tall one, come out near length 1 and near right angles
    /// to each other.
    #[test]
    fn a_matrix_is_made_orthogonal() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for [rows, cols] in [[40, 100], [100, 40], [40, 160]] {
            let x: Vec<f32> = (0..rows * cols)
                .map(|_| rng.random_range(-1. ..1.))
                .collect();
            let y = orthogonal(x.clone(), [rows, cols]);
            let n = rows.min(cols);
            let at = |m: &[f32], i: usize, k: usize| match rows <= cols {
                true => m[i * cols + k],
                false => m[k * cols + i],
            };
            let dot = |a: &[f32], i: usize, b: &[f32], j: usize| -> f32 {
                (0..rows.max(cols)).map(|k| at(a, i, k) * at(b, j, k)).sum()
            };
            let mut off = 0.;
            for i in 0..n {
                let length = dot(&y, i, &y, i).sqrt();
                assert!(
                    (0.68..1.32).contains(&length),
                    "{rows} x {cols}, {i}: {length}"
                );
                off += (0..i).map(|j| dot(&y, i, &y, j).powi(2)).sum::<f32>();
                // It still points where it did.
                assert!(dot(&x, i, &y, i) > 0.);
            }
            let off = (2. * off / (n * n) as f32).sqrt();
            assert!(off < 0.1, "{rows} x {cols}: {off}");
        }
    }
}
