//! Buffers that return to a pool when nobody holds them: the same few serve every token.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::{Rc, Weak},
};

use super::device_errors::DeviceErrors;
use crate::Error;

/// A free buffer is destroyed after this many submits without use. A conversation decodes a token
/// per submit, so buffers of the last prefill go after about this many tokens.
const IDLE_SUBMITS: u64 = 256;

/// Room behind the last byte, so that a kernel may load whole vectors and whole blocks.
const SLACK_BYTES: u64 = 256;

const USAGES: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

/// A shared piece of GPU memory. The last clone to go gives it back.
#[derive(Clone)]
pub(super) struct Buffer(Rc<Lease>);

/// A part of a buffer that a kernel sees: from `offset` to the end.
#[derive(Clone, Copy)]
pub(super) struct Binding<'a> {
    pub buffer: &'a Buffer,
    /// In bytes; a multiple of the device's `min_storage_buffer_offset_alignment`.
    pub offset: u64,
}

struct Lease {
    raw: wgpu::Buffer,
    id: u64,
    /// The pool to return to; weights and caches have none and are freed.
    pooled: bool,
    memory: Weak<RefCell<State>>,
}

/// A buffer that nobody holds any more.
struct Dead {
    raw: wgpu::Buffer,
    id: u64,
}

impl Buffer {
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.0.raw
    }

    /// All of it, as kernels see it.
    pub fn binding(&self) -> Binding<'_> {
        Binding {
            buffer: self,
            offset: 0,
        }
    }

    /// Unique among all buffers of the device, ever.
    pub fn id(&self) -> u64 {
        self.0.id
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(memory) = self.memory.upgrade() else {
            return;
        };
        let mut memory = memory.borrow_mut();
        if self.pooled {
            let free = Free {
                raw: self.raw.clone(),
                id: self.id,
                released: memory.submit,
            };
            memory.free.entry(self.raw.size()).or_default().push(free);
        } else {
            if !memory.recorded {
                // Nothing uses it: a conversation that is over gives its room back at once.
                self.raw.destroy();
            }
            let raw = self.raw.clone();
            memory.dead.push(Dead { raw, id: self.id });
            memory.bytes -= self.raw.size();
        }
    }
}

/// All buffers of one device.
#[derive(Clone)]
pub(super) struct Memory(Rc<RefCell<State>>);

struct State {
    device: wgpu::Device,
    errors: DeviceErrors,
    max_bytes: u64,
    /// What all buffers together may take.
    budget_bytes: u64,
    free: BTreeMap<u64, Vec<Free>>,
    /// Of all buffers that there are, free ones included.
    bytes: u64,
    next_id: u64,
    /// The submit that is being recorded.
    submit: u64,
    /// Whether it has commands by now.
    recorded: bool,
    /// Buffers that are gone; recorded commands and bind groups still hold on to them.
    dead: Vec<Dead>,
}

struct Free {
    raw: wgpu::Buffer,
    id: u64,
    /// The submit that was being recorded when it was released: commands in it may still use it.
    released: u64,
}

impl Memory {
    pub fn new(device: &wgpu::Device, errors: &DeviceErrors, budget_bytes: Option<u64>) -> Memory {
        let limits = device.limits();
        Memory(Rc::new(RefCell::new(State {
            device: device.clone(),
            errors: errors.clone(),
            max_bytes: max_bytes(&limits),
            budget_bytes: budget_bytes.unwrap_or(u64::MAX),
            free: BTreeMap::new(),
            bytes: 0,
            next_id: 0,
            submit: 0,
            recorded: false,
            dead: Vec::new(),
        })))
    }

    /// The largest buffer that one binding shows whole.
    pub fn max_bytes(&self) -> u64 {
        self.0.borrow().max_bytes
    }

    /// A buffer for results of kernels. Its contents are arbitrary.
    pub fn take(&self, bytes: u64) -> Buffer {
        self.lease(bytes, u64::MAX)
    }

    /// A buffer for an upload. Uploads run before every command of the submit that is being
    /// recorded, so it must not be one that those commands use.
    pub fn take_for_upload(&self, bytes: u64) -> Buffer {
        let submit = self.0.borrow().submit;
        self.lease(bytes, submit)
    }

    /// A buffer of its own, filled with zeros, for what lives long: weights and caches.
    ///
    /// The size must be at most [`Memory::max_bytes`].
    pub fn alloc(&self, bytes: u64) -> Buffer {
        self.create(padded(bytes.next_multiple_of(4)), false)
    }

