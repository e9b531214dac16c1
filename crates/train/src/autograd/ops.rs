//! Fused operations on the CPU with their derivatives.
//!
//! candle differentiates compositions, each step with a tensor and a pass over memory of its own.
//! Each operation here reads its inputs once, forward and backward.
//! Loops run in lanes, so that the compiler turns them into the widest vectors that the processor
//! has.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail,
};
use univi::backend::Heads;

use super::packing::{Packing, Rows};

/// Floats that a loop adds up side by side.
const LANES: usize = 16;

/// Runs `work` compiled for the processor that is there.
fn dispatch<T>(work: impl FnOnce() -> T) -> T {
    pulp::Arch::new().dispatch(work)
}

/// The numbers of a contiguous operand.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("an operand of a fused operation is not contiguous"),
    }
}

/// Calls `work` with the numbers of tensors.
fn with<const N: usize, T>(
    tensors: [&Tensor; N],
    work: impl FnOnce([&[f32]; N]) -> Result<T>,
) -> Result<T> {
    let tensors = tensors.map(Tensor::contiguous);
    let mut held = Vec::with_capacity(N);
    for tensor in &tensors {
        match tensor {
            Ok(tensor) => held.push(tensor.storage_and_layout()),
            Err(error) => bail!("{error}"),
        }
    }
    let mut slices = [&[] as &[f32]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&held) {
        match &**storage {
            Storage::Cpu(storage) => *slice = values(storage, layout)?,
            _ => bail!("a fused operation runs on the CPU"),
        }
    }
    work(slices)
}

fn tensor_like(data: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), like.device())
}

fn done(data: Vec<f32>, shape: &Shape) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(data), shape.clone()))
}

/// `e^x`, to a relative error of 2e-7 where the result is a normal number: `2^n` times a
/// polynomial.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87., 88.);
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.) - 12_582_912.; // Rounds: 1.5 * 2^23.
    // ln 2 in two parts, so that what is taken away is exact.
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = p * r + c;
    }
    let p = p * r * r + r + 1.;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1. / (1. + exp(-x))
}

/// The sum of `f(i)`, in lanes.
#[inline(always)]
fn sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(i + lane);
        }
        i += LANES;
    }
    let mut rest = 0.;
    while i < n {
        rest += f(i);
        i += 1;
    }
    lanes.iter().sum::<f32>() + rest
}

/// A view of a matrix: where it begins, and how far apart its rows and columns are.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}

/// `out[i, j] (+)= scale * sum over l of a[i, l] b[l, j]`; strides are `(row, column)`.
pub(crate) fn product(
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    out_row: usize,
    add: bool,
    a: Strided,
    b: Strided,
    scale: f32,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let last = |view: Strided, rows: usize, cols: usize| {
        (rows - 1) * view.row_stride + (cols - 1) * view.col_stride < view.data.len()
    };
    assert!(last(a, m, k) && last(b, k, n) && (m - 1) * out_row + n <= out.len());
    // SAFETY: the assertion above keeps every index inside its slice, and `out` is borrowed alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_row as isize,
            add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `x [t, k]` times the transpose of `w [n, k]`.
pub fn matmul(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(w, MatMul)
}

struct MatMul;

impl CustomOp2 for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((t, k), (n, _)) = (lx.shape().dims2()?, lw.shape().dims2()?);
        let mut out = vec![0.; t * n];
        let (x, w) = (values(x, lx)?, values(w, lw)?);
        let x = Strided {
            data: x,
            row_stride: k,
            col_stride: 1,
        };
        product(
            [t, n, k],
            &mut out,
            n,
            false,
            x,
            Strided {
                data: w,
                row_stride: 1,
                col_stride: k,
            },
            1.,
        );
        done(out, &(t, n).into())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((t, k), (n, _)) = (x.dims2()?, w.dims2()?);
        with([x, w, grad], |[xs, ws, gs]| {
            let g = Strided {
                data: gs,
                row_stride: n,
                col_stride: 1,
            };
            let mut dx = None;
            if x.track_op() {
                let mut out = vec![0.; t * k];
                product(
                    [t, k, n],
                    &mut out,
                    k,
                    false,
                    g,
                    Strided {
                        data: ws,
                        row_stride: k,
                        col_stride: 1,
                    },
                    1.,
                );
                dx = Some(tensor_like(out, x)?);
            }
            let mut dw = None;
            if w.track_op() {
                let mut out = vec![0.; n * k];
                let g = Strided {
                    data: gs,
                    row_stride: 1,
                    col_stride: n,
                };
                product(
                    [n, k, t],
                    &mut out,
                    k,
                    false,
                    g,
                    Strided {
                        data: xs,
                        row_stride: k,
                        col_stride: 1,
                    },
                    1.,
                );
                dw = Some(tensor_like(out, w)?);
            }
            Ok((dx, dw))
        })
    }
}

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

