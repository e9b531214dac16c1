//! [`Backend`] on wgpu: one code for Vulkan, Metal and DX12 natively and for WebGPU in the browser.
//!
//! - `memory`: buffers that return to a pool;
//! - `recorder`: commands, their parameters, pipelines and bind groups; one pass and one submit for
//!   as much work as a device may be given at once;
//! - `matrix`: weights, as the bytes of the file;
//! - `kv_cache`: keys and values, in buffers that grow;
//! - `kernels`: each shader beside the Rust that records it;
//! - `read`: the one thing that waits;
//! - `device_errors`: what goes wrong meanwhile.
//!
//! Everything runs with the limits that WebGPU guarantees and in plain f32.

mod device_errors;
mod kernels;
mod kv_cache;
mod matrix;
mod memory;
mod read;
mod recorder;

use std::{
    any::Any,
    cell::RefCell,
    fmt,
    ops::Range,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytemuck::Pod;

use self::{
    device_errors::DeviceErrors,
    kernels::Kernel,
    memory::{Buffer, Memory},
    recorder::{Binding, Recorder},
};
use crate::{
    Error, Result,
    backend::{Activation, Backend, Clusters, Heads, KvType},
    gguf::GgmlType,
};

pub use self::{kv_cache::KvCache, matrix::Matrix};

/// Work of one submit on a real GPU, in floating-point operations: milliseconds on a fast one, well
/// under half a second on a slow one, and more than a token of a 7B model takes.
const MAX_WORK_GPU: u64 = 16_000_000_000;
/// The same where the adapter is software.
const MAX_WORK_CPU: u64 = 2_000_000_000;

/// How to choose and use a GPU.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct GpuOptions {
    /// The limits to ask for.
    pub limits: LimitsChoice,
    /// Compiles pipelines while something else goes on, where wgpu can't.
    pub compile_ahead: Option<CompileAhead>,
    /// Bytes that all buffers together may take, as if the device had no more. For tests.
    pub memory_bytes: Option<u64>,
}

impl GpuOptions {
    /// Sets [`GpuOptions::limits`].
    pub fn limits(mut self, limits: LimitsChoice) -> GpuOptions {
        self.limits = limits;
        self
    }

    /// Sets [`GpuOptions::compile_ahead`].
    pub fn compile_ahead(mut self, compile_ahead: impl Into<Option<CompileAhead>>) -> GpuOptions {
        self.compile_ahead = compile_ahead.into();
        self
    }

    /// Sets [`GpuOptions::memory_bytes`].
    pub fn memory_bytes(mut self, memory_bytes: impl Into<Option<u64>>) -> GpuOptions {
        self.memory_bytes = memory_bytes.into();
        self
    }
}

/// Compiles what wgpu will be asked for soon, on a device of its own making, so that its driver has
/// it at hand by then: a browser compiles in the background only for `createComputePipelineAsync`,
/// which wgpu does not call.
#[derive(Clone)]
pub struct CompileAhead(pub Rc<CompileShader>);

/// Begins to compile.
pub type CompileShader = dyn Fn(&wgpu::Device, &Shader) -> Compiling;

/// What comes out at the end is kept until wgpu has been asked.
pub type Compiling = Pin<Box<dyn Future<Output = Box<dyn Any>>>>;

impl fmt::Debug for CompileAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompileAhead")
    }
}

/// What a pipeline is made of. Binding 0 is a uniform buffer with a dynamic offset, the others are
/// storage buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shader {
    /// WGSL.
    pub source: String,
    /// The entry point.
    pub entry: &'static str,
    /// Storage buffers that are read only: bindings 1 and up.
    pub reads: usize,
    /// Storage buffers that are written, behind them.
    pub writes: usize,
    /// The size of binding 0.
    pub params_bytes: u64,
}

/// The limits that a device is created with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LimitsChoice {
    /// All that the adapter has.
    #[default]
    Adapter,
    /// What WebGPU guarantees everywhere: bindings of 128 MiB, buffers of 256 MiB, 16 KiB of
    /// workgroup memory, 8 storage buffers. For tests.
    WebGpuDefault,
}

