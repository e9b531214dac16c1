//! The one thing that waits: reading back.

use futures_channel::oneshot;

use super::{device::Gpu, memory::Binding, recorder::Copy};
use crate::{Error, Result};

/// Buffers that wait to be read through again: logits, ids, and whatever else there is.
const MAX_STAGING: usize = 4;
/// The largest of them that is worth keeping.
const MAX_STAGING_BYTES: u64 = 1 << 24;

impl Gpu {
    /// Runs what was recorded and reads `bytes` bytes, a multiple of 4.
    pub(super) async fn read_bytes(&self, from: Binding<'_>, bytes: u64) -> Result<Vec<u8>> {
        let inner = &*self.0;
        inner.errors.take()?;
        // No words at all are read as one, which every buffer has.
        let mapped_bytes = bytes.max(4);
        let staging = self.staging(mapped_bytes);
        inner.recorder.borrow_mut().submit(Some(Copy {
            from: from.buffer.raw(),
            offset: from.offset,
            bytes: mapped_bytes,
            to: &staging,
        }));
        let (sender, receiver) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, ..mapped_bytes, move |mapped| {
            // Where the reader was dropped, the result is of no use.
            let _ = sender.send(mapped);
        });
        inner.recorder.borrow_mut().wait();
        let mapped = receiver.await;
        inner.errors.take()?;
        let refused = |reason: String| {
            // A healthy device maps whatever it was told to copy.
            inner.errors.lose(reason);
            inner.errors.take()
        };
        match mapped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => refused(error.to_string())?,
            Err(dropped) => refused(format!("the read was dropped: {dropped}"))?,
        }
        let data = match staging.slice(..mapped_bytes).get_mapped_range() {
            Ok(view) => view[..bytes as usize].to_vec(),
            Err(error) => {
                return Err(Error::Gpu {
                    reason: error.to_string(),
                });
            }
        };
        staging.unmap();
        let mut free = inner.staging.borrow_mut();
        if staging.size() <= MAX_STAGING_BYTES && free.len() < MAX_STAGING {
            free.push(staging);
        }
        Ok(data)
    }

    /// A buffer of at least `bytes` bytes that the host can read.
    fn staging(&self, bytes: u64) -> wgpu::Buffer {
        let size = match bytes {
            ..=MAX_STAGING_BYTES => bytes.next_power_of_two().max(256),
            _ => bytes,
        };
        let mut free = self.0.staging.borrow_mut();
        if let Some(at) = free.iter().position(|buffer| buffer.size() == size) {
            return free.swap_remove(at);
        }
        // What nobody wanted makes room.
        free.truncate(MAX_STAGING - 1);
        self.0.errors.requesting(size);
        self.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }
}
