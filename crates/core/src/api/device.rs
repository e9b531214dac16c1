//! The one place that knows which backends there are.

use std::any::Any;

use crate::{
    Backend, Cpu, Error, Gpu, Result,
    backend::Load,
    gpu::{AdapterInfo, GpuCounts, GpuOptions},
};

/// Which compute device to open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// The GPU, or the CPU where there is none but software that plays one: this crate's own CPU
    /// path is faster, and takes the same memory.
    #[default]
    Auto,
    /// The GPU: Vulkan, Metal, Direct3D 12, or WebGPU in a browser; also one that is software.
    Gpu,
    /// The CPU.
    Cpu,
}

impl Device {
    /// Opens the device.
    ///
    /// # Errors
    /// `NoGpu` where [`Device::Gpu`] was asked for and there is none.
    pub async fn open(self) -> Result<OpenDevice> {
        self.open_with(GpuOptions::default()).await
    }

    /// Opens the device; the GPU with these options.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn open_with(self, options: GpuOptions) -> Result<OpenDevice> {
        let cpu = |no_gpu| OpenDevice {
            backend: OnBackend::Cpu(Cpu),
            no_gpu,
        };
        if self == Device::Cpu {
            return Ok(cpu(None));
        }
        match Gpu::new(options).await {
            Ok(gpu) if self == Device::Auto && gpu.adapter_info().software => {
                let reason = format!("the adapter is software: {}", gpu.adapter_info().name);
                gpu.destroy();
                Ok(cpu(Some(Error::NoGpu { reason })))
            }
            Ok(gpu) => Ok(OpenDevice {
                backend: OnBackend::Gpu(gpu),
                no_gpu: None,
            }),
            Err(error @ Error::NoGpu { .. }) if self == Device::Auto => Ok(cpu(Some(error))),
            Err(error) => Err(error),
        }
    }
}

/// A compute device that is open. Clones share it. Not `Send`: it stays on its thread.
#[derive(Clone)]
pub struct OpenDevice {
    pub(super) backend: OnBackend<Cpu, Gpu>,
    no_gpu: Option<Error>,
}

impl OpenDevice {
    /// Returns the device's description: `cpu`, or `gpu: ` with the adapter.
    pub fn name(&self) -> String {
        match self.adapter_info() {
            None => "cpu".into(),
            Some(adapter) => format!("gpu: {adapter}"),
        }
    }

    /// Returns what the GPU is and can do; `None` for the CPU.
    pub fn adapter_info(&self) -> Option<&AdapterInfo> {
        self.gpu().map(Gpu::adapter_info)
    }

    /// Returns why [`Device::Auto`] opened the CPU; `None` where the GPU is open, or the CPU was
    /// asked for.
    pub fn why_not_gpu(&self) -> Option<&Error> {
        self.no_gpu.as_ref()
    }

    /// Returns the bytes of GPU memory in use; 0 for the CPU.
    pub fn memory_bytes(&self) -> u64 {
        self.gpu().map_or(0, Gpu::memory_bytes)
    }

    /// Returns how often the GPU was spoken to; `None` for the CPU.
    pub fn counts(&self) -> Option<GpuCounts> {
        self.gpu().map(Gpu::counts)
    }

    /// Waits until everything recorded so far is computed.
    ///
    /// # Errors
    /// As [`Backend::finish`].
    pub async fn finish(&self) -> Result<()> {
        dispatch!(&self.backend, backend => backend.finish().await)
    }

    /// Does about `amount` bytes or operations of one kind of work and waits for its end -> how
    /// much it was. Each call also takes some time of its own, for buffers and for the wait: a
    /// ceiling is the difference of two amounts over that of their times.
    ///
    /// # Errors
    /// As [`Backend::finish`].
    pub async fn exert(&self, load: Load, amount: u64) -> Result<u64> {
        dispatch!(&self.backend, backend => backend.exert(load, amount).await)
    }

    /// Compiles every shader, for every type of weights and caches, whatever a model would run
    /// here: for a browser or a driver that nobody has tried yet. On the CPU there is none.
    ///
    /// # Errors
    /// `Gpu`: what the driver or the browser says of a shader.
    pub async fn compile_shaders(&self) -> Result<()> {
        match self.gpu() {
            Some(gpu) => gpu.compile_shaders().await,
            None => Ok(()),
        }
    }

    /// Returns the GPU at once, rather than when the last value on it is dropped. Whatever is
    /// computed on it from here on fails with `DeviceLost`.
    pub fn close(&self) {
        if let Some(gpu) = self.gpu() {
            gpu.destroy();
        }
    }

    /// Runs generic work on the backend of this device.
    pub async fn run<W: BackendWork>(&self, work: W) -> W::Output {
        dispatch!(&self.backend, backend => work.run(backend).await)
    }

    fn gpu(&self) -> Option<&Gpu> {
        self.backend.get()
    }
}

/// Work that is written for every [`Backend`], for [`OpenDevice::run`].
#[allow(async_fn_in_trait)] // Nothing of a backend is `Send`.
pub trait BackendWork {
    /// The result.
    type Output;

    /// Does the work.
    async fn run<B: Backend>(self, backend: &B) -> Self::Output;
}

/// A value of a generic type on one backend or the other.
#[derive(Clone)]
pub(super) enum OnBackend<C, G> {
    Cpu(C),
    Gpu(G),
}

impl<C: 'static, G: 'static> OnBackend<C, G> {
    /// The value as a `T`, where it is on `T`'s backend.
    pub(super) fn get<T: 'static>(&self) -> Option<&T> {
        let value: &dyn Any = match self {
            OnBackend::Cpu(value) => value,
            OnBackend::Gpu(value) => value,
        };
        value.downcast_ref()
    }
}

/// Evaluates an expression for the value on whichever backend it is. With `map`, the result is a
/// value on that backend, too.
macro_rules! dispatch {
    (map $value:expr, $bound:pat => $body:expr) => {
        match $value {
            $crate::api::device::OnBackend::Cpu($bound) => {
                $crate::api::device::OnBackend::Cpu($body)
            }
            $crate::api::device::OnBackend::Gpu($bound) => {
                $crate::api::device::OnBackend::Gpu($body)
            }
        }
    };
    ($value:expr, $bound:pat => $body:expr) => {
        match $value {
            $crate::api::device::OnBackend::Cpu($bound) => $body,
            $crate::api::device::OnBackend::Gpu($bound) => $body,
        }
    };
}

pub(super) use dispatch;