/// The GPU backend. Clones share the device.
#[derive(Clone)]
pub struct Gpu(Rc<Inner>);

struct Inner {
    device: wgpu::Device,
    adapter: AdapterInfo,
    errors: DeviceErrors,
    memory: Memory,
    recorder: RefCell<Recorder>,
    compile_ahead: Option<CompileAhead>,
    /// What is being compiled.
    ahead: RefCell<Vec<(Kernel, Compiling)>>,
    /// Buffers that results were read through, to be used again.
    staging: RefCell<Vec<wgpu::Buffer>>,
}

/// What the device is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// The adapter's name.
    pub name: String,
    /// "vulkan", "metal", "dx12" or "webgpu".
    pub backend: String,
    /// Whether the adapter is software that runs on the CPU.
    pub software: bool,
    /// The largest part of a buffer that a kernel may see.
    pub max_binding_bytes: u64,
    /// The largest buffer.
    pub max_buffer_bytes: u64,
    /// Memory of a workgroup.
    pub workgroup_memory_bytes: u32,
    /// Threads of a workgroup.
    pub workgroup_threads: u32,
}

impl fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdapterInfo {
            name,
            backend,
            software,
            ..
        } = self;
        let kind = if *software { ", software" } else { "" };
        write!(
            f,
            "{name} ({backend}{kind}; bindings {} MiB, buffers {} MiB, workgroups of {} threads and {} KiB)",
            self.max_binding_bytes >> 20,
            self.max_buffer_bytes >> 20,
            self.workgroup_threads,
            self.workgroup_memory_bytes >> 10
        )
    }
}

/// An f32 matrix on the device, row-major.
#[derive(Clone)]
pub struct Tensor {
    buffer: Buffer,
    /// In bytes: a tensor may be rows of another one.
    offset: u64,
    rows: usize,
    cols: usize,
}

impl Tensor {
    fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    fn len(&self) -> usize {
        self.rows * self.cols
    }

    fn binding(&self) -> Binding<'_> {
        Binding {
            buffer: &self.buffer,
            offset: self.offset,
        }
    }
}

/// A list of u32 on the device.
#[derive(Clone)]
pub struct Ids {
    buffer: Buffer,
    len: usize,
}

impl Ids {
    fn binding(&self) -> Binding<'_> {
        self.buffer.binding()
    }
}

