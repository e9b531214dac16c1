//! Products of matrices.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::storage::{done, tensor_like, values, with};

/// A view of a matrix: where it begins, and how far apart its rows and columns are.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}

/// `out[i, j] (+)= scale * sum over l of a[i, l] b[l, j]`; strides are `(row, column)`.
pub(crate) fn product(
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    out_row: usize,
    add: bool,
    a: Strided,
    b: Strided,
    scale: f32,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let last = |view: Strided, rows: usize, cols: usize| {
        (rows - 1) * view.row_stride + (cols - 1) * view.col_stride < view.data.len()
    };
    assert!(last(a, m, k) && last(b, k, n) && (m - 1) * out_row + n <= out.len());
    // SAFETY: the assertion above keeps every index inside its slice, and `out` is borrowed alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_row as isize,
            add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `x [t, k]` times the transpose of `w [n, k]`.
pub fn matmul(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(w, MatMul)
}

struct MatMul;

impl CustomOp2 for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((t, k), (n, _)) = (lx.shape().dims2()?, lw.shape().dims2()?);
        let mut out = vec![0.; t * n];
        let (x, w) = (values(x, lx)?, values(w, lw)?);
        let x = Strided {
            data: x,
            row_stride: k,
            col_stride: 1,
        };
        product(
            [t, n, k],
            &mut out,
            n,
            false,
            x,
            Strided {
                data: w,
                row_stride: 1,
                col_stride: k,
            },
            1.,
        );
        done(out, &(t, n).into())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((t, k), (n, _)) = (x.dims2()?, w.dims2()?);
        with([x, w, grad], |[xs, ws, gs]| {
            let g = Strided {
                data: gs,
                row_stride: n,
                col_stride: 1,
            };
            let mut dx = None;
            if x.track_op() {
                let mut out = vec![0.; t * k];
                product(
                    [t, k, n],
                    &mut out,
                    k,
                    false,
                    g,
                    Strided {
                        data: ws,
                        row_stride: k,
                        col_stride: 1,
                    },
                    1.,
                );
                dx = Some(tensor_like(out, x)?);
            }
            let mut dw = None;
            if w.track_op() {
                let mut out = vec![0.; n * k];
                let g = Strided {
                    data: gs,
                    row_stride: 1,
                    col_stride: n,
                };
                product(
                    [n, k, t],
                    &mut out,
                    k,
                    false,
                    g,
                    Strided {
                        data: xs,
                        row_stride: k,
                        col_stride: 1,
                    },
                    1.,
                );
                dw = Some(tensor_like(out, w)?);
            }
            Ok((dx, dw))
        })
    }
}
