//! The device: how it is opened, and what goes to it.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
};

use super::{
    compile_ahead::{CompileAhead, Upcoming},
    device_errors::{self, DeviceErrors},
    kernel::{Constants, Kernel, KernelParams},
    memory::{Binding, Buffer, Memory},
    recorder::{GpuCounts, Recorder},
    tensor::{Ids, Tensor},
};
use crate::{Error, Result, backend::Backend as _, gguf::GgmlType};

/// Work of one submit on a real GPU, in floating-point operations: milliseconds on a fast one, well
/// under half a second on a slow one, and more than a token of a 7B model takes.
const MAX_WORK_GPU: u64 = 16_000_000_000;
/// The same where the adapter is software.
const MAX_WORK_CPU: u64 = 2_000_000_000;

/// Options of opening a GPU.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct GpuOptions {
    /// The limits to ask for.
    pub limits: LimitsChoice,
    /// Compiles pipelines while something else goes on, where wgpu can't.
    pub compile_ahead: Option<CompileAhead>,
    /// Bytes that all buffers together may take, as if the device had no more. For tests.
    pub memory_bytes: Option<u64>,
    /// Uses the kernels that hardware gets on a software adapter, too. For tests.
    pub as_hardware: bool,
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

    /// Sets [`GpuOptions::as_hardware`].
    pub fn as_hardware(mut self, as_hardware: bool) -> GpuOptions {
        self.as_hardware = as_hardware;
        self
    }
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

/// The GPU backend. Clones share the device. Not `Send`: neither is what it computes.
#[derive(Clone)]
pub struct Gpu(pub(super) Rc<Inner>);

pub(super) struct Inner {
    pub device: wgpu::Device,
    pub adapter: AdapterInfo,
    pub errors: DeviceErrors,
    pub memory: Memory,
    pub recorder: RefCell<Recorder>,
    pub upcoming: Upcoming,
    /// Buffers that results were read through, to be used again.
    pub staging: RefCell<Vec<wgpu::Buffer>>,
    /// Bytes of matrices that were put together since the device was last waited for.
    pub stacked_bytes: Cell<u64>,
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
        let constants = if adapter.software && !options.as_hardware {
            Constants::SOFTWARE
        } else {
            Constants::HARDWARE
        };
        let open = |constants, memory_bytes, compile_ahead| {
            let memory = Memory::new(&device, &errors, memory_bytes);
            let max_work = if adapter.software {
                MAX_WORK_CPU
            } else {
                MAX_WORK_GPU
            };
            let recorder = Recorder::new(&device, &queue, &errors, &memory, max_work, constants);
            Gpu(Rc::new(Inner {
                device: device.clone(),
                adapter: adapter.clone(),
                errors: errors.clone(),
                memory,
                recorder: RefCell::new(recorder),
                upcoming: Upcoming::new(&device, compile_ahead),
                staging: RefCell::default(),
                stacked_bytes: Cell::default(),
            }))
        };
        let halves_are_exact = halves_are_exact(&open(constants, None, None)).await?;
        let constants = Constants {
            halves_are_exact,
            ..constants
        };
        Ok(open(constants, options.memory_bytes, options.compile_ahead))
    }

    /// Returns what the device is and can do.
    pub fn adapter_info(&self) -> &AdapterInfo {
        &self.0.adapter
    }

    /// Gives the device back. Whatever is awaited or recorded from here on fails with `DeviceLost`.
    pub fn destroy(&self) {
        self.0.errors.lose("it was given back");
        self.0.device.destroy();
    }

    /// Records a kernel: `buffers` are those it reads, then those it writes.
    pub(super) fn run(
        &self,
        kernel: Kernel,
        buffers: &[Binding],
        params: &impl KernelParams,
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

    /// Returns the bytes of this device's memory that are taken: weights, KV caches, and buffers
    /// that are kept for results.
    pub fn memory_bytes(&self) -> u64 {
        self.0.memory.bytes()
    }

    /// Returns how often this device was spoken to since it was opened.
    pub fn counts(&self) -> GpuCounts {
        self.0.recorder.borrow().counts()
    }

    /// The most work that one dispatch should hold, in floating-point operations.
    pub(super) fn max_work(&self) -> u64 {
        self.0.recorder.borrow().max_work()
    }

    /// What shaders leave to this device.
    pub(super) fn constants(&self) -> Constants {
        self.0.recorder.borrow().constants()
    }

    /// Room for a result.
    pub(super) fn alloc(&self, rows: usize, cols: usize) -> Tensor {
        let buffer = self.0.memory.take(4 * rows as u64 * cols as u64);
        Tensor {
            buffer,
            offset: 0,
            rows,
            cols,
        }
    }

    pub(super) fn alloc_ids(&self, len: usize) -> Ids {
        Ids {
            buffer: self.0.memory.take(4 * len as u64),
            len,
        }
    }

    /// Room for `data`, and its bytes in it.
    pub(super) fn upload(&self, data: &[u8]) -> Buffer {
        let buffer = self.0.memory.take_for_upload(data.len() as u64);
        self.write(&buffer, 0, data);
        buffer
    }

    /// Writes `bytes` at byte `offset`, filled up to whole words.
    pub(super) fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        let mut recorder = self.0.recorder.borrow_mut();
        let (words, rest) = bytes.split_at(bytes.len() / 4 * 4);
        if !words.is_empty() {
            recorder.upload(buffer, offset, words);
        }
        if !rest.is_empty() {
            let mut word = [0; 4];
            word[..rest.len()].copy_from_slice(rest);
            recorder.upload(buffer, offset + words.len() as u64, &word);
        }
    }

    /// A buffer that lives as long as the model.
    pub(super) fn persistent(&self, bytes: u64, what: impl Fn() -> String) -> Result<Buffer> {
        let limit_bytes = self.0.memory.max_bytes();
        let refused = || Error::OutOfMemory {
            what: what(),
            needed_bytes: bytes,
            limit_bytes,
        };
        if bytes > limit_bytes {
            return Err(refused());
        }
        let buffer = self.0.memory.alloc(bytes);
        // Natively a refusal is known by now; in a browser it comes with the next read.
        match self.0.errors.take() {
            Err(Error::OutOfMemory { .. }) => Err(Error::OutOfMemory {
                what: what(),
                needed_bytes: bytes,
                limit_bytes: 0,
            }),
            Err(error) => Err(error),
            Ok(()) => Ok(buffer),
        }
    }
}

/// Whether the device widens halves exactly when it is asked to at once, subnormal ones too.
async fn halves_are_exact(gpu: &Gpu) -> Result<bool> {
    // Every exponent of either sign, with the smallest mantissas, the largest and one between.
    let halves =
        |exponent: u16| [0, 1, 2, 0x155, 0x3ff].map(|mantissa| (exponent << 10) | mantissa);
    let bits: Vec<u16> = (0..31)
        .flat_map(halves)
        .flat_map(|half| [half, half | 0x8000])
        .chain([0; 10]) // To a multiple of 32.
        .collect();
    let mut table = gpu.alloc_matrix(GgmlType::F16, 1, bits.len())?;
    gpu.write_matrix(&mut table, 0, bytemuck::cast_slice(&bits));
    let widened = gpu.read(&gpu.embed(&table, &gpu.ids(&[0]))).await?;
    let exact = |(&bits, &widened): (&u16, &f32)| half::f16::from_bits(bits).to_f32() == widened;
    Ok(bits.iter().zip(&widened).all(exact))
}
