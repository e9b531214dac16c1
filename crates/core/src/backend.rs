//! The small closed set of operations that a model may use.
//!
//! A model is written once over [`Backend`]. Two implementations are here: `Cpu` on candle is the
//! executable specification and the fallback where there is no GPU; `Gpu` on wgpu is the product.
//! The trainer has a third, which remembers what was computed from what.
//!
//! Every value is a matrix of f32, row-major, `[rows, cols]`; a batch is consecutive rows. An
//! operation records work and returns at once: shapes were checked when the model was loaded, so
//! recording can't fail, and a shape that does not fit is a bug and panics. Only reading a result
//! back awaits, and only there a lost device or a refused command comes to light.

use std::ops::Range;

use crate::{Error, Result, gguf::GgmlType, sampler::Choice};

/// The pointwise functions between two matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: CLIP's.
    QuickGelu,
    /// `x/2 * (1 + erf(x / sqrt 2))`: the MLP projector's.
    Gelu,
}

/// Heads of an attention: `heads` query heads share `kv_heads` key and value heads, each
/// `head_dim` wide. `heads` is a multiple of `kv_heads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Columns of one head, a multiple of 4.
    pub head_dim: usize,
}

/// An RMSNorm before a product.
#[derive(Debug)]
pub struct Norm<'a, T> {
    /// `[1, cols]`
    pub weight: &'a T,
    /// Added to the mean of squares.
    pub eps: f32,
}

/// Rotary positions, as [`Backend::rope`] takes them.
#[derive(Debug)]
pub struct Rotation<'a, T> {
    /// `[context, rotary]`
    pub table: &'a T,
    /// Columns of a head.
    pub head_dim: usize,
}

/// Where the keys and values of some rows go: a cache of one conversation's, and the position of
/// the first row.
#[derive(Debug)]
pub struct CachePlace<'a, C> {
    /// What holds the positions before.
    pub cache: &'a mut C,
    /// The position of the first row.
    pub pos: usize,
}

/// The most neighbours that make a density in [`Backend::dpc_knn`]: what the GPU's kernel keeps in
/// registers.
pub const MAX_NEIGHBOURS: usize = 32;

/// The most positions of a KV cache: the keys that one dispatch of the GPU splits among its
/// workgroups.
pub const MAX_POSITIONS: usize = 64 * 65_535;

/// How a KV cache keeps its numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum KvType {
    /// As they are computed.
    #[default]
    F32,
    /// Blocks of [`KV_BLOCK`] along each row, as signed bytes times a f32 scale: the farthest from
    /// zero becomes 127 or -127, so that no number is off by more than a 254th of it. Takes
    /// 9/32 of f32.
    Q8,
}

/// A kind of work of which a device can do only so much a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Bytes that are read from memory.
    Read,
    /// Bytes that are read from memory and bytes that are written to it, as one number.
    Copy,
    /// Floating-point operations in f32, of multiplications with an addition.
    MultiplyAdd,
}

/// What [`Backend::choose`] returns instead of an id where a logit is NaN or infinite.
pub const NOT_FINITE: u32 = u32::MAX;

/// Numbers that share a scale.
pub const KV_BLOCK: usize = 32;

impl KvType {
    /// All names.
    pub const NAMES: [&str; 2] = ["f32", "q8"];

    /// Returns the type of this name.
    ///
    /// # Errors
    /// `BadRequest` for any other.
    pub fn from_name(name: &str) -> Result<KvType> {
        match name {
            "f32" => Ok(KvType::F32),
            "q8" => Ok(KvType::Q8),
            other => Err(Error::BadRequest {
                reason: format!("there is no KV cache of type {other:?}; there are f32 and q8"),
            }),
        }
    }

    /// Returns the bytes of so many numbers, in whole blocks.
    pub fn bytes(self, values: u64) -> u64 {
        let block_bytes = match self {
            KvType::F32 => 4 * KV_BLOCK as u64,
            KvType::Q8 => 4 + KV_BLOCK as u64,
        };
        values.div_ceil(KV_BLOCK as u64).saturating_mul(block_bytes)
    }
}

