//! [`Backend`] on candle, operation by operation.

use std::{
    future::{Future, ready},
    ops::Range,
};

use candle_core::{D, DType, Device, Tensor};

use super::{
    attention as many_queries, dpc_knn, fused,
    kv_cache::KvCache,
    matrix::Matrix,
    values::{done, f32s, from_f32s, tracked, with_f32s},
};
use crate::{
    Result,
    backend::{Activation, Backend, Clusters, Heads, KvType, NOT_FINITE},
    gguf::GgmlType,
    sampler::Choice,
};

/// Added to the number of members that a cluster's sum is divided by, as the reference does.
pub const MEMBERS_EPS: f64 = 1e-6;

/// What a masked score is: finite, so that no infinity ever meets arithmetic.
const MASKED: f32 = -1e30;

/// Computes on the CPU, in f32.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu;

impl Backend for Cpu {
    type Tensor = Tensor;
    type Ids = Tensor;
    type Matrix = Matrix;
    type KvCache = KvCache;

    /// Where addresses have 64 bits the system answers when memory is used; in WebAssembly they end
    /// at 4 GiB.
    async fn can_allocate(&self, bytes: u64) -> Result<bool> {
        Ok(bytes < (usize::MAX / 8 * 7) as u64)
    }

    fn alloc_matrix(&self, ty: GgmlType, rows: usize, cols: usize) -> Result<Matrix> {
        Matrix::alloc(ty, rows, cols)
    }

    fn write_matrix(&self, matrix: &mut Matrix, offset: usize, bytes: &[u8]) {
        matrix.write(offset, bytes);
    }

    async fn read_matrix(&self, matrix: &Matrix, offset: usize, bytes: usize) -> Result<Vec<u8>> {
        Ok(matrix.stored_bytes(offset..offset + bytes))
    }

    fn kv_cache(&self, width: usize, most: usize, ty: KvType) -> KvCache {
        KvCache::new(width, most, ty)
    }

    async fn reserve(&self, cache: &mut KvCache, positions: usize) -> Result<()> {
        cache.reserve(positions)
    }

    async fn copy_kv_cache(&self, cache: &KvCache, len: usize) -> Result<KvCache> {
        cache.fork(len)
    }

    fn tensor(&self, data: &[f32], cols: usize) -> Tensor {
        done(Tensor::from_slice(
            data,
            (data.len() / cols, cols),
            &Device::Cpu,
        ))
    }

    fn ids(&self, data: &[u32]) -> Tensor {
        done(Tensor::from_slice(data, data.len(), &Device::Cpu))
    }

    fn shape(&self, x: &Tensor) -> [usize; 2] {
        done(x.dims2()).into()
    }

