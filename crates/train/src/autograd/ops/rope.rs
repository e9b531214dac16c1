//! Rotary positions.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::{
    lanes::dispatch,
    storage::{done, values},
};

/// Rotates pairs of neighbouring columns in each head of `x [t, heads * head_dim]`, row by row of
/// `turns [t, head_dim]`: as many cosines as pairs, then as many sines.
pub fn rope(x: &Tensor, turns: &Tensor, head_dim: usize) -> Result<Tensor> {
    let turns = turns.contiguous()?;
    if turns.dim(1)? != head_dim {
        bail!("a head of {head_dim} columns turns in all of them");
    }
    x.contiguous()?.apply_op2(&turns, Rope { back: false })
}

struct Rope {
    /// Turning back is how the derivative comes back.
    back: bool,
}

impl Rope {
    fn turn(&self, x: &mut [f32], turns: &[f32], width: usize, head_dim: usize) {
        let pairs = head_dim / 2;
        for (x, turns) in x.chunks_exact_mut(width).zip(turns.chunks_exact(head_dim)) {
            let (cos, sin) = turns.split_at(pairs);
            for head in x.chunks_exact_mut(head_dim) {
                for (pair, (cos, sin)) in head.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
                    let sin = if self.back { -sin } else { *sin };
                    let (a, b) = (pair[0], pair[1]);
                    pair[0] = a * cos - b * sin;
                    pair[1] = a * sin + b * cos;
                }
            }
        }
    }
}

impl CustomOp2 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        turns: &CpuStorage,
        lt: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut out = values(x, lx)?.to_vec();
        let turns = values(turns, lt)?;
        let ((_, width), (_, head_dim)) = (lx.shape().dims2()?, lt.shape().dims2()?);
        dispatch(|| self.turn(&mut out, turns, width, head_dim));
        done(out, lx.shape())
    }

    fn bwd(
        &self,
        _: &Tensor,
        turns: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let back = Rope { back: !self.back };
        Ok((
            Some(grad.contiguous()?.apply_op2_no_bwd(turns, &back)?),
            None,
        ))
    }
}
