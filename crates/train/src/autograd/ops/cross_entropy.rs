//! The loss.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::{
    lanes::{dispatch, exp, sum},
    storage::{done, tensor_like, values, with},
};

/// Returns the sum over rows of `weights[row] * -log softmax(logits [rows,
/// classes])[targets[row]]`: `[1]`.
pub fn cross_entropy(logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if targets.len() != rows
        || weights.len() != rows
        || targets.iter().any(|&t| t as usize >= classes)
    {
        bail!(
            "{} targets and {} weights for logits {rows} x {classes}",
            targets.len(),
            weights.len()
        );
    }
    if !logits.device().is_cpu() {
        let most = logits.max_keepdim(1)?.detach();
        let shifted = logits.broadcast_sub(&most)?;
        let log_sum = shifted.exp()?.sum_keepdim(1)?.log()?;
        let targets = Tensor::from_slice(targets, (rows, 1), logits.device())?;
        let weights = Tensor::from_slice(weights, (rows, 1), logits.device())?;
        let surprise = (log_sum - shifted.gather(&targets, 1)?)?;
        return surprise.mul(&weights)?.sum_all()?.reshape(1);
    }
    logits.contiguous()?.apply_op1(CrossEntropy {
        targets: targets.to_vec(),
        weights: weights.to_vec(),
    })
}

struct CrossEntropy {
    targets: Vec<u32>,
    weights: Vec<f32>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, classes) = layout.shape().dims2()?;
        let logits = values(logits, layout)?;
        let mut total = 0f64;
        dispatch(|| {
            let rows = logits
                .chunks_exact(classes)
                .zip(self.targets.iter().zip(&self.weights));
            for (row, (&target, &weight)) in rows {
                let most = row.iter().fold(f32::MIN, |a, &b| if b > a { b } else { a });
                let all = sum(classes, |i| exp(row[i] - most));
                total += (weight * (all.ln() + most - row[target as usize])) as f64;
            }
        });
        done(vec![total as f32], &1.into())
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, classes) = logits.dims2()?;
        let dx = with([logits, grad], |[logits, grad]| {
            let mut dx = logits.to_vec();
            dispatch(|| {
                let rows = dx
                    .chunks_exact_mut(classes)
                    .zip(self.targets.iter().zip(&self.weights));
                for (row, (&target, &weight)) in rows {
                    let most = row.iter().fold(f32::MIN, |a, &b| if b > a { b } else { a });
                    for x in row.iter_mut() {
                        *x = exp(*x - most);
                    }
                    let scale = weight * grad[0] / sum(classes, |i| row[i]);
                    for x in row.iter_mut() {
                        *x *= scale;
                    }
                    row[target as usize] -= weight * grad[0];
                }
            });
            Ok(dx)
        })?;
        tensor_like(dx, logits).map(Some)
    }
}
