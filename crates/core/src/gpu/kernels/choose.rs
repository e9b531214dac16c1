//! The next token.

use crate::{
    gpu::{
        device::Gpu,
        kernel::{Kernel, params, work},
        tensor::{Ids, Tensor},
    },
    sampler::Choice,
};

pub(super) const KERNEL: Kernel =
    Kernel::new::<Params>("choose", include_str!("choose.wgsl"), 1, 1);

params! {
    struct Params {
        cols: u32,
        top_k: u32,
        temperature: f32,
        top_p: f32,
        min_p: f32,
        unit: f32,
    }
}

/// See [`crate::backend::Backend::choose`].
pub fn choose(gpu: &Gpu, logits: &Tensor, choice: &Choice) -> Ids {
    assert!(logits.rows == 1 && logits.cols > 0, "{:?}", logits.shape());
    let ids = gpu.alloc_ids(1);
    let cols = logits.cols;
    let params = Params {
        cols: cols as u32,
        top_k: match choice.top_k {
            0 => cols as u32,
            top_k => top_k.min(cols) as u32,
        },
        temperature: choice.temperature,
        top_p: choice.top_p,
        min_p: choice.min_p,
        unit: choice.unit,
    };
    gpu.run(
        KERNEL,
        &[logits.binding(), ids.binding()],
        &params,
        [1, 1, 1],
        // Each bit of the two thresholds takes a pass.
        work(&[cols, 64]),
    );
    ids
}
