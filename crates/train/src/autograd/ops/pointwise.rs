//! Sums, and functions of single numbers.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::{
    lanes::{dispatch, sigmoid},
    storage::{done, tensor_like, values, with},
};

/// `x [t, c]` plus `y [p, c]`, repeated; `t % p == 0`.
pub fn add_rows(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&y.contiguous()?, AddRows)
}

struct AddRows;

impl CustomOp2 for AddRows {
    fn name(&self) -> &'static str {
        "add rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        y: &CpuStorage,
        ly: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut out = values(x, lx)?.to_vec();
        let y = values(y, ly)?;
        dispatch(|| {
            for out in out.chunks_exact_mut(y.len()) {
                for (out, y) in out.iter_mut().zip(y) {
                    *out += y;
                }
            }
        });
        done(out, lx.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if !y.track_op() {
            return Ok((Some(grad.clone()), None));
        }
        let mut dy = vec![0f32; y.elem_count()];
        with([grad], |[grad]| {
            dispatch(|| {
                for grad in grad.chunks_exact(dy.len()) {
                    for (dy, grad) in dy.iter_mut().zip(grad) {
                        *dy += grad;
                    }
                }
            });
            Ok(())
        })?;
        Ok((
            x.track_op().then(|| grad.clone()),
            Some(tensor_like(dy, y)?),
        ))
    }
}

/// `x * sigmoid(1.702 x)`
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(QuickGelu)
}

struct QuickGelu;

const QUICK: f32 = 1.702;

impl CustomOp1 for QuickGelu {
    fn name(&self) -> &'static str {
        "quick gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = values(x, lx)?.to_vec();
        dispatch(|| {
            for x in &mut out {
                *x *= sigmoid(QUICK * *x);
            }
        });
        done(out, lx.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dx = with([x, grad], |[x, grad]| {
            let mut dx = grad.to_vec();
            dispatch(|| {
                for (dx, x) in dx.iter_mut().zip(x) {
                    let s = sigmoid(QUICK * x);
                    *dx *= s + QUICK * x * s * (1. - s);
                }
            });
            Ok(dx)
        })?;
        tensor_like(dx, x).map(Some)
    }
}

/// `silu(gate) * up`
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2(&up.contiguous()?, SiluMul)
}

struct SiluMul;

impl CustomOp2 for SiluMul {
    fn name(&self) -> &'static str {
        "silu mul"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        lg: &Layout,
        up: &CpuStorage,
        lu: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut out = values(gate, lg)?.to_vec();
        let up = values(up, lu)?;
        dispatch(|| {
            for (gate, up) in out.iter_mut().zip(up) {
                *gate *= sigmoid(*gate) * up;
            }
        });
        done(out, lg.shape())
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dgate, dup) = with([gate, up, grad], |[gate, up, grad]| {
            let (mut dgate, mut dup) = (grad.to_vec(), grad.to_vec());
            dispatch(|| {
                for i in 0..gate.len().min(up.len()).min(dgate.len()).min(dup.len()) {
                    let (gate, up) = (gate[i], up[i]);
                    let s = sigmoid(gate);
                    dgate[i] *= up * (s + gate * s * (1. - s));
                    dup[i] *= gate * s;
                }
            });
            Ok((dgate, dup))
        })?;
        Ok((Some(tensor_like(dgate, gate)?), Some(tensor_like(dup, up)?)))
    }
}
