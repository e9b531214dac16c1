//! Values out of candle's tensors.

use candle_core::Tensor;

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
