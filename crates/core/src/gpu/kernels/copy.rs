//! Copies within the compute pass: a copy command would end it.

use crate::gpu::{
    device::Gpu,
    kernel::{Kernel, fold, params, work},
    memory::Binding,
    tensor::Tensor,
};

pub(super) const WORDS: Kernel =
    Kernel::new::<WordsParams>("copy", include_str!("copy.wgsl"), 1, 1);
pub(super) const ROWS: Kernel =
    Kernel::new::<RowsParams>("copy_rows", include_str!("copy_rows.wgsl"), 1, 1);

params! {
    struct WordsParams {
        count: u32,
        from_offset: u32,
        to_offset: u32,
    }
}

params! {
    struct RowsParams {
        count: u32,
        from_cols: u32,
        to_cols: u32,
    }
}

/// `count` numbers of `x`, from number `first` on, to numbers `to_first..` of `to`.
pub fn copy(gpu: &Gpu, x: &Tensor, first: usize, count: usize, to: Binding, to_first: usize) {
    let params = WordsParams {
        count: count as u32,
        from_offset: first as u32,
        to_offset: to_first as u32,
    };
    gpu.run(
        WORDS,
        &[x.binding(), to],
        &params,
        fold(count.div_ceil(256)),
        work(&[count]),
    );
}

/// `x` with `cols` columns, filled up with zeros: `x` itself where it has as many.
pub fn widen(gpu: &Gpu, x: &Tensor, cols: usize) -> Tensor {
    if x.cols == cols {
        return x.clone();
    }
    let y = gpu.alloc(x.rows, cols);
    let params = RowsParams {
        count: y.len() as u32,
        from_cols: x.cols as u32,
        to_cols: cols as u32,
    };
    gpu.run(
        ROWS,
        &[x.binding(), y.binding()],
        &params,
        fold(y.len().div_ceil(256)),
        work(&[y.len()]),
    );
    y
}
