//! Keys and values on the device: buffers of a conversation's own, which grow with it.

use super::{
    device::Gpu,
    kernels,
    memory::{Binding, Buffer},
    tensor::Tensor,
};
use crate::{
    Error, Result,
    backend::{KvType, kv_capacity},
};

/// Keys and values of one layer: `[capacity, blocks of 32 numbers]` each.
pub struct KvCache {
    pub(super) ty: KvType,
    pub(super) width: usize,
    pub(super) capacity: usize,
    most: usize,
    /// Keys and values, where there is room for any.
    buffers: Option<[Buffer; 2]>,
}

impl KvCache {
    pub(super) fn new(width: usize, most: usize, ty: KvType) -> KvCache {
        KvCache {
            ty,
            width,
            capacity: 0,
            most,
            buffers: None,
        }
    }

    /// Keys and values, as kernels see them.
    pub(super) fn bindings(&self) -> [Binding<'_>; 2] {
        let buffers = self.buffers.as_ref().expect("room was reserved");
        buffers.each_ref().map(Buffer::binding)
    }

    fn bytes(&self, positions: usize) -> u64 {
        self.ty
            .bytes(self.width as u64)
            .saturating_mul(positions as u64)
    }
}

impl KvCache {
    /// See [`crate::backend::Backend::reserve`].
    pub(super) async fn reserve(&mut self, gpu: &Gpu, positions: usize) -> Result<()> {
        assert!(positions <= self.most, "{positions} of {}", self.most);
        if positions <= self.capacity {
            return Ok(());
        }
        *self = self
            .enlarged(gpu, self.capacity, kv_capacity(positions, self.most))
            .await?;
        // The smaller buffers go once they have been copied, and not only when all layers have
        // grown.
        gpu.0.recorder.borrow_mut().submit(None);
        Ok(())
    }

    /// See [`crate::backend::Backend::copy_kv_cache`].
    pub(super) async fn copy(&self, gpu: &Gpu, len: usize) -> Result<KvCache> {
        assert!(len <= self.capacity, "{len} of {}", self.capacity);
        match len {
            0 => Ok(KvCache::new(self.width, self.most, self.ty)),
            len => self.enlarged(gpu, len, kv_capacity(len, self.most)).await,
        }
    }

    /// A cache of `capacity` positions that holds the first `len` of another.
    async fn enlarged(&self, gpu: &Gpu, len: usize, capacity: usize) -> Result<KvCache> {
        let to = [
            self.buffer(gpu, capacity).await?,
            self.buffer(gpu, capacity).await?,
        ];
        if let Some(from) = self.buffers.as_ref().filter(|_| len > 0) {
            for (from, to) in from.iter().zip(&to) {
                let words = Tensor {
                    buffer: from.clone(),
                    offset: 0,
                    rows: len,
                    cols: (self.bytes(1) / 4) as usize,
                };
                kernels::copy(gpu, &words, 0, words.len(), to.binding(), 0);
            }
        }
        Ok(KvCache {
            capacity,
            buffers: Some(to),
            ..KvCache::new(self.width, self.most, self.ty)
        })
    }

    /// Room for the keys or values of so many positions. Unlike weights it is asked for while
    /// somebody waits for an answer, which goes on where it is refused: so the device's own
    /// answer is awaited.
    async fn buffer(&self, gpu: &Gpu, positions: usize) -> Result<Buffer> {
        let inner = &*gpu.0;
        inner.errors.take()?;
        let needed_bytes = self.bytes(positions);
        let refused = |limit_bytes| Error::OutOfMemory {
            what: format!("the KV cache of a layer for {positions} tokens"),
            needed_bytes,
            limit_bytes,
        };
        let limit_bytes = inner.memory.max_bytes();
        if needed_bytes > limit_bytes {
            return Err(refused(limit_bytes));
        }
        let scope = inner
            .device
            .push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = inner.memory.alloc(needed_bytes);
        match (scope.pop().await, inner.errors.take()) {
            (Some(_), _) | (None, Err(Error::OutOfMemory { .. })) => Err(refused(0)),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Ok(buffer),
        }
    }
}