/// Which rows see which.
pub enum AttentionPattern {
    /// Everybody everybody, within each of so many equal runs.
    Runs(usize),
    /// As the packing says.
    Packed(Arc<Packing>),
}

impl AttentionPattern {
    /// Blocks of rows that share what they see, and the blocks inside in which only what came
    /// before is seen.
    fn blocks(&self, rows: usize) -> Vec<Block> {
        match self {
            AttentionPattern::Runs(runs) => {
                let n = rows / runs;
                let run = |i| Block {
                    queries: i * n..(i + 1) * n,
                    shared: i * n..(i + 1) * n,
                    own: Vec::new(),
                };
                (0..*runs).map(run).collect()
            }
            AttentionPattern::Packed(packing) => {
                let blocks = packing.sequences().flat_map(|Rows { prefix, questions }| {
                    let first = Block {
                        queries: prefix.clone(),
                        shared: prefix.start..prefix.start,
                        own: vec![prefix.clone()],
                    };
                    let end = questions.last().map_or(prefix.end, |question| question.end);
                    let then = Block {
                        queries: prefix.end..end,
                        shared: prefix,
                        own: questions,
                    };
                    [first, then]
                });
                blocks.filter(|block| !block.queries.is_empty()).collect()
            }
        }
    }
}

/// Queries that all see `shared`, and of the one range in `own` that they are in what comes before
/// them.
struct Block {
    queries: std::ops::Range<usize>,
    shared: std::ops::Range<usize>,
    own: Vec<std::ops::Range<usize>>,
}

/// Softmax of `q k' / sqrt(head_dim)`, times `v`, over what each row sees.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    pattern: AttentionPattern,
) -> Result<Tensor> {
    let op = Attention {
        blocks: pattern.blocks(q.dim(0)?),
        heads,
    };
    q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

struct Attention {
    blocks: Vec<Block>,
    heads: Heads,
}

/// One head of `q`, `k` and `v`, and where its rows begin.
#[derive(Clone, Copy)]
struct Head<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    q_width: usize,
    kv_width: usize,
    q_col: usize,
    kv_col: usize,
}

impl<'a> Head<'a> {
    fn rows(data: &'a [f32], row: usize, width: usize, col: usize) -> Strided<'a> {
        Strided {
            data: &data[row * width + col..],
            row_stride: width,
            col_stride: 1,
        }
    }

    fn q(&self, row: usize) -> Strided<'a> {
        Head::rows(self.q, row, self.q_width, self.q_col)
    }

    fn k(&self, row: usize) -> Strided<'a> {
        Head::rows(self.k, row, self.kv_width, self.kv_col)
    }

    fn v(&self, row: usize) -> Strided<'a> {
        Head::rows(self.v, row, self.kv_width, self.kv_col)
    }
}

fn transposed(view: Strided) -> Strided {
    Strided {
        data: view.data,
        row_stride: view.col_stride,
        col_stride: view.row_stride,
    }
}

