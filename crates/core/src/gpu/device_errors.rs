//! What went wrong on the device, kept until somebody awaits a result.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Error, Result};

/// Errors arrive in callbacks, between the calls that could return them. The first one is kept:
/// what follows is mostly its consequence.
#[derive(Clone, Default)]
pub(super) struct DeviceErrors(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    first: Option<Error>,
    /// A lost device never comes back, so this stays.
    lost: Option<String>,
    /// Bytes of the buffer that was asked for last.
    requested_bytes: u64,
}

impl DeviceErrors {
    /// Keeps `error` unless an earlier one is waiting.
    pub fn record(&self, error: Error) {
        self.state().first.get_or_insert(error);
    }

    /// The device is gone, for good.
    pub fn lose(&self, reason: impl Into<String>) {
        self.state().lost.get_or_insert(reason.into());
    }

    /// Tells an out-of-memory error to come what it is about.
    pub fn requesting(&self, bytes: u64) {
        self.state().requested_bytes = bytes;
    }

    /// Whether recording more commands is pointless.
    pub fn pending(&self) -> bool {
        let state = self.state();
        state.first.is_some() || state.lost.is_some()
    }

    /// Hands over what went wrong since the last call.
    pub fn take(&self) -> Result<()> {
        let mut state = self.state();
        let first = state.first.take();
        match (&state.lost, first) {
            (Some(reason), _) => Err(Error::DeviceLost {
                reason: reason.clone(),
            }),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports to `errors` all that `device` reports outside of a call's own result.
pub(super) fn watch(device: &wgpu::Device, errors: &DeviceErrors) {
    let lost = errors.clone();
    device.set_device_lost_callback(move |reason, message| {
        lost.lose(if message.is_empty() {
            format!("{reason:?}")
        } else {
            message
        });
    });
    let uncaptured = errors.clone();
    device.on_uncaptured_error(Arc::new(move |error| {
        let error = match error {
            wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory {
                what: "a buffer".into(),
                needed_bytes: uncaptured.state().requested_bytes,
                limit_bytes: 0,
            },
            wgpu::Error::Validation { description, .. }
            | wgpu::Error::Internal { description, .. } => Error::Gpu {
                reason: description,
            },
        };
        uncaptured.record(error);
    }));
}
