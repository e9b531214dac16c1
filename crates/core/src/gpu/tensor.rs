//! What kernels compute with: matrices of f32 and lists of u32.

use super::memory::{Binding, Buffer};

/// An f32 matrix on the device, row-major.
#[derive(Clone)]
pub struct Tensor {
    pub(super) buffer: Buffer,
    /// In bytes: a tensor may be rows of another one.
    pub(super) offset: u64,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Tensor {
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    pub(super) fn len(&self) -> usize {
        self.rows * self.cols
    }

    pub(super) fn binding(&self) -> Binding<'_> {
        Binding {
            buffer: &self.buffer,
            offset: self.offset,
        }
    }
}

/// A list of u32 on the device.
#[derive(Clone)]
pub struct Ids {
    pub(super) buffer: Buffer,
    pub(super) len: usize,
}

impl Ids {
    pub(super) fn binding(&self) -> Binding<'_> {
        self.buffer.binding()
    }
}