/// Returns the positions that a cache of at most `most` gets room for when it has to hold
/// `positions`: a quarter more than that, so that a conversation grows seldom and holds little that
/// it does not use.
pub fn kv_capacity(positions: usize, most: usize) -> usize {
    /// A picture, a question and an answer.
    const LEAST: usize = 256;
    positions.saturating_add(positions / 4).max(LEAST).min(most)
}

/// What DPC-KNN finds in each of `batch` sets of tokens.
pub struct Clusters<Ids> {
    /// `[batch * clusters]`: each cluster's centre as a token of its set, best score first.
    pub centres: Ids,
    /// `[batch * n]`: each token's cluster.
    pub groups: Ids,
}

/// What computes. Cloning is cheap and shares the device.
///
/// Shapes are written `[rows, cols]`; `t` counts tokens, `n` tokens of one set, `c` channels.
#[allow(async_fn_in_trait)] // Futures stay on one thread: a GPU in a browser belongs to one.
pub trait Backend: Clone + 'static {
    /// An f32 matrix. Cloning shares the memory; values never change once recorded.
    type Tensor: Clone;
    /// A list of u32.
    type Ids: Clone;
    /// Weights `[rows, cols]` in the type they are stored in, quantized ones stay quantized.
    type Matrix;
    /// Keys and values of one layer, written in place.
    type KvCache;

    // Weights in.

    /// Whether so many bytes can be had, in buffers as large as the device likes them; they are
    /// given back at once.
    ///
    /// # Errors
    /// `DeviceLost`.
    async fn can_allocate(&self, bytes: u64) -> Result<bool>;

    /// That weights stored in `types` are on their way, which are multiplied with the rows of many
    /// patches alone or, where it `decodes`, with those of single tokens too: what takes long to
    /// prepare may begin.
    fn prepare_pipelines(&self, types: &[GgmlType], decodes: bool) {
        let _ = (types, decodes);
    }

    /// That conversations will have caches of this type, as [`Backend::prepare_pipelines`].
    fn prepare_cache_pipelines(&self, ty: KvType) {
        let _ = ty;
    }

    /// Waits until what was prepared after [`Backend::prepare_pipelines`] is ready.
    async fn pipelines_ready(&self) {}

    /// Room for a matrix.
    ///
    /// # Errors
    /// `OutOfMemory` where the device's limits are too small.
    fn alloc_matrix(&self, ty: GgmlType, rows: usize, cols: usize) -> Result<Self::Matrix>;

    /// Writes `bytes` of the stored matrix at byte `offset`. `offset` is a multiple of 4, and so
    /// is the length, unless `bytes` ends the matrix (the GGUF parser delivers it so). All bytes
    /// are written before the first use.
    fn write_matrix(&self, matrix: &mut Self::Matrix, offset: usize, bytes: &[u8]);

    /// That these matrices are multiplied with the same rows: a backend may put those that follow
    /// each other and are stored alike into one piece of memory. All their bytes are there. It
    /// changes how fast they are multiplied, not what comes out.
    ///
    /// # Errors
    /// As [`Backend::read`].
    async fn stack(&self, matrices: &mut [&mut Self::Matrix]) -> Result<()> {
        let _ = matrices;
        Ok(())
    }

    /// Reads `bytes` bytes of the stored matrix back, from byte `offset`, a multiple of 4. Errors
    /// as [`Backend::read`].
    async fn read_matrix(
        &self,
        matrix: &Self::Matrix,
        offset: usize,
        bytes: usize,
    ) -> Result<Vec<u8>>;

    /// An empty cache for keys and values `[t, width]` of at most `most` positions. It takes no
    /// memory before [`Backend::reserve`].
    fn kv_cache(&self, width: usize, most: usize, ty: KvType) -> Self::KvCache;

    /// Gives `cache` room for `positions` positions, `most` at most, and for some more
    /// ([`kv_capacity`]) where it has to grow. What it holds stays.
    ///
    /// # Errors
    /// `OutOfMemory`, and the cache is as it was; `DeviceLost`.
    async fn reserve(&self, cache: &mut Self::KvCache, positions: usize) -> Result<()>;

    /// A cache of its own with the first `len` positions of `cache`, and room for as many as `len`
    /// calls for.
    ///
    /// # Errors
    /// As [`Backend::reserve`].
    async fn copy_kv_cache(&self, cache: &Self::KvCache, len: usize) -> Result<Self::KvCache>;

    // Values in and out.

    /// `data: [rows, cols]`; its length is a multiple of `cols`.
    fn tensor(&self, data: &[f32], cols: usize) -> Self::Tensor;

    /// A list of ids.
    fn ids(&self, data: &[u32]) -> Self::Ids;

    /// `[rows, cols]`.
    fn shape(&self, x: &Self::Tensor) -> [usize; 2];

    /// Runs what was recorded and reads `x` back, row-major.
    ///
    /// # Errors
    /// `DeviceLost`, `OutOfMemory` or `Gpu` for whatever went wrong since the last read.
    async fn read(&self, x: &Self::Tensor) -> Result<Vec<f32>>;

    /// Runs what was recorded and reads `ids` back. It begins at the call: the future waits, and
    /// its first poll returns at once. Errors as [`Backend::read`].
    fn read_ids(&self, ids: &Self::Ids) -> impl Future<Output = Result<Vec<u32>>> + 'static;

    /// Runs what was recorded and waits for its end. Errors as [`Backend::read`].
    async fn finish(&self) -> Result<()>;

    // Rows.

    /// Rows `range` of `x`.
    fn slice(&self, x: &Self::Tensor, range: Range<usize>) -> Self::Tensor;

    /// All rows of each `xs` in turn; equal `cols`.
    fn concat(&self, xs: &[&Self::Tensor]) -> Self::Tensor;

    /// Row `ids[i]` of `x` becomes row `i`.
    fn gather(&self, x: &Self::Tensor, ids: &Self::Ids) -> Self::Tensor;

    /// Row `ids[i]` of the stored `table`, dequantized, becomes row `i`.
    fn embed(&self, table: &Self::Matrix, ids: &Self::Ids) -> Self::Tensor;

    /// The mean of each run of `run` consecutive rows: `[rows / run, cols]`.
    fn mean(&self, x: &Self::Tensor, run: usize) -> Self::Tensor;

    // Arithmetic.

    /// `x [t, k]` times the transpose of `w [n, k]`: `[t, n]`, accumulated in f32.
    fn matmul(&self, x: &Self::Tensor, w: &Self::Matrix) -> Self::Tensor;

    /// `x + y`, where `y` is repeated along the rows of `x` (`x.rows % y.rows == 0`): equal shapes
    /// for a residual, one row for a bias, a table for positions.
    fn add(&self, x: &Self::Tensor, y: &Self::Tensor) -> Self::Tensor;

    /// `f(x)`, pointwise.
    fn activate(&self, x: &Self::Tensor, f: Activation) -> Self::Tensor;

    /// `silu(gate) * up`, pointwise: the heart of SwiGLU.
    fn silu_mul(&self, gate: &Self::Tensor, up: &Self::Tensor) -> Self::Tensor;

    /// Each row to mean 0 and variance 1 (of `x + eps`), times `weight`, plus `bias` (`[1, cols]`).
    fn layer_norm(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: &Self::Tensor,
        eps: f32,
    ) -> Self::Tensor;

    /// `x / sqrt(mean(x^2) + eps) * weight` per row; `weight: [1, cols]`.
    fn rms_norm(&self, x: &Self::Tensor, weight: &Self::Tensor, eps: f32) -> Self::Tensor;

    // Attention.

    /// Rotates pairs of neighbouring columns `(2i, 2i + 1)` in each head of `x [t, heads *
    /// head_dim]`: row `r` by row `pos + r` of `table [context, rotary]`, which holds `rotary / 2`
    /// cosines, then as many sines. Columns of a head from `rotary` on stay as they are.
    fn rope(
        &self,
        x: &Self::Tensor,
        table: &Self::Tensor,
        head_dim: usize,
        pos: usize,
    ) -> Self::Tensor;

    /// Everybody sees everybody within each of `batch` equal runs of rows: softmax of
    /// `q k' / sqrt(head_dim)`, times `v`. `q: [batch * n, heads * head_dim]`, `k`, `v`:
    /// `[batch * n, kv_heads * head_dim]`; the result is shaped like `q`.
    fn attention(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        heads: Heads,
        batch: usize,
    ) -> Self::Tensor;

    /// Writes `k` and `v` `[t, width]` at positions `pos..pos + t`, for which there is room. Later
    /// positions are forgotten.
    fn append(&self, cache: &mut Self::KvCache, pos: usize, k: &Self::Tensor, v: &Self::Tensor);

    /// Row `r` of `q` sees positions `0..=pos + r` of the cache.
    fn attention_causal(
        &self,
        q: &Self::Tensor,
        cache: &Self::KvCache,
        heads: Heads,
        pos: usize,
    ) -> Self::Tensor;

    // Parts of a layer: what they are composed of, which a backend may compute in fewer steps.

    /// `x + y w'`, for `x [t, n]`, `y [t, k]` and `w [n, k]`: a product and its residual.
    fn add_matmul(&self, x: &Self::Tensor, y: &Self::Tensor, w: &Self::Matrix) -> Self::Tensor {
        self.add(x, &self.matmul(y, w))
    }

    /// `silu(h gate') * (h up')`, for the normed rows `h` of `x`.
    fn swiglu(
        &self,
        x: &Self::Tensor,
        norm: Norm<Self::Tensor>,
        gate: &Self::Matrix,
        up: &Self::Matrix,
    ) -> Self::Tensor {
        let h = self.rms_norm(x, norm.weight, norm.eps);
        self.silu_mul(&self.matmul(&h, gate), &self.matmul(&h, up))
    }

    /// Multiplies the normed rows of `x` with `wq`, `wk` and `wv`, rotates queries and keys,
    /// appends keys and values to the caches, and returns the queries. Each of `places` has an
    /// equal run of the rows, and of the results one.
    fn project_qkv(
        &self,
        x: &Self::Tensor,
        norm: Norm<Self::Tensor>,
        [wq, wk, wv]: [&Self::Matrix; 3],
        rotation: Rotation<Self::Tensor>,
        places: &mut [CachePlace<Self::KvCache>],
    ) -> Vec<Self::Tensor> {
        let Rotation { table, head_dim } = rotation;
        let h = self.rms_norm(x, norm.weight, norm.eps);
        let [q, k, v] = [wq, wk, wv].map(|w| self.matmul(&h, w));
        let run = self.shape(x)[0] / places.len();
        let mut queries = Vec::with_capacity(places.len());
        for (i, CachePlace { cache, pos }) in places.iter_mut().enumerate() {
            let own = |rows| self.slice(rows, i * run..(i + 1) * run);
            queries.push(self.rope(&own(&q), table, head_dim, *pos));
            let k = self.rope(&own(&k), table, head_dim, *pos);
            self.append(cache, *pos, &k, &own(&v));
        }
        queries
    }

    // Merging and choosing.

    /// Clusters each of `batch` equal runs of rows of `x [batch * n, c]` by density peaks,
    /// with `1 <= clusters <= n` and `1 <= k <= n`.
    ///
    /// 1. `d[i, j] = |x_i - x_j| / sqrt(c)`;
    /// 2. density `rho_i = exp(-mean of the k smallest d[i, .]^2)`, `i` itself among them, plus
    ///    `1e-6 * noise[i]` where given (`noise: [batch, n]`);
    /// 3. `delta_i` = the smallest `d[i, j]` over denser `j` (`rho_j > rho_i`, or equal and `j <
    ///    i`); the largest `d` of the set for the densest;
    /// 4. the centres are the largest `rho * delta`, falling, lower index first on ties;
    /// 5. every token joins its nearest centre, the first on ties; a centre joins itself.
    ///
    /// Distances are computed from differences, not from `|a|^2 + |b|^2 - 2ab`: a token is then at
    /// distance 0 from itself and ties are real.
    fn dpc_knn(
        &self,
        x: &Self::Tensor,
        batch: usize,
        clusters: usize,
        k: usize,
        noise: Option<&Self::Tensor>,
    ) -> Clusters<Self::Ids>;

    /// Sum of each cluster's members over `members + 1e-6`: `[batch * clusters, c]`. Members are
    /// added in rising order.
    fn merge(
        &self,
        x: &Self::Tensor,
        groups: &Self::Ids,
        batch: usize,
        clusters: usize,
    ) -> Self::Tensor;

    /// The column of the one row `logits [1, n]` that is chosen, as [`Choice::of`] does;
    /// [`NOT_FINITE`] where that returns nothing.
    fn choose(&self, logits: &Self::Tensor, choice: &Choice) -> Self::Ids;
}
