//! Keys and values on the device: buffers of a conversation's own, which grow with it.

use super::{Gpu, Tensor, memory::Buffer, recorder::Binding};
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

impl Gpu {
    /// See [`crate::backend::Backend::reserve`].
    pub(super) async fn grow(&self, cache: &mut KvCache, positions: usize) -> Result<()> {
        assert!(positions <= cache.most, "{positions} of {}", cache.most);
        if positions <= cache.capacity {
            return Ok(());
        }
        *cache = self
            .enlarged(cache, cache.capacity, kv_capacity(positions, cache.most))
            .await?;
        // The smaller buffers go once they have been copied, and not only when all layers have
        // grown.
        self.0.recorder.borrow_mut().submit(None);
        Ok(())
    }

    /// See [`crate::backend::Backend::copy_kv_cache`].
    pub(super) async fn copied(&self, cache: &KvCache, len: usize) -> Result<KvCache> {
        assert!(len <= cache.capacity, "{len} of {}", cache.capacity);
        match len {
            0 => Ok(KvCache::new(cache.width, cache.most, cache.ty)),
            len => {
                self.enlarged(cache, len, kv_capacity(len, cache.most))
                    .await
            }
        }
    }

    /// A cache of `capacity` positions that holds the first `len` of another.
    async fn enlarged(&self, cache: &KvCache, len: usize, capacity: usize) -> Result<KvCache> {
        let to = [
            self.cache_buffer(cache, capacity).await?,
            self.cache_buffer(cache, capacity).await?,
        ];
        if let Some(from) = cache.buffers.as_ref().filter(|_| len > 0) {
            for (from, to) in from.iter().zip(&to) {
                let words = Tensor {
                    buffer: from.clone(),
                    offset: 0,
                    rows: len,
                    cols: (cache.bytes(1) / 4) as usize,
                };
                self.copy(&words, 0, words.len(), to.binding(), 0);
            }
        }
        Ok(KvCache {
            capacity,
            buffers: Some(to),
            ..KvCache::new(cache.width, cache.most, cache.ty)
        })
    }

    /// Room for the keys or values of so many positions. Unlike weights it is asked for while
    /// somebody waits for an answer, which goes on where it is refused: so the device's own
    /// answer is awaited.
    async fn cache_buffer(&self, cache: &KvCache, positions: usize) -> Result<Buffer> {
        let inner = &*self.0;
        inner.errors.take()?;
        let needed_bytes = cache.bytes(positions);
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
