//! Values out of candle's tensors.

use candle_core::{CpuStorage, Device, Storage, Tensor};

/// Shapes were checked when the model was loaded: what candle refuses is a bug of ours.
#[track_caller]
pub(super) fn done<T>(result: candle_core::Result<T>) -> T {
    match result {
        Ok(x) => x,
        Err(error) => panic!("{error}"),
    }
}

/// All values, row-major.
pub(super) fn f32s(x: &Tensor) -> candle_core::Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

/// Runs `work` on all values, row-major, where they lie if they do so without gaps.
pub(super) fn with_f32s<T>(x: &Tensor, work: impl FnOnce(&[f32]) -> T) -> candle_core::Result<T> {
    let (storage, layout) = x.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            Ok(work(&values[start..end]))
        }
        _ => {
            drop(storage);
            Ok(work(&f32s(x)?))
        }
    }
}

/// Whether gradients are asked for of what is computed from any of these.
pub(super) fn tracked(xs: &[&Tensor]) -> bool {
    xs.iter().any(|x| x.track_op())
}

/// A tensor of these values, in rows of `cols`.
pub(super) fn from_f32s(values: Vec<f32>, cols: usize) -> candle_core::Result<Tensor> {
    let rows = values.len() / cols;
    Tensor::from_vec(values, (rows, cols), &Device::Cpu)
}
