//! [`Backend`](crate::Backend) on wgpu: one code for Vulkan, Metal and DX12 natively and for WebGPU
//! in the browser.
//!
//! - `device`: how the GPU is opened, and what goes to it;
//! - `backend`: the operations, each recorded by the kernel of its name;
//! - `kernel`: what a kernel is; `kernels`: each shader beside the function that records it;
//! - `memory`: buffers that return to a pool; `tensor`, `matrix`, `kv_cache`: what lies in them;
//! - `recorder`: commands, their parameters, pipelines and bind groups; one pass and one submit for
//!   as much work as a device may be given at once;
//! - `compile_ahead`: pipelines that are compiled before they are needed;
//! - `read`: the one thing that waits;
//! - `device_errors`: what goes wrong meanwhile.
//!
//! Everything runs with the limits that WebGPU guarantees and in plain f32.
//!
//! Types of wgpu appear in public signatures here and in no other module: [`CompileShader`] is
//! given the [`wgpu::Device`].

mod backend;
mod compile_ahead;
mod device;
mod device_errors;
mod kernel;
mod kernels;
mod kv_cache;
mod matrix;
mod memory;
mod read;
mod recorder;
mod tensor;

pub use self::{
    compile_ahead::{CompileAhead, CompileShader, Compiling},
    device::{AdapterInfo, Gpu, GpuOptions, LimitsChoice},
    kernel::Shader,
    kv_cache::KvCache,
    matrix::Matrix,
    recorder::GpuCounts,
    tensor::{Ids, Tensor},
};

/// Returns every shader over everything that it works on, as hardware gets it, for tools that
/// compile them apart.
pub fn shaders() -> Vec<Shader> {
    kernels::all()
        .map(|kernel| kernel.shader(kernel::Constants::HARDWARE))
        .collect()
}
