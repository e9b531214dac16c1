//! What computes.

use univi::{Cpu, Error, Gpu, Result, gpu::GpuOptions};

use crate::{args::DeviceChoice, out};

/// A backend, by the user's choice.
pub enum Device {
    /// candle on the CPU.
    Cpu(Cpu),
    /// wgpu on the GPU.
    Gpu(Gpu),
}

impl Device {
    /// Opens what the user chose; says on stderr why it is the CPU where the choice was free.
    ///
    /// # Errors
    /// `NoGpu` where the GPU was asked for and there is none.
    pub async fn open(choice: DeviceChoice) -> Result<Device> {
        if choice == DeviceChoice::Cpu {
            return Ok(Device::Cpu(Cpu));
        }
        match Gpu::new(GpuOptions::default()).await {
            Ok(gpu) => Ok(Device::Gpu(gpu)),
            Err(error @ Error::NoGpu { .. }) if choice == DeviceChoice::Auto => {
                out::note(&format!("using the CPU: {error}"));
                Ok(Device::Cpu(Cpu))
            }
            Err(error) => Err(error),
        }
    }

    /// What to call it.
    pub fn name(&self) -> String {
        match self {
            Device::Cpu(_) => "cpu".into(),
            Device::Gpu(gpu) => format!("gpu: {}", gpu.adapter_info()),
        }
    }
}