impl Gpu {
    /// Opens the best GPU there is; natively, software will do where there is none.
    ///
    /// # Errors
    /// `NoGpu` where there is no adapter, or it can't do what is asked.
    pub async fn new(options: GpuOptions) -> Result<Gpu> {
        let no_gpu = |reason: String| Error::NoGpu { reason };
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(|error| {
                no_gpu(format!(
                    "{error}; install a Vulkan, Metal or DX12 driver, or use a browser with WebGPU"
                ))
            })?;
        let required_limits = match options.limits {
            LimitsChoice::Adapter => adapter.limits(),
            LimitsChoice::WebGpuDefault => wgpu::Limits::default(),
        };
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("univi"),
                required_limits,
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                ..Default::default()
            })
            .await
            .map_err(|error| no_gpu(error.to_string()))?;
        let errors = DeviceErrors::default();
        device_errors::watch(&device, &errors);

        let info = adapter.get_info();
        let limits = device.limits();
        let adapter = AdapterInfo {
            name: if info.name.is_empty() {
                "unnamed adapter".into()
            } else {
                info.name
            },
            backend: match info.backend {
                wgpu::Backend::BrowserWebGpu => "webgpu".into(),
                other => other.to_str().into(),
            },
            software: info.device_type == wgpu::DeviceType::Cpu,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_buffer_bytes: limits.max_buffer_size,
            workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_threads: limits.max_compute_invocations_per_workgroup,
        };
        let max_work = if adapter.software {
            MAX_WORK_CPU
        } else {
            MAX_WORK_GPU
        };
        let memory = Memory::new(&device, &errors, options.memory_bytes);
        let recorder = RefCell::new(Recorder::new(&device, &queue, &errors, &memory, max_work));
        Ok(Gpu(Rc::new(Inner {
            device,
            adapter,
            errors,
            memory,
            recorder,
            compile_ahead: options.compile_ahead,
            ahead: RefCell::default(),
            staging: RefCell::default(),
        })))
    }

    /// What the device is and can do.
    pub fn adapter_info(&self) -> &AdapterInfo {
        &self.0.adapter
    }

    /// Gives the device back. Whatever is awaited or recorded from here on fails with `DeviceLost`.
    pub fn destroy(&self) {
        self.0.errors.lose("it was given back");
        self.0.device.destroy();
    }

    /// Records a kernel: `buffers` are those it reads, then those it writes.
    fn run(
        &self,
        kernel: Kernel,
        buffers: &[Binding],
        params: &impl Pod,
        groups: [u32; 3],
        work: u64,
    ) {
        self.0.recorder.borrow_mut().record(
            kernel,
            buffers,
            bytemuck::bytes_of(params),
            groups,
            work,
        );
    }

    /// Bytes of this device's memory that are taken: weights, KV caches, and buffers that are kept
    /// for results.
    pub fn memory_bytes(&self) -> u64 {
        self.0.memory.bytes()
    }

    /// The most work that one dispatch should hold, in floating-point operations.
    fn max_work(&self) -> u64 {
        self.0.recorder.borrow().max_work()
    }

    /// Creates the pipelines of `kernels`, or begins to.
    fn prepare(&self, kernels: impl IntoIterator<Item = Kernel>) {
        let mut recorder = self.0.recorder.borrow_mut();
        let mut ahead = self.0.ahead.borrow_mut();
        for kernel in kernels {
            match &self.0.compile_ahead {
                None => drop(recorder.pipeline(kernel)),
                Some(_) if recorder.has_pipeline(kernel) => {}
                Some(_) if ahead.iter().any(|(begun, _)| begun.key() == kernel.key()) => {}
                Some(CompileAhead(compile)) => {
                    ahead.push((kernel, compile(&self.0.device, &kernel.shader())));
                }
            }
        }
    }

    /// Takes over a pipeline that has been compiled ahead by now, if there is one: while weights
    /// are on their way there is time, though not for all of them at once.
    fn adopt_compiled(&self) {
        let mut ahead = self.0.ahead.borrow_mut();
        let mut context = Context::from_waker(Waker::noop());
        let ready = ahead
            .iter_mut()
            .enumerate()
            .find_map(
                |(i, (_, compiling))| match compiling.as_mut().poll(&mut context) {
                    Poll::Ready(kept) => Some((i, kept)),
                    Poll::Pending => None,
                },
            );
        if let Some((i, kept)) = ready {
            let (kernel, _) = ahead.swap_remove(i);
            self.0.recorder.borrow_mut().pipeline(kernel);
            drop(kept);
        }
    }

    /// Room for a result.
    fn alloc(&self, rows: usize, cols: usize) -> Tensor {
        let buffer = self.0.memory.take(4 * rows as u64 * cols as u64);
        Tensor {
            buffer,
            offset: 0,
            rows,
            cols,
        }
    }

    fn alloc_ids(&self, len: usize) -> Ids {
        Ids {
            buffer: self.0.memory.take(4 * len as u64),
            len,
        }
    }

    /// Room for `data`, and its bytes in it.
    fn upload(&self, data: &[u8]) -> Buffer {
        let buffer = self.0.memory.take_for_upload(data.len() as u64);
        self.write(&buffer, 0, data);
        buffer
    }
}

impl Backend for Gpu {
    type Tensor = Tensor;
    type Ids = Ids;
    type Matrix = Matrix;
    type KvCache = KvCache;

    /// Creates the pipelines of a model, all at once instead of each at its first use.
    fn prepare_pipelines(&self, types: &[GgmlType]) {
        let over = types.iter().flat_map(|&ty| kernels::over(ty));
        self.prepare(kernels::PLAIN.into_iter().chain(over));
    }

    fn prepare_cache_pipelines(&self, ty: KvType) {
        self.prepare(kernels::over_cache(ty));
    }

    async fn pipelines_ready(&self) {
        let ahead = self.0.ahead.take();
        for (kernel, compiled) in ahead {
            let kept = compiled.await;
            self.0.recorder.borrow_mut().pipeline(kernel);
            drop(kept);
        }
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
        self.new_matrix(ty, rows, cols)
    }

