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

impl Gpu {
    /// Runs what was recorded and reads `bytes` bytes.
    pub(super) async fn read_bytes(&self, from: Binding<'_>, bytes: u64) -> Result<Vec<u8>> {
        let inner = &*self.0;
        inner.faults.take()?;
        let staging = inner.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size: bytes.next_multiple_of(4).max(4),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        if bytes > 0 {
            let copy = Copy {
                from: from.buffer.raw(),
                offset: from.offset,
                bytes: bytes.next_multiple_of(4),
                to: &staging,
            };
            inner.recorder.borrow_mut().submit(Some(copy));
        } else {
            inner.recorder.borrow_mut().submit(None);
        }
        let (sender, receiver) = oneshot();
        staging.map_async(wgpu::MapMode::Read, .., move |mapped| sender.send(mapped));
        inner.recorder.borrow_mut().wait();
        let mapped = receiver.await;
        inner.faults.take()?;
        let refused = |reason: String| {
            // A healthy device maps whatever it was told to copy.
            inner.faults.lose(reason);
            inner.faults.take()
        };
        if let Err(error) = mapped {
            refused(error.to_string())?;
        }
        let data = match staging.slice(..).get_mapped_range() {
            Ok(view) => view[..bytes as usize].to_vec(),
            Err(error) => {
                return Err(Error::Gpu {
                    reason: error.to_string(),
                });
            }
        };
        staging.unmap();
        Ok(data)
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
