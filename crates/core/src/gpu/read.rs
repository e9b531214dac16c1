//! The one thing that waits: reading back.

use std::{future::poll_fn, task::Poll};

use futures_channel::oneshot;

use super::{device::Gpu, memory::Binding, recorder::Copy};
use crate::{Error, Result};

/// Buffers that wait to be read through again: logits, ids, and whatever else there is.
const MAX_STAGING: usize = 8;
/// The largest of them that is worth keeping.
const MAX_STAGING_BYTES: u64 = 1 << 24;

/// A copy of a result, which the device has been told to make.
struct Begun {
    staging: wgpu::Buffer,
    bytes: u64,
    index: wgpu::SubmissionIndex,
    mapped: oneshot::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
}

impl Gpu {
    /// Runs what was recorded and reads `bytes` bytes, a multiple of 4. It begins at the call; the
    /// first poll of the future looks whether they have come, and waits for nothing.
    pub(super) fn read_bytes(
        &self,
        from: Binding<'_>,
        bytes: u64,
    ) -> impl Future<Output = Result<Vec<u8>>> + use<> {
        let begun = self.begin_read(from, bytes);
        let gpu = self.clone();
        async move { gpu.end_read(begun?).await }
    }

    fn begin_read(&self, from: Binding<'_>, bytes: u64) -> Result<Begun> {
        let inner = &*self.0;
        inner.errors.take()?;
        // No words at all are read as one, which every buffer has.
        let mapped_bytes = bytes.max(4);
        let staging = self.staging(mapped_bytes);
        let index = inner.recorder.borrow_mut().submit(Some(Copy {
            from: from.buffer.raw(),
            offset: from.offset,
            bytes: mapped_bytes,
            to: &staging,
        }));
        let (sender, mapped) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, ..mapped_bytes, move |mapped| {
            // Where the reader was dropped, the result is of no use.
            let _ = sender.send(mapped);
        });
        Ok(Begun {
            staging,
            bytes,
            index,
            mapped,
        })
    }

    async fn end_read(&self, begun: Begun) -> Result<Vec<u8>> {
        let Begun {
            staging,
            bytes,
            index,
            mut mapped,
        } = begun;
        let inner = &*self.0;
        inner.recorder.borrow().look();
        let mapped = match mapped.try_recv() {
            Ok(Some(mapped)) => Ok(mapped),
            _ => {
                yield_once().await;
                inner.recorder.borrow().wait(index);
                mapped.await
            }
        };
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
        let data = match staging.slice(..bytes.max(4)).get_mapped_range() {
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

/// Returns at the second poll, which is asked for at the first.
async fn yield_once() {
    let mut is_first = true;
    poll_fn(|context| {
        if !std::mem::take(&mut is_first) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