    /// A buffer that nobody will use, of at most [`Memory::max_bytes`].
    pub fn try_out(&self, bytes: u64) -> wgpu::Buffer {
        let device = self.0.borrow().device.clone();
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("room"),
            size: bytes.next_multiple_of(4),
            usage: USAGES,
            mapped_at_creation: false,
        })
    }

    /// That the submit has commands, which may use any buffer that there is.
    pub fn recording(&self) {
        self.0.borrow_mut().recorded = true;
    }

    /// Starts the next submit, destroys what nobody holds or what has been idle for long, and
    /// returns the ids of all buffers destroyed. The device keeps what submitted commands use
    /// until they are done.
    pub fn next_submit(&self) -> Vec<u64> {
        let mut state = self.0.borrow_mut();
        state.submit += 1;
        state.recorded = false;
        let State {
            free,
            bytes,
            submit,
            dead,
            ..
        } = &mut *state;
        free.retain(|_, list| {
            list.retain(|buffer| {
                let keep = buffer.released + IDLE_SUBMITS >= *submit;
                if !keep {
                    let raw = buffer.raw.clone();
                    dead.push(Dead { raw, id: buffer.id });
                    *bytes -= buffer.raw.size();
                }
                keep
            });
            !list.is_empty()
        });
        let destroy = |buffer: Dead| {
            // In a browser it would otherwise stay until JavaScript collects its garbage.
            buffer.raw.destroy();
            buffer.id
        };
        std::mem::take(&mut state.dead)
            .into_iter()
            .map(destroy)
            .collect()
    }

    /// Bytes of all buffers, those that wait in the pool included.
    pub fn bytes(&self) -> u64 {
        self.0.borrow().bytes
    }

    /// Buffers created so far.
    #[cfg(test)]
    pub fn created(&self) -> u64 {
        self.0.borrow().next_id
    }

    /// The number of the submit that is being recorded, from 0.
    pub fn submit(&self) -> u64 {
        self.0.borrow().submit
    }

    /// Buffers that wait in the pool.
    #[cfg(test)]
    pub fn free_buffers(&self) -> usize {
        self.0.borrow().free.values().map(Vec::len).sum()
    }

    /// A pooled buffer that was released before submit `before`, or a new one.
    fn lease(&self, bytes: u64, before: u64) -> Buffer {
        let size = {
            let state = self.0.borrow();
            if bytes > state.max_bytes {
                // Nothing recorded from here on will run, so any buffer will do.
                state.errors.record(Error::OutOfMemory {
                    what: "an intermediate result".into(),
                    needed_bytes: bytes,
                    limit_bytes: state.max_bytes,
                });
                size_class(0, state.max_bytes)
            } else {
                size_class(bytes, state.max_bytes)
            }
        };
        let found = {
            let mut state = self.0.borrow_mut();
            state.free.get_mut(&size).and_then(|list| {
                let at = list.iter().rposition(|buffer| buffer.released < before)?;
                Some(list.remove(at))
            })
        };
        match found {
            Some(Free { raw, id, .. }) => Buffer(Rc::new(Lease {
                raw,
                id,
                pooled: true,
                memory: Rc::downgrade(&self.0),
            })),
            None => self.create(size, true),
        }
    }

    fn create(&self, size: u64, pooled: bool) -> Buffer {
        let (device, id) = {
            let mut state = self.0.borrow_mut();
            state.next_id += 1;
            state.bytes += size;
            if state.bytes > state.budget_bytes {
                state.errors.record(Error::OutOfMemory {
                    what: "a buffer".into(),
                    needed_bytes: size,
                    limit_bytes: 0,
                });
            }
            state.errors.requesting(size);
            (state.device.clone(), state.next_id)
        };
        let raw = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(if pooled { "intermediate" } else { "weights" }),
            size,
            usage: USAGES,
            mapped_at_creation: false,
        });
        Buffer(Rc::new(Lease {
            raw,
            id,
            pooled,
            memory: Rc::downgrade(&self.0),
        }))
    }
}

/// The most bytes that a buffer can hold besides its slack and the rounding to a size class.
fn max_bytes(limits: &wgpu::Limits) -> u64 {
    // Kernels count bytes in u32, and Vulkan drivers refuse 2 GiB and more.
    let whole = limits
        .max_storage_buffer_binding_size
        .min(limits.max_buffer_size)
        .min((1 << 31) - 4096);
    whole - whole % 4096 - SLACK_BYTES
}

fn padded(bytes: u64) -> u64 {
    bytes + SLACK_BYTES
}

/// Sizes are rounded to eight per octave, so that prefills of similar length share buffers.
fn size_class(bytes: u64, max_bytes: u64) -> u64 {
    let size = padded(bytes).max(1024);
    let step = 1 << (size.ilog2() - 3);
    size.next_multiple_of(step).min(padded(max_bytes))
}