impl Attention {
    fn heads<'a>(
        &self,
        q: &'a [f32],
        k: &'a [f32],
        v: &'a [f32],
    ) -> impl Iterator<Item = Head<'a>> {
        let Heads {
            heads,
            kv_heads,
            head_dim,
        } = self.heads;
        (0..heads).map(move |head| Head {
            q,
            k,
            v,
            q_width: heads * head_dim,
            kv_width: kv_heads * head_dim,
            q_col: head * head_dim,
            kv_col: head / (heads / kv_heads) * head_dim,
        })
    }

    /// Columns of a block's scores: what is shared, then as many as its longest own range.
    fn cols(block: &Block) -> usize {
        block.shared.len() + block.own.iter().map(|own| own.len()).max().unwrap_or(0)
    }

    /// Calls `each` for what the rows of a block see: (queries, keys, first column of the scores).
    fn parts(
        block: &Block,
        mut each: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>, usize),
    ) {
        if !block.shared.is_empty() {
            each(block.queries.clone(), block.shared.clone(), 0);
        }
        for own in &block.own {
            each(own.clone(), own.clone(), block.shared.len());
        }
    }

    /// The weights `[queries, cols]` of a block in one head; 0 where nothing is seen.
    fn weights(&self, block: &Block, head: Head, out: &mut Vec<f32>) {
        let d = self.heads.head_dim;
        let cols = Attention::cols(block);
        out.clear();
        out.resize(block.queries.len() * cols, 0.);
        let scale = (d as f32).powf(-0.5);
        Attention::parts(block, |queries, keys, col| {
            let start = (queries.start - block.queries.start) * cols + col;
            let size = [queries.len(), keys.len(), d];
            let k = transposed(head.k(keys.start));
            product(
                size,
                &mut out[start..],
                cols,
                false,
                head.q(queries.start),
                k,
                scale,
            );
        });
        let shared = block.shared.len();
        let mut softmax = |row: usize, seen: usize| {
            let scores = &mut out[row * cols..(row + 1) * cols];
            let (scores, unseen) = scores.split_at_mut(seen);
            let mut lanes = [f32::MIN; LANES];
            let whole = scores.len() / LANES * LANES;
            for scores in scores[..whole].chunks_exact(LANES) {
                for (most, score) in lanes.iter_mut().zip(scores) {
                    *most = if *score > *most { *score } else { *most };
                }
            }
            let most = lanes
                .iter()
                .chain(&scores[whole..])
                .fold(f32::MIN, |a, &b| if b > a { b } else { a });
            for score in scores.iter_mut() {
                *score = exp(*score - most);
            }
            let all = sum(scores.len(), |i| scores[i]);
            for score in scores.iter_mut() {
                *score /= all;
            }
            unseen.fill(0.);
        };
        dispatch(|| match &block.own[..] {
            [] => (0..block.queries.len()).for_each(|row| softmax(row, shared)),
            own => {
                for own in own {
                    for (i, row) in own.clone().enumerate() {
                        softmax(row - block.queries.start, shared + i + 1);
                    }
                }
            }
        });
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (values(q, lq)?, values(k, lk)?, values(v, lv)?);
        let mut out = vec![0.; q.len()];
        let mut weights = Vec::new();
        for block in &self.blocks {
            let cols = Attention::cols(block);
            for head in self.heads(q, k, v) {
                self.weights(block, head, &mut weights);
                Attention::parts(block, |queries, keys, col| {
                    let w = &weights[(queries.start - block.queries.start) * cols + col..];
                    let w = Strided {
                        data: w,
                        row_stride: cols,
                        col_stride: 1,
                    };
                    let size = [queries.len(), self.heads.head_dim, keys.len()];
                    let at = queries.start * head.q_width + head.q_col;
                    product(
                        size,
                        &mut out[at..],
                        head.q_width,
                        true,
                        w,
                        head.v(keys.start),
                        1.,
                    );
                });
            }
        }
        done(out, lq.shape())
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let d = self.heads.head_dim;
        let scale = (d as f32).powf(-0.5);
        let (dq, dk, dv) = with([q, k, v, grad], |[q, k, v, grad]| {
            let (mut dq, mut dk, mut dv) =
                (vec![0.; q.len()], vec![0.; k.len()], vec![0.; v.len()]);
            let (mut weights, mut back) = (Vec::new(), Vec::new());
            for block in &self.blocks {
                let cols = Attention::cols(block);
                for head in self.heads(q, k, v) {
                    let (width, kv_width) = (head.q_width, head.kv_width);
                    let grads = |row: usize| Head::rows(grad, row, width, head.q_col);
                    self.weights(block, head, &mut weights);
                    back.clear();
                    back.resize(weights.len(), 0.);
                    Attention::parts(block, |queries, keys, col| {
                        let start = (queries.start - block.queries.start) * cols + col;
                        let g = grads(queries.start);
                        let size = [queries.len(), keys.len(), d];
                        let v = transposed(head.v(keys.start));
                        product(size, &mut back[start..], cols, false, g, v, 1.);
                        let w = Strided {
                            data: &weights[start..],
                            row_stride: 1,
                            col_stride: cols,
                        };
                        let at = keys.start * kv_width + head.kv_col;
                        let size = [keys.len(), d, queries.len()];
                        product(size, &mut dv[at..], kv_width, true, w, g, 1.);
                    });
                    // The softmax backwards. Weights of what is not seen are 0, and so is what
                    // comes back.
                    dispatch(|| {
                        let rows = weights.chunks_exact(cols).zip(back.chunks_exact_mut(cols));
                        for (w, back) in rows {
                            let mean = sum(cols, |i| w[i] * back[i]);
                            for (back, w) in back.iter_mut().zip(w) {
                                *back = w * (*back - mean) * scale;
                            }
                        }
                    });
                    Attention::parts(block, |queries, keys, col| {
                        let start = (queries.start - block.queries.start) * cols + col;
                        let s = Strided {
                            data: &back[start..],
                            row_stride: cols,
                            col_stride: 1,
                        };
                        let at = queries.start * width + head.q_col;
                        let size = [queries.len(), d, keys.len()];
                        product(size, &mut dq[at..], width, true, s, head.k(keys.start), 1.);
                        let at = keys.start * kv_width + head.kv_col;
                        let size = [keys.len(), d, queries.len()];
                        let q = head.q(queries.start);
                        product(size, &mut dk[at..], kv_width, true, transposed(s), q, 1.);
                    });
                }
            }
            Ok((dq, dk, dv))
        })?;
        Ok((
            Some(tensor_like(dq, q)?),
            Some(tensor_like(dk, k)?),
            Some(tensor_like(dv, v)?),
        ))
    }
}

/// The sum over rows of `weights[row] * -log softmax(logits [rows, classes])[targets[row]]`: `[1]`.
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