    async fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        Ok(done(f32s(x)))
    }

    fn read_ids(&self, ids: &Tensor) -> impl Future<Output = Result<Vec<u32>>> + 'static {
        ready(Ok(done(ids.to_vec1())))
    }

    async fn finish(&self) -> Result<()> {
        Ok(())
    }

    fn slice(&self, x: &Tensor, range: Range<usize>) -> Tensor {
        done(x.narrow(0, range.start, range.len()))
    }

    fn concat(&self, xs: &[&Tensor]) -> Tensor {
        done(Tensor::cat(xs, 0))
    }

    fn gather(&self, x: &Tensor, ids: &Tensor) -> Tensor {
        done(x.contiguous().and_then(|x| x.index_select(ids, 0)))
    }

    fn embed(&self, table: &Matrix, ids: &Tensor) -> Tensor {
        done(table.embed(ids))
    }

    fn mean(&self, x: &Tensor, run: usize) -> Tensor {
        let [rows, cols] = self.shape(x);
        done(x.reshape((rows / run, run, cols)).and_then(|x| x.mean(1)))
    }

    fn matmul(&self, x: &Tensor, w: &Matrix) -> Tensor {
        done(w.matmul(x))
    }

    fn add(&self, x: &Tensor, y: &Tensor) -> Tensor {
        let ([rows, cols], [period, _]) = (self.shape(x), self.shape(y));
        if rows == period {
            return done(x + y);
        }
        let sum = x
            .reshape((rows / period, period, cols))
            .and_then(|x| x.broadcast_add(y));
        done(sum.and_then(|sum| sum.reshape((rows, cols))))
    }

    fn activate(&self, x: &Tensor, f: Activation) -> Tensor {
        if f == Activation::QuickGelu && !tracked(&[x]) {
            return self.in_place(x, fused::quick_gelu);
        }
        done(match f {
            // x * sigmoid(a x) is silu(a x) / a.
            Activation::QuickGelu => (x * 1.702).and_then(|x| x.silu()?.affine(1. / 1.702, 0.)),
            Activation::Gelu => x.gelu_erf(),
        })
    }

    fn silu_mul(&self, gate: &Tensor, up: &Tensor) -> Tensor {
        if !tracked(&[gate, up]) {
            return self.in_place(gate, |gate| {
                done(with_f32s(up, |up| fused::silu_mul(gate, up)));
            });
        }
        done(gate.silu().and_then(|gate| gate * up))
    }

    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Tensor {
        if !tracked(&[x, weight, bias]) {
            let (weight, bias) = (done(f32s(weight)), done(f32s(bias)));
            return self.in_place(x, |x| fused::layer_norm(x, &weight, &bias, eps));
        }
        let norm = || {
            let x = x.broadcast_sub(&x.mean_keepdim(1)?)?;
            let deviation = (x.sqr()?.mean_keepdim(1)? + eps as f64)?.sqrt()?;
            x.broadcast_div(&deviation)?
                .broadcast_mul(weight)?
                .broadcast_add(bias)
        };
        done(norm())
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Tensor {
        if !tracked(&[x, weight]) {
            let weight = done(f32s(weight));
            return self.in_place(x, |x| fused::rms_norm(x, &weight, eps));
        }
        let norm = || {
            let size = (x.sqr()?.mean_keepdim(1)? + eps as f64)?.sqrt()?;
            x.broadcast_div(&size)?.broadcast_mul(weight)
        };
        done(norm())
    }

    fn rope(&self, x: &Tensor, table: &Tensor, head_dim: usize, pos: usize) -> Tensor {
        if !tracked(&[x, table]) {
            let ([t, width], [_, rotary]) = (self.shape(x), self.shape(table));
            let angles = done(table.narrow(0, pos, t));
            return self.in_place(x, |x| {
                done(with_f32s(&angles, |angles| {
                    fused::rope(x, width, angles, rotary, head_dim);
                }));
            });
        }
        let rotate = || {
            let (t, width) = x.dims2()?;
            let (_, rotary) = table.dims2()?;
            let x = x.reshape((t, width / head_dim, head_dim))?;
            let table = table.narrow(0, pos, t)?.reshape((t, 1, rotary))?;
            let (cos, sin) = (
                table.narrow(2, 0, rotary / 2)?,
                table.narrow(2, rotary / 2, rotary / 2)?,
            );
            let pairs = x.narrow(2, 0, rotary)?.contiguous()?.reshape((
                t,
                width / head_dim,
                rotary / 2,
                2,
            ))?;
            let (a, b) = (
                pairs.narrow(3, 0, 1)?.squeeze(3)?,
                pairs.narrow(3, 1, 1)?.squeeze(3)?,
            );
            let turned = [
                (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?,
                (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?,
            ];
            let turned = Tensor::stack(&turned, 3)?.reshape((t, width / head_dim, rotary))?;
            let x = Tensor::cat(&[turned, x.narrow(2, rotary, head_dim - rotary)?], 2)?;
            x.reshape((t, width))
        };
        done(rotate())
    }

    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, batch: usize) -> Tensor {
        done(attention(q, k, v, heads, batch, None))
    }

    fn append(&self, cache: &mut KvCache, pos: usize, k: &Tensor, v: &Tensor) {
        done(cache.append(pos, k, v));
    }

    fn attention_causal(&self, q: &Tensor, cache: &KvCache, heads: Heads, pos: usize) -> Tensor {
        let run = || {
            let (k, v) = cache.seen(pos + q.dim(0)?, pos == 0)?;
            attention(q, &k, &v, heads, 1, Some(pos))
        };
        done(run())
    }

    fn dpc_knn(
        &self,
        x: &Tensor,
        batch: usize,
        clusters: usize,
        k: usize,
        noise: Option<&Tensor>,
    ) -> Clusters<Tensor> {
        let [rows, channels] = self.shape(x);
        let n = rows / batch;
        let (x, noise) = (done(f32s(x)), noise.map(|noise| done(f32s(noise))));
        let (mut centres, mut groups) = (Vec::new(), Vec::new());
        for (i, set) in x.chunks_exact(n * channels).enumerate() {
            let noise = noise.as_ref().map(|noise| &noise[i * n..(i + 1) * n]);
            let found = dpc_knn::dpc_knn(set, channels, clusters, k, noise);
            centres.extend(found.0);
            groups.extend(found.1);
        }
        Clusters {
            centres: self.ids(&centres),
            groups: self.ids(&groups),
        }
    }

    fn merge(&self, x: &Tensor, groups: &Tensor, batch: usize, clusters: usize) -> Tensor {
        let [rows, channels] = self.shape(x);
        let mut groups = done(groups.to_vec1::<u32>());
        let mut members = vec![0f32; batch * clusters];
        for (i, group) in groups.iter_mut().enumerate() {
            *group += (i / (rows / batch) * clusters) as u32;
            members[*group as usize] += 1.;
        }
        let mean = || {
            let sums = Tensor::zeros((batch * clusters, channels), DType::F32, &Device::Cpu)?;
            let sums = sums.index_add(&self.ids(&groups), &x.contiguous()?, 0)?;
            sums.broadcast_div(&(self.tensor(&members, 1) + MEMBERS_EPS)?)
        };
        done(mean())
    }

    fn choose(&self, logits: &Tensor, choice: &Choice) -> Tensor {
        self.ids(&[choice.of(&done(f32s(logits))).unwrap_or(NOT_FINITE)])
    }
}

impl Cpu {
    /// A copy of `x` that `work` has changed.
    fn in_place(&self, x: &Tensor, work: impl FnOnce(&mut [f32])) -> Tensor {
        let mut values = done(f32s(x));
        work(&mut values);
        done(from_f32s(values, self.shape(x)[1]))
    }
}

/// Softmax of `q k' / sqrt(head_dim)`, times `v`, in each head of each of `batch` runs of rows.
/// Where `pos` is there, queries are the positions from `pos` on, and each sees itself and what is
/// before it.
fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    batch: usize,
    pos: Option<usize>,
) -> candle_core::Result<Tensor> {
    let queries = q.dim(0)? / batch;
    let few = batch == 1 && queries <= fused::MOST_QUERIES;
    if (few || queries >= many_queries::LEAST_QUERIES) && !tracked(&[q, k, v]) {
        let found = with_f32s(q, |q| {
            with_f32s(k, |k| {
                with_f32s(v, |v| match few {
                    true => fused::attention(q, k, v, heads, pos),
                    false => many_queries::attention(q, k, v, heads, batch, pos),
                })
            })
        })???;
        return from_f32s(found, heads.heads * heads.head_dim);
    }
    let Heads {
        heads,
        kv_heads,
        head_dim,
    } = heads;
    let group = heads / kv_heads;
    let keys = k.dim(0)? / batch;
    let seen = |row: usize| pos.map_or(keys, |pos| pos + row + 1);

    // The query heads that share a key head lie under each other, as if they were more rows.
    let q = q
        .reshape((batch, queries, kv_heads, group, head_dim))?
        .permute((0, 2, 3, 1, 4))?;
    let q = q
        .contiguous()?
        .reshape((batch, kv_heads, group * queries, head_dim))?;
    let by_head = |x: &Tensor| {
        let x = x
            .reshape((batch, keys, kv_heads, head_dim))?
            .transpose(1, 2)?;
        // One batch is multiplied where it lies, strided; more have to be copied.
        if batch == 1 { Ok(x) } else { x.contiguous() }
    };
    let (k, v) = (by_head(k)?, by_head(v)?);

    let mut scores = (q.matmul(&k.t()?)? * (head_dim as f64).powf(-0.5))?;
    // One row sees everything that is there.
    if pos.is_some() && queries > 1 {
        let masks = (0..queries)
            .flat_map(|row| (0..keys).map(move |col| if col < seen(row) { 0. } else { MASKED }));
        let mask = Tensor::from_vec(masks.collect(), (queries, keys), &Device::Cpu)?;
        scores = scores
            .reshape((batch, kv_heads, group, queries, keys))?
            .broadcast_add(&mask)?
            .reshape((batch, kv_heads, group * queries, keys))?;
    }
    let exp = scores
        .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
        .exp()?;
    let weights = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?;

    let seen = weights
        .matmul(&v)?
        .reshape((batch, kv_heads, group, queries, head_dim))?;
    seen.permute((0, 3, 1, 2, 4))?
        .contiguous()?
        .reshape((batch * queries, heads * head_dim))
}
