//! Norms of rows.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::{
    lanes::{dispatch, sum},
    storage::{done, tensor_like, values, with},
};

/// Each row to mean 0 and variance 1, times `weight`, plus `bias` (`[1, c]`).
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let (weight, bias) = (weight.contiguous()?, bias.contiguous()?);
    x.contiguous()?.apply_op3(&weight, &bias, LayerNorm { eps })
}

struct LayerNorm {
    eps: f32,
}

/// A row's mean, and one over its deviation.
#[inline(always)]
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum(x.len(), |i| x[i]) / n;
    let variance = sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / n;
    (mean, 1. / (variance + eps).sqrt())
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut out = values(x, lx)?.to_vec();
        let (w, b) = (values(w, lw)?, values(b, lb)?);
        dispatch(|| {
            for x in out.chunks_exact_mut(w.len()) {
                let (mean, scale) = moments(x, self.eps);
                for ((x, w), b) in x.iter_mut().zip(w).zip(b) {
                    *x = (*x - mean) * scale * w + b;
                }
            }
        });
        done(out, lx.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let c = w.elem_count();
        let (mut dw, mut db) = (vec![0f32; c], vec![0f32; c]);
        let dx = with([x, w, grad], |[x, w, grad]| {
            let mut dx = vec![0f32; x.len()];
            dispatch(|| {
                let rows = x.chunks_exact(c).zip(grad.chunks_exact(c));
                for ((x, grad), dx) in rows.zip(dx.chunks_exact_mut(c)) {
                    let (mean, scale) = moments(x, self.eps);
                    let g = sum(c, |i| grad[i] * w[i]) / c as f32;
                    let gx = sum(c, |i| grad[i] * w[i] * (x[i] - mean)) * scale / c as f32;
                    for i in 0..c {
                        let normed = (x[i] - mean) * scale;
                        dx[i] = (grad[i] * w[i] - g - normed * gx) * scale;
                        dw[i] += grad[i] * normed;
                        db[i] += grad[i];
                    }
                }
            });
            Ok(dx)
        })?;
        Ok((
            Some(tensor_like(dx, x)?),
            Some(tensor_like(dw, w)?),
            Some(tensor_like(db, b)?),
        ))
    }
}

/// `x / sqrt(mean(x^2) + eps) * weight` per row; `weight: [1, c]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?
        .apply_op2(&weight.contiguous()?, RmsNorm { eps })
}

struct RmsNorm {
    eps: f32,
}

#[inline(always)]
fn rms_scale(x: &[f32], eps: f32) -> f32 {
    1. / (sum(x.len(), |i| x[i] * x[i]) / x.len() as f32 + eps).sqrt()
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut out = values(x, lx)?.to_vec();
        let w = values(w, lw)?;
        dispatch(|| {
            for x in out.chunks_exact_mut(w.len()) {
                let scale = rms_scale(x, self.eps);
                for (x, w) in x.iter_mut().zip(w) {
                    *x *= scale * w;
                }
            }
        });
        done(out, lx.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let c = w.elem_count();
        let mut dw = vec![0f32; c];
        let dx = with([x, w, grad], |[x, w, grad]| {
            let mut dx = vec![0f32; x.len()];
            dispatch(|| {
                let rows = x.chunks_exact(c).zip(grad.chunks_exact(c));
                for ((x, grad), dx) in rows.zip(dx.chunks_exact_mut(c)) {
                    let scale = rms_scale(x, self.eps);
                    let gx = sum(c, |i| grad[i] * w[i] * x[i]) * scale * scale / c as f32;
                    for i in 0..c {
                        dx[i] = (grad[i] * w[i] - x[i] * gx) * scale;
                        dw[i] += grad[i] * x[i] * scale;
                    }
                }
            });
            Ok(dx)
        })?;
        Ok((Some(tensor_like(dx, x)?), Some(tensor_like(dw, w)?)))
    }
}
