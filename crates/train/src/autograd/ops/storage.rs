//! Numbers in candle's tensors, and tensors of numbers.

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, Tensor, bail};

/// The numbers of a contiguous operand.
pub(super) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("an operand of a fused operation is not contiguous"),
    }
}

/// Calls `work` with the numbers of tensors.
pub(super) fn with<const N: usize, T>(
    tensors: [&Tensor; N],
    work: impl FnOnce([&[f32]; N]) -> Result<T>,
) -> Result<T> {
    let tensors = tensors.map(Tensor::contiguous);
    let mut held = Vec::with_capacity(N);
    for tensor in &tensors {
        match tensor {
            Ok(tensor) => held.push(tensor.storage_and_layout()),
            Err(error) => bail!("{error}"),
        }
    }
    let mut slices = [&[] as &[f32]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&held) {
        match &**storage {
            Storage::Cpu(storage) => *slice = values(storage, layout)?,
            _ => bail!("a fused operation runs on the CPU"),
        }
    }
    work(slices)
}

pub(super) fn tensor_like(data: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), like.device())
}

pub(super) fn done(data: Vec<f32>, shape: &Shape) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(data), shape.clone()))
}
