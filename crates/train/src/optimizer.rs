//! AdamW (arXiv 1711.05101) and Muon (arXiv 2502.16982): how parameters follow their gradients.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rayon::prelude::*;
use univi::Result;

use crate::{
    autograd::{View, product},
    parameters::{Parameters, candle, numbers},
};

/// A gradient for each parameter that has one.
pub type Gradients = BTreeMap<String, Vec<f32>>;

/// How fast parameters learn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Of AdamW: the change of a number in a step.
    pub adam: f32,
    /// Of Muon, for the matrices inside of blocks, scaled so that numbers change as AdamW's would; `None`: AdamW for
    /// them, too.
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

/// Whether a matrix turns one space of channels into another: those are what Muon is made for. Embeddings, patches and
/// heads look numbers up, or are looked up.
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
            let mut x = numbers(var)?;
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

/// The momentum's nearest orthogonal matrix, by five steps of a Newton-Schulz iteration.
fn muon(momentum: &mut [f32], gradient: &[f32], [rows, cols]: [usize; 2]) -> Vec<f32> {
    let mut x: Vec<f32> = momentum
        .iter_mut()
        .zip(gradient)
        .map(|(momentum, gradient)| {
            *momentum = MUON_MOMENTUM * *momentum + gradient;
            gradient + MUON_MOMENTUM * *momentum
        })
        .collect();
    let size = x.iter().map(|x| x * x).sum::<f32>().sqrt() + 1e-7;
    x.iter_mut().for_each(|x| *x /= size);
    // The smaller square is the cheaper one: x x' for a wide matrix, x' x for a tall one.
    let wide = rows <= cols;
    let n = rows.min(cols);
    let (mut square, mut fourth) = (vec![0.; n * n], vec![0.; n * n]);
    let mut next = vec![0.; x.len()];
    const COEFFICIENTS: [f32; 3] = [3.4445, -4.775, 2.0315];
    for _ in 0..5 {
        let plain = View {
            data: &x,
            rows: cols,
            cols: 1,
        };
        let turned = View {
            data: &x,
            rows: 1,
            cols,
        };
        match wide {
            true => product([n, n, cols], &mut square, n, false, plain, turned, 1.),
            false => product([n, n, rows], &mut square, n, false, turned, plain, 1.),
        }
        let s = View {
            data: &square,
            rows: n,
            cols: 1,
        };
        product([n, n, n], &mut fourth, n, false, s, s, COEFFICIENTS[2]);
        for (fourth, square) in fourth.iter_mut().zip(&square) {
            *fourth += COEFFICIENTS[1] * square;
        }
        let f = View {
            data: &fourth,
            rows: n,
            cols: 1,
        };
        match wide {
            true => product([rows, cols, n], &mut next, cols, false, f, plain, 1.),
            false => product([rows, cols, n], &mut next, cols, false, plain, f, 1.),
        }
        for (x, next) in x.iter_mut().zip(&next) {
            *x = COEFFICIENTS[0] * *x + next;
        }
    }
    x
}
