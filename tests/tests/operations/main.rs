//! Every operation of a backend against plain Rust in f64, on random values and at the edges of
//! shapes.

mod attention;
mod clustering;
mod layer;
mod limits;
mod matmul;
mod rows;

use pollster::block_on;
use univi::{
    backend::Backend,
    gguf::GgmlType,
    gpu::{Gpu, GpuOptions},
};
use univi_convert::quantize;

/// f32 sums of some thousand terms of size 1, in any order.
const TOLERANCE: f64 = 2e-5;

/// A GPU is required: a machine without one has Mesa's lavapipe (`cargo xtask setup`).
fn gpu() -> Gpu {
    block_on(Gpu::new(GpuOptions::default())).expect("a GPU, or lavapipe")
}

/// The same adapter, with the kernels that hardware gets.
fn gpu_as_hardware() -> Gpu {
    block_on(Gpu::new(GpuOptions::default().as_hardware(true))).expect("a GPU, or lavapipe")
}

/// Numbers in -1..1, the same on every run.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    fn number(&mut self) -> f32 {
        self.bits() as f32 / (1u32 << 30) as f32 - 1.0
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    fn below(&mut self, end: usize) -> usize {
        self.bits() as usize % end
    }
}

#[track_caller]
fn assert_close(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "lengths");
    let error = |i: usize| (f64::from(got[i]) - want[i]).abs() / want[i].abs().max(1.0);
    assert!(got.iter().all(|x| x.is_finite()), "not finite");
    if let Some(worst) = (0..got.len()).max_by(|&a, &b| error(a).total_cmp(&error(b))) {
        assert!(
            error(worst) <= tolerance,
            "at {worst}: {} instead of {}, off by {:e}",
            got[worst],
            want[worst],
            error(worst)
        );
    }
}

fn read<B: Backend>(b: &B, x: &B::Tensor) -> Vec<f32> {
    let data = block_on(b.read(x)).expect("a result");
    let [rows, cols] = b.shape(x);
    assert_eq!(data.len(), rows * cols);
    data
}

fn read_ids<B: Backend>(b: &B, ids: &B::Ids) -> Vec<u32> {
    block_on(b.read_ids(ids)).expect("a result")
}

/// Bytes of random weights `[rows, cols]`, and what they stand for.
fn weights(random: &mut Random, ty: GgmlType, rows: usize, cols: usize) -> (Vec<u8>, Vec<f32>) {
    let bytes = quantize(ty, &random.values(rows * cols)).expect("whole blocks");
    let mut values = vec![0.0; rows * cols];
    ty.dequantize(&bytes, &mut values);
    (bytes, values)
}

fn matrix<B: Backend>(b: &B, ty: GgmlType, rows: usize, cols: usize, bytes: &[u8]) -> B::Matrix {
    let mut matrix = b.alloc_matrix(ty, rows, cols).expect("room");
    // In pieces, as they come from a network.
    for (i, piece) in bytes.chunks(4096).enumerate() {
        b.write_matrix(&mut matrix, i * 4096, piece);
    }
    matrix
}

macro_rules! on {
    ($name:ident = $backend:expr; $($file:ident: $($check:ident)*;)*) => {
        mod $name {
            $($(#[test]
            fn $check() {
                crate::$file::$check(&$backend);
            })*)*
        }
    };
}

on! {
    gpu_backend = crate::gpu();
    matmul: check_matmuls check_embed check_random_blocks;
    rows: check_rows check_pointwise check_norms check_rope check_choose;
    attention: check_attention check_causal check_causal_q8 check_q8_is_close check_growth;
    clustering: check_clustering check_merge;
    layer: check_residual check_swiglu check_qkv;
}

on! {
    kernels_of_hardware = crate::gpu_as_hardware();
    matmul: check_matmuls;
    attention: check_attention check_causal;
    layer: check_residual check_swiglu check_qkv;
}
