//! [`Backend`] for training: the models of `univi`, as they are, over tensors that remember where
//! they came from.
//!
//! What is not here is `Cpu`'s own. Here are the operations in which training spends its time, with
//! the derivative of each in one piece (`ops`); on other devices than the CPU they are composed
//! of candle's. And there is [`Packing`]: many sequences lie in one matrix, so that each product is
//! a large one.

mod ops;
mod packing;

use std::{ops::Range, sync::Arc};

use candle_core::{D, DType, Device, Tensor};
use univi::{
    Backend, Cpu, Error, Result,
    backend::{Activation, Clusters, Heads, KvType},
    gguf::GgmlType,
    sampler::Choice,
};

pub use ops::cross_entropy;
pub(crate) use ops::{Strided, product};
pub use packing::{Packing, Sequence};

/// Computes in f32 on a device of candle's, and remembers.
#[derive(Debug, Clone)]
pub struct Autograd {
    device: Device,
    packing: Arc<Packing>,
}

/// Keys and values of one layer, in one piece.
#[derive(Debug, Default)]
pub struct KvCache(Option<(Tensor, Tensor)>);

/// A score that a softmax turns into nothing.
const MASKED: f32 = -1e30;

impl Autograd {
    /// `packing` says which rows of a language model's input belong together.
    pub fn new(device: &Device, packing: Packing) -> Autograd {
        Autograd {
            device: device.clone(),
            packing: Arc::new(packing),
        }
    }

    fn fused(&self) -> bool {
        self.device.is_cpu()
    }

    fn here(&self, x: &Tensor) -> Tensor {
        done(x.to_device(&self.device))
    }
}

/// Shapes were checked when the model was built: what candle refuses is a bug of ours.
#[track_caller]
fn done<T>(result: candle_core::Result<T>) -> T {
    match result {
        Ok(x) => x,
        Err(error) => panic!("{error}"),
    }
}

impl Backend for Autograd {
    type Tensor = Tensor;
    type Ids = Tensor;
    /// `[rows, cols]`, a `candle_core::Var` where it learns.
    type Matrix = Tensor;
    type KvCache = KvCache;

    async fn can_allocate(&self, _bytes: u64) -> Result<bool> {
        Ok(true)
    }

    fn alloc_matrix(&self, _ty: GgmlType, rows: usize, cols: usize) -> Result<Tensor> {
        Err(Error::BadRequest {
            reason: format!("a matrix of {rows} x {cols} that learns is not read from a file"),
        })
    }

    fn write_matrix(&self, _matrix: &mut Tensor, _offset: usize, _bytes: &[u8]) {
        panic!("a matrix that learns is not read from a file")
    }

    async fn read_matrix(&self, _: &Tensor, _: usize, _: usize) -> Result<Vec<u8>> {
        panic!("a matrix that learns is not stored")
    }

    /// What is learned from is kept as it is, whatever the type.
    fn kv_cache(&self, _width: usize, _most: usize, _ty: KvType) -> KvCache {
        KvCache::default()
    }

    async fn reserve(&self, _cache: &mut KvCache, _positions: usize) -> Result<()> {
        Ok(())
    }

    async fn copy_kv_cache(&self, cache: &KvCache, _len: usize) -> Result<KvCache> {
        Ok(KvCache(cache.0.clone()))
    }

    fn tensor(&self, data: &[f32], cols: usize) -> Tensor {
        self.here(&Cpu.tensor(data, cols))
    }

    fn ids(&self, data: &[u32]) -> Tensor {
        self.here(&Cpu.ids(data))
    }

    fn shape(&self, x: &Tensor) -> [usize; 2] {
        Cpu.shape(x)
    }

