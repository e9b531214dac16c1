//! Attention over packed sequences.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use univi::backend::Heads;

use super::{
    lanes::{LANES, dispatch, exp, sum},
    matmul::{Strided, product},
    storage::{done, tensor_like, values, with},
};
use crate::autograd::packing::{Packing, Rows};

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
