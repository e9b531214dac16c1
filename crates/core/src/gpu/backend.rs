//! [`Backend`] on [`Gpu`]: each operation is recorded by the kernel of its name.

use std::ops::Range;

use super::{
    device::Gpu,
    kernels,
    kv_cache::KvCache,
    matrix::Matrix,
    tensor::{Ids, Tensor},
};
use crate::{
    Result,
    backend::{Activation, Backend, CachePlace, Clusters, Heads, KvType, Load, Norm, Rotation},
    gguf::GgmlType,
    sampler::Choice,
};

impl Gpu {
    /// See [`OpenDevice::exert`](crate::OpenDevice::exert).
    pub(crate) async fn exert(&self, load: Load, amount: u64) -> Result<u64> {
        let done = kernels::exert(self, load, amount);
        self.finish().await?;
        Ok(done)
    }

    /// See [`OpenDevice::compile_shaders`](crate::OpenDevice::compile_shaders).
    pub(crate) async fn compile_shaders(&self) -> Result<()> {
        self.0.upcoming.prepare(&self.0.recorder, kernels::all());
        self.pipelines_ready().await;
        self.finish().await
    }
}

impl Backend for Gpu {
    type Tensor = Tensor;
    type Ids = Ids;
    type Matrix = Matrix;
    type KvCache = KvCache;

    /// Creates the pipelines of a model, all at once instead of each at its first use.
    fn prepare_pipelines(&self, types: &[GgmlType], decodes: bool) {
        let constants = self.constants();
        let over = types
            .iter()
            .flat_map(|&ty| kernels::needed(ty, decodes, constants));
        self.0
            .upcoming
            .prepare(&self.0.recorder, kernels::PLAIN.into_iter().chain(over));
    }

    fn prepare_cache_pipelines(&self, ty: KvType) {
        self.0
            .upcoming
            .prepare(&self.0.recorder, kernels::over_cache(ty));
    }

    async fn pipelines_ready(&self) {
        self.0.upcoming.take_over(&self.0.recorder).await;
    }

    async fn can_allocate(&self, bytes: u64) -> Result<bool> {
        let mut tried = Vec::new();
        let mut left = bytes;
        // One by one: a driver that is asked for far more than there is may not survive it.
        while left > 0 {
            let device = &self.0.device;
            let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let size = left.min(self.0.memory.max_bytes());
            tried.push(self.0.memory.try_out(size));
            if scope.pop().await.is_some() {
                break;
            }
            left -= size;
        }
        tried.iter().for_each(wgpu::Buffer::destroy);
        self.0.errors.take()?;
        Ok(left == 0)
    }

    fn alloc_matrix(&self, ty: GgmlType, rows: usize, cols: usize) -> Result<Matrix> {
        Matrix::new(self, ty, rows, cols)
    }

    fn write_matrix(&self, matrix: &mut Matrix, offset: usize, bytes: &[u8]) {
        matrix.write(self, offset, bytes);
    }

    async fn stack(&self, matrices: &mut [&mut Matrix]) -> Result<()> {
        Matrix::stack(self, matrices).await
    }

    async fn read_matrix(&self, matrix: &Matrix, offset: usize, bytes: usize) -> Result<Vec<u8>> {
        matrix.read(self, offset, bytes).await
    }

    fn kv_cache(&self, width: usize, most: usize, ty: KvType) -> KvCache {
        KvCache::new(width, most, ty)
    }

    async fn reserve(&self, cache: &mut KvCache, positions: usize) -> Result<()> {
        cache.reserve(self, positions).await
    }

    async fn copy_kv_cache(&self, cache: &KvCache, len: usize) -> Result<KvCache> {
        cache.copy(self, len).await
    }

    fn tensor(&self, data: &[f32], cols: usize) -> Tensor {
        assert!(
            cols > 0 && data.len().is_multiple_of(cols),
            "{} numbers in rows of {cols}",
            data.len()
        );
        Tensor {
            buffer: self.upload(bytemuck::cast_slice(data)),
            offset: 0,
            rows: data.len() / cols,
            cols,
        }
    }