    fn write_matrix(&self, matrix: &mut Matrix, offset: usize, bytes: &[u8]) {
        self.fill_matrix(matrix, offset, bytes);
    }

    async fn read_matrix(&self, matrix: &Matrix, offset: usize, bytes: usize) -> Result<Vec<u8>> {
        let mut read = Vec::with_capacity(bytes);
        for part in &matrix.parts {
            let first = part.first * matrix.row_bytes;
            let from = (offset + read.len()).saturating_sub(first);
            let count = (part.rows * matrix.row_bytes)
                .saturating_sub(from)
                .min(bytes - read.len());
            if count > 0 {
                let binding = Binding {
                    buffer: &part.buffer,
                    offset: from as u64,
                };
                // Whole words are copied; behind the last byte there is room.
                let words = self
                    .read_bytes(binding, count.next_multiple_of(4) as u64)
                    .await?;
                read.extend_from_slice(&words[..count]);
            }
        }
        Ok(read)
    }

    fn kv_cache(&self, width: usize, most: usize, ty: KvType) -> KvCache {
        KvCache::new(width, most, ty)
    }

    async fn reserve(&self, cache: &mut KvCache, positions: usize) -> Result<()> {
        self.grow(cache, positions).await
    }

    async fn copy_kv_cache(&self, cache: &KvCache, len: usize) -> Result<KvCache> {
        self.copied(cache, len).await
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

    async fn read_ids(&self, ids: &Ids) -> Result<Vec<u32>> {
        let bytes = self.read_bytes(ids.binding(), 4 * ids.len as u64).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    async fn finish(&self) -> Result<()> {
        let marker = self.alloc_ids(1);
        self.read_bytes(marker.binding(), 4).await?;
        self.adopt_compiled();
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
        self.copy(x, range.start * x.cols, y.len(), y.binding(), 0);
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
            self.copy(x, 0, x.len(), y.binding(), at);
            at += x.len();
        }
        y
    }

    fn gather(&self, x: &Tensor, ids: &Ids) -> Tensor {
        self.gather_in_sets(x, ids, 1)
    }

    fn embed(&self, table: &Matrix, ids: &Ids) -> Tensor {
        self.embed_rows(table, ids)
    }

    fn mean(&self, x: &Tensor, run: usize) -> Tensor {
        self.mean_of_runs(x, run)
    }

    fn matmul(&self, x: &Tensor, w: &Matrix) -> Tensor {
        self.matmul(x, w)
    }

    fn add(&self, x: &Tensor, y: &Tensor) -> Tensor {
        self.add_repeated(x, y)
    }

    fn activate(&self, x: &Tensor, f: Activation) -> Tensor {
        self.apply(x, f)
    }

    fn silu_mul(&self, gate: &Tensor, up: &Tensor) -> Tensor {
        self.silu_mul(gate, up)
    }

    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Tensor {
        self.layer_normed(x, weight, bias, eps)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Tensor {
        self.rms_normed(x, weight, eps)
    }

    fn rope(&self, x: &Tensor, table: &Tensor, head_dim: usize, pos: usize) -> Tensor {
        self.rotated(x, table, head_dim, pos)
    }

    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, batch: usize) -> Tensor {
        self.attention(q, k, v, heads, batch)
    }

    fn append(&self, cache: &mut KvCache, pos: usize, k: &Tensor, v: &Tensor) {
        self.appended(cache, pos, k, v);
    }

    fn attention_causal(&self, q: &Tensor, cache: &KvCache, heads: Heads, pos: usize) -> Tensor {
        self.attend_causal(q, cache, heads, pos)
    }

    fn dpc_knn(
        &self,
        x: &Tensor,
        batch: usize,
        clusters: usize,
        k: usize,
        noise: Option<&Tensor>,
    ) -> Clusters<Ids> {
        self.cluster(x, batch, clusters, k, noise)
    }

    fn merge(&self, x: &Tensor, groups: &Ids, batch: usize, clusters: usize) -> Tensor {
        self.merged(x, groups, batch, clusters)
    }

    fn argmax(&self, x: &Tensor) -> Ids {
        self.argmax(x)
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;

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