    async fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        Cpu.read(x).await
    }

    fn read_ids(&self, ids: &Tensor) -> impl Future<Output = Result<Vec<u32>>> + 'static {
        Cpu.read_ids(ids)
    }

    async fn finish(&self) -> Result<()> {
        Ok(())
    }

    fn slice(&self, x: &Tensor, range: Range<usize>) -> Tensor {
        Cpu.slice(x, range)
    }

    fn concat(&self, xs: &[&Tensor]) -> Tensor {
        Cpu.concat(xs)
    }

    fn gather(&self, x: &Tensor, ids: &Tensor) -> Tensor {
        Cpu.gather(x, ids)
    }

    fn embed(&self, table: &Tensor, ids: &Tensor) -> Tensor {
        done(table.index_select(ids, 0))
    }

    fn mean(&self, x: &Tensor, run: usize) -> Tensor {
        Cpu.mean(x, run)
    }

    fn matmul(&self, x: &Tensor, w: &Tensor) -> Tensor {
        done(match self.fused() {
            true => ops::matmul(x, w),
            false => w.t().and_then(|w| x.matmul(&w)),
        })
    }

    fn add(&self, x: &Tensor, y: &Tensor) -> Tensor {
        match self.fused() && x.dims() != y.dims() {
            true => done(ops::add_rows(x, y)),
            false => Cpu.add(x, y),
        }
    }

    fn activate(&self, x: &Tensor, f: Activation) -> Tensor {
        match f {
            Activation::QuickGelu if self.fused() => done(ops::quick_gelu(x)),
            _ => Cpu.activate(x, f),
        }
    }

    fn silu_mul(&self, gate: &Tensor, up: &Tensor) -> Tensor {
        match self.fused() {
            true => done(ops::silu_mul(gate, up)),
            false => Cpu.silu_mul(gate, up),
        }
    }

    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Tensor {
        match self.fused() {
            true => done(ops::layer_norm(x, weight, bias, eps)),
            false => Cpu.layer_norm(x, weight, bias, eps),
        }
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Tensor {
        match self.fused() {
            true => done(ops::rms_norm(x, weight, eps)),
            false => Cpu.rms_norm(x, weight, eps),
        }
    }

    /// Rows turn by their place in their own sequence; `pos` is where all of them begin.
    fn rope(&self, x: &Tensor, table: &Tensor, head_dim: usize, pos: usize) -> Tensor {
        let places: Vec<u32> = self
            .packing
            .places()
            .map(|place| (pos + place) as u32)
            .collect();
        let turns = done(table.index_select(&self.ids(&places), 0)); // [t, rotary]
        match self.fused() {
            true => done(ops::rope(x, &turns, head_dim)),
            false => Cpu.rope(x, &turns, head_dim, 0),
        }
    }

    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, batch: usize) -> Tensor {
        match self.fused() {
            true => done(ops::attention(
                q,
                k,
                v,
                heads,
                ops::AttentionPattern::Runs(batch),
            )),
            false => Cpu.attention(q, k, v, heads, batch),
        }
    }

    fn append(&self, cache: &mut KvCache, pos: usize, k: &Tensor, v: &Tensor) {
        assert_eq!(pos, 0, "sequences are trained in one piece");
        cache.0 = Some((k.clone(), v.clone()));
    }

    fn attention_causal(&self, q: &Tensor, cache: &KvCache, heads: Heads, pos: usize) -> Tensor {
        assert_eq!(pos, 0, "sequences are trained in one piece");
        let (k, v) = cache
            .0
            .as_ref()
            .expect("keys are appended before they are seen");
        done(match self.fused() {
            true => ops::attention(
                q,
                k,
                v,
                heads,
                ops::AttentionPattern::Packed(self.packing.clone()),
            ),
            false => composed_attention(q, k, v, heads, &self.packing),
        })
    }

    fn dpc_knn(
        &self,
        x: &Tensor,
        batch: usize,
        clusters: usize,
        k: usize,
        noise: Option<&Tensor>,
    ) -> Clusters<Tensor> {
        let found = Cpu.dpc_knn(x, batch, clusters, k, noise);
        Clusters {
            centres: self.here(&found.centres),
            groups: self.here(&found.groups),
        }
    }

    fn merge(&self, x: &Tensor, groups: &Tensor, batch: usize, clusters: usize) -> Tensor {
        // Groups as a matrix that averages: a product, which every device differentiates.
        let [rows, _] = self.shape(x);
        let n = rows / batch;
        let groups = done(groups.to_vec1::<u32>());
        let mut mean = vec![0f32; batch * clusters * n];
        for (set, groups) in groups.chunks_exact(n).enumerate() {
            let mut members = vec![0f32; clusters];
            groups
                .iter()
                .for_each(|&group| members[group as usize] += 1.);
            for (i, &group) in groups.iter().enumerate() {
                mean[(set * clusters + group as usize) * n + i] =
                    1. / (members[group as usize] + univi::cpu::MEMBERS_EPS as f32);
            }
        }
        let merged = || {
            let mean = Tensor::from_vec(mean, (batch, clusters, n), &self.device)?;
            let x = x.reshape((batch, n, x.dim(1)?))?;
            mean.matmul(&x)?.reshape((batch * clusters, x.dim(2)?))
        };
        done(merged())
    }

    fn choose(&self, logits: &Tensor, choice: &Choice) -> Tensor {
        Cpu.choose(logits, choice)
    }
}

/// All rows against all, with a mask: for devices that [`ops`] does not know.
fn composed_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    packing: &Packing,
) -> candle_core::Result<Tensor> {
    let Heads {
        heads,
        kv_heads,
        head_dim,
    } = heads;
    let rows = packing.rows();
    let mut mask = vec![MASKED; rows * rows];
    packing
        .visible(|query, keys| mask[query * rows + keys.start..query * rows + keys.end].fill(0.));
    let mask = Tensor::from_vec(mask, (rows, rows), q.device())?;
    let by_head = |x: &Tensor, heads: usize| {
        x.reshape((rows, heads, head_dim))?
            .transpose(0, 1)?
            .contiguous()
    };
    let shared = |x: &Tensor| {
        let x = by_head(x, kv_heads)?.unsqueeze(1)?;
        let group = heads / kv_heads;
        x.broadcast_as((kv_heads, group, rows, head_dim))?
            .contiguous()?
            .reshape((heads, rows, head_dim))
    };
    let (q, k, v) = (by_head(q, heads)?, shared(k)?, shared(v)?);
    let scores = (q.matmul(&k.t()?)? * (head_dim as f64).powf(-0.5))?.broadcast_add(&mask)?;
    let exp = scores
        .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
        .exp()?;
    let weights = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?;
    weights
        .matmul(&v)?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((rows, heads * head_dim))?
        .to_dtype(DType::F32)
}