    fn ids(&self, data: &[u32]) -> Ids {
        Ids {
            buffer: self.upload(bytemuck::cast_slice(data)),
            len: data.len(),
        }
    }

    fn shape(&self, x: &Tensor) -> [usize; 2] {
        x.shape()
    }

    async fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        let bytes = self.read_bytes(x.binding(), 4 * x.len() as u64).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    fn read_ids(&self, ids: &Ids) -> impl Future<Output = Result<Vec<u32>>> + 'static {
        let reading = self.read_bytes(ids.binding(), 4 * ids.len as u64);
        async { Ok(bytemuck::pod_collect_to_vec(&reading.await?)) }
    }

    async fn finish(&self) -> Result<()> {
        let marker = self.alloc_ids(1);
        self.read_bytes(marker.binding(), 4).await?;
        self.0.upcoming.take_over_one(&self.0.recorder);
        Ok(())
    }

    fn slice(&self, x: &Tensor, range: Range<usize>) -> Tensor {
        assert!(
            range.start <= range.end && range.end <= x.rows,
            "rows {range:?} of {:?}",
            x.shape()
        );
        let offset = x.offset + 4 * (range.start * x.cols) as u64;
        let alignment = u64::from(self.0.device.limits().min_storage_buffer_offset_alignment);
        if offset.is_multiple_of(alignment) {
            return Tensor {
                offset,
                rows: range.len(),
                ..x.clone()
            };
        }
        let y = self.alloc(range.len(), x.cols);
        kernels::copy(self, x, range.start * x.cols, y.len(), y.binding(), 0);
        y
    }

    fn concat(&self, xs: &[&Tensor]) -> Tensor {
        let cols = xs.first().map_or(0, |x| x.cols);
        assert!(
            xs.iter().all(|x| x.cols == cols),
            "concat of unequal columns"
        );
        let y = self.alloc(xs.iter().map(|x| x.rows).sum(), cols);
        let mut at = 0;
        for x in xs {
            kernels::copy(self, x, 0, x.len(), y.binding(), at);
            at += x.len();
        }
        y
    }

    fn gather(&self, x: &Tensor, ids: &Ids) -> Tensor {
        kernels::gather(self, x, ids, 1)
    }

    fn embed(&self, table: &Matrix, ids: &Ids) -> Tensor {
        kernels::embed(self, table, ids)
    }

    fn mean(&self, x: &Tensor, run: usize) -> Tensor {
        kernels::mean(self, x, run)
    }

    fn matmul(&self, x: &Tensor, w: &Matrix) -> Tensor {
        kernels::matmul(self, x, w)
    }

    fn add(&self, x: &Tensor, y: &Tensor) -> Tensor {
        kernels::add(self, x, y)
    }

    fn activate(&self, x: &Tensor, f: Activation) -> Tensor {
        kernels::activate(self, x, f)
    }

    fn silu_mul(&self, gate: &Tensor, up: &Tensor) -> Tensor {
        kernels::silu_mul(self, gate, up)
    }

    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Tensor {
        kernels::layer_norm(self, x, weight, bias, eps)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Tensor {
        kernels::rms_norm(self, x, weight, eps)
    }

    fn rope(&self, x: &Tensor, table: &Tensor, head_dim: usize, pos: usize) -> Tensor {
        kernels::rope(self, x, table, head_dim, pos)
    }

    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, batch: usize) -> Tensor {
        kernels::attention(self, q, k, v, heads, batch)
    }

    fn append(&self, cache: &mut KvCache, pos: usize, k: &Tensor, v: &Tensor) {
        kernels::append(self, cache, pos, k, v);
    }

    fn attention_causal(&self, q: &Tensor, cache: &KvCache, heads: Heads, pos: usize) -> Tensor {
        kernels::attention_causal(self, q, cache, heads, pos)
    }

    fn add_matmul(&self, x: &Tensor, y: &Tensor, w: &Matrix) -> Tensor {
        kernels::add_matmul(self, x, y, w)
    }

    fn swiglu(&self, x: &Tensor, norm: Norm<Tensor>, gate: &Matrix, up: &Matrix) -> Tensor {
        kernels::swiglu(self, x, norm, gate, up)
    }

    fn project_qkv(
        &self,
        x: &Tensor,
        norm: Norm<Tensor>,
        [wq, wk, wv]: [&Matrix; 3],
        rotation: Rotation<Tensor>,
        places: &mut [CachePlace<KvCache>],
    ) -> Vec<Tensor> {
        let qkv = kernels::normed_matmul(self, x, norm, &[wq, wk, wv]);
        let run = x.rows / places.len();
        let mut queries = Vec::with_capacity(places.len());
        for (i, place) in places.iter().enumerate() {
            assert_eq!((wk.rows, wv.rows), (place.cache.width, place.cache.width));
            let qkv = self.slice(&qkv, i * run..(i + 1) * run);
            queries.push(kernels::rope_append(self, &qkv, &rotation, place));
        }
        queries
    }

    fn dpc_knn(
        &self,
        x: &Tensor,
        batch: usize,
        clusters: usize,
        k: usize,
        noise: Option<&Tensor>,
    ) -> Clusters<Ids> {
        kernels::dpc_knn(self, x, batch, clusters, k, noise)
    }

    fn merge(&self, x: &Tensor, groups: &Ids, batch: usize, clusters: usize) -> Tensor {
        kernels::merge(self, x, groups, batch, clusters)
    }

    fn choose(&self, logits: &Tensor, choice: &Choice) -> Ids {
        kernels::choose(self, logits, choice)
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::gpu::GpuOptions;

    fn gpu() -> Gpu {
        block_on(Gpu::new(GpuOptions::default())).expect("a GPU, or lavapipe: cargo xtask setup")
    }

    /// A loop of operations as in decoding.
    fn step(gpu: &Gpu, x: &Tensor, w: &Matrix) -> Tensor {
        let weight = gpu.slice(x, 0..1);
        (0..20).fold(x.clone(), |x, _| {
            let normed = gpu.rms_norm(&x, &weight, 1e-5);
            gpu.add(&x, &gpu.matmul(&normed, w))
        })
    }

    #[test]
    fn the_steady_state_allocates_nothing() {
        let gpu = gpu();
        let mut w = gpu.alloc_matrix(GgmlType::F32, 64, 64).expect("room");
        gpu.write_matrix(&mut w, 0, &[0; 4 * 64 * 64]);
        let x = gpu.tensor(&[1.0; 64], 64);
        let token = || {
            let y = step(&gpu, &x, &w);
            block_on(gpu.read(&y)).expect("a result")
        };
        token();
        token();
        let before = (
            gpu.0.memory.created(),
            gpu.0.recorder.borrow().created(),
            gpu.0.memory.submit(),
        );
        token();
        let after = (
            gpu.0.memory.created(),
            gpu.0.recorder.borrow().created(),
            gpu.0.memory.submit(),
        );
        assert_eq!(
            after,
            (before.0, before.1, before.2 + 1),
            "buffers, bind groups, submits"
        );
    }

    /// Dispatches of a layer of LLaMA for one token.
    fn dispatches_of_a_layer(options: GpuOptions) -> u64 {
        let gpu = block_on(Gpu::new(options)).expect("a GPU, or lavapipe");
        let matrix = || {
            let mut w = gpu.alloc_matrix(GgmlType::F32, 64, 64).expect("room");
            gpu.write_matrix(&mut w, 0, &[0; 4 * 64 * 64]);
            w
        };
        let [mut wq, mut wk, mut wv, wo, mut gate, mut up, down] = [(); 7].map(|()| matrix());
        let mut cache = gpu.kv_cache(64, 8, KvType::F32);
        let stacked = async {
            gpu.stack(&mut [&mut wq, &mut wk, &mut wv]).await?;
            gpu.stack(&mut [&mut gate, &mut up]).await?;
            gpu.reserve(&mut cache, 8).await?;
            gpu.finish().await
        };
        block_on(stacked).expect("a healthy device");
        let (x, table) = (gpu.tensor(&[1.0; 64], 64), gpu.tensor(&[1.0; 64], 8));
        let norm = || Norm {
            weight: &x,
            eps: 1e-5,
        };
        let rotation = Rotation {
            table: &table,
            head_dim: 16,
        };
        let place = CachePlace {
            cache: &mut cache,
            pos: 0,
        };
        let heads = Heads {
            heads: 4,
            kv_heads: 4,
            head_dim: 16,
        };
        let before = gpu.0.recorder.borrow().counts().dispatches;
        let q = gpu.project_qkv(&x, norm(), [&wq, &wk, &wv], rotation, &mut [place]);
        let y = gpu.add_matmul(&x, &gpu.attention_causal(&q[0], &cache, heads, 0), &wo);
        let y = gpu.add_matmul(&y, &gpu.swiglu(&y, norm(), &gate, &up), &down);
        block_on(gpu.finish()).expect("a healthy device");
        assert_eq!(y.shape(), [1, 64]);
        gpu.0.recorder.borrow().counts().dispatches - before
    }

    #[test]
    fn a_layer_takes_few_dispatches() {
        // Projections, rotation and cache, two of attention, a sum, the gate, a sum.
        let hardware = GpuOptions::default().as_hardware(true);
        assert_eq!(dispatches_of_a_layer(hardware), 7);
        // Both norms by themselves, unless there is a GPU after all.
        assert!([7, 9].contains(&dispatches_of_a_layer(GpuOptions::default())));
    }

    #[test]
    fn an_upload_does_not_overwrite_what_recorded_commands_read() {
        let gpu = gpu();
        let old = gpu.tensor(&[1.0; 64], 64);
        let sum = gpu.add(&old, &old);
        drop(old);
        let new = gpu.tensor(&[5.0; 64], 64);
        assert_eq!(block_on(gpu.read(&sum)), Ok(vec![2.0; 64]));
        assert_eq!(block_on(gpu.read(&new)), Ok(vec![5.0; 64]));
    }

    #[test]
    fn idle_and_dropped_buffers_are_freed() {
        let gpu = gpu();
        let w = gpu.alloc_matrix(GgmlType::F32, 64, 64).expect("room");
        let x = gpu.tensor(&[1.0; 64], 64);
        drop(gpu.matmul(&x, &w));
        block_on(gpu.finish()).expect("a healthy device");
        let held = gpu.0.recorder.borrow().created();
        drop((w, x));
        for _ in 0..400 {
            block_on(gpu.finish()).expect("a healthy device");
        }
        assert!(
            gpu.0.recorder.borrow().created() < held,
            "bind groups keep dead buffers alive"
        );
        assert_eq!(
            gpu.0.memory.free_buffers(),
            1,
            "the marker of finish() alone is in use"
        );
    }

    #[test]
    fn bind_groups_that_nothing_uses_any_more_are_dropped() {
        let gpu = gpu();
        let x = gpu.tensor(&[1.0; 64], 64);
        let mut kept = Vec::new();
        for _ in 0..200 {
            // What is kept stays in a buffer of its own, so every sum has a bind group of its own.
            kept.push(gpu.add(&x, &x));
            block_on(gpu.finish()).expect("a healthy device");
        }
        let held = gpu.0.recorder.borrow().created();
        assert!(held < 100, "{held} bind groups are held");
        assert_eq!(block_on(gpu.read(&kept[0])), Ok(vec![2.0; 64]));
    }

    #[test]
    fn work_beyond_a_submit_is_split() {
        let gpu = gpu();
        let x = gpu.tensor(&[1.0; 64], 64);
        let first = gpu.0.memory.submit();
        let mut y = x.clone();
        for _ in 0..3000 {
            y = gpu.add(&y, &x);
        }
        assert_eq!(block_on(gpu.read(&y)), Ok(vec![3001.0; 64]));
        assert_eq!(gpu.0.memory.submit() - first, 3, "1024 dispatches each");
    }
}
