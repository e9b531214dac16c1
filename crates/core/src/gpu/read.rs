//! The one thing that waits: reading back.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use super::{
    Gpu,
    recorder::{Binding, Copy},
};
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
        let (sender, receiver) = oneshot();
        staging.map_async(wgpu::MapMode::Read, ..mapped_bytes, move |mapped| {
            sender.send(mapped)
        });
        inner.recorder.borrow_mut().wait();
        let mapped = receiver.await;
        inner.errors.take()?;
        let refused = |reason: String| {
            // A healthy device maps whatever it was told to copy.
            inner.errors.lose(reason);
            inner.errors.take()
        };
        if let Err(error) = mapped {
            refused(error.to_string())?;
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

/// A value that a callback will bring.
fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Mutex::new(Slot {
        value: None,
        waker: None,
    }));
    (Sender(shared.clone()), Receiver(shared))
}

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

struct Sender<T>(Arc<Mutex<Slot<T>>>);

impl<T> Sender<T> {
    fn send(self, value: T) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.value = Some(value);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

struct Receiver<T>(Arc<Mutex<Slot<T>>>);

impl<T> Future for Receiver<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
