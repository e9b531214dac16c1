//! Recording of commands: one compute pass, one upload of parameters and one submit for as much
//! work as a device may be given at once.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU64,
};

use super::{
    device_errors::DeviceErrors,
    kernel::{Constants, Kernel, PARAMS_BYTES, PipelineKey},
    memory::{Binding, Buffer, Memory},
};
use crate::Error;

/// Dispatches per submit. A token of a 7B model takes about 500.
const MAX_DISPATCHES: usize = 1024;
/// Storage buffers that one dispatch may use: what WebGPU guarantees.
const MAX_BINDINGS: usize = 8;
/// Submits that may be under way before recording waits for the oldest (natively; a browser
/// can't wait). Each holds on to its command buffer and staging memory.
const MAX_IN_FLIGHT: usize = 4;
/// Uploaded bytes that wait for a submit. Until then a native driver holds a copy of each.
const MAX_UPLOAD_BYTES: u64 = 32 << 20;
/// A bind group is dropped after this many submits without use. Results that are kept for a while,
/// as a camera's frames are, make others out of the same buffers again and again.
const IDLE_BIND_GROUP_SUBMITS: u64 = 32;

/// How often a GPU was spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GpuCounts {
    /// Kernels that were run.
    pub dispatches: u64,
    /// Lists of commands that were handed over.
    pub submits: u64,
    /// Results that were read back.
    pub reads: u64,
    /// Bytes of those results.
    pub read_bytes: u64,
}

/// What the device is asked to do next, and everything that is kept to ask quickly.
pub(super) struct Recorder {
    device: wgpu::Device,
    queue: wgpu::Queue,
    errors: DeviceErrors,
    memory: Memory,
    commands: Vec<Command>,
    /// The parameters of all commands, one slot each.
    params: Vec<u8>,
    arena: wgpu::Buffer,
    slot_bytes: usize,
    /// Work recorded since the last submit, and the most that one submit may hold, in
    /// floating-point operations.
    work: u64,
    max_work: u64,
    constants: Constants,
    layouts: HashMap<Signature, Layout>,
    pipelines: HashMap<PipelineKey, wgpu::ComputePipeline>,
    bind_groups: HashMap<BindGroupKey, Bound>,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    /// Bytes uploaded since the last submit.
    uploaded: u64,
    counts: GpuCounts,
}

struct Command {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    groups: [u32; 3],
}

/// Storage buffers read and written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Signature {
    reads: usize,
    writes: usize,
}

struct Layout {
    bind_group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

#[derive(PartialEq, Eq, Hash)]
struct BindGroupKey {
    signature: Signature,
    /// Buffer and offset; 0 where there is none.
    buffers: [(u64, u64); MAX_BINDINGS],
}

struct Bound {
    group: wgpu::BindGroup,
    /// The last submit that used it.
    used: u64,
}

impl Recorder {
    pub fn new(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        errors: &DeviceErrors,
        memory: &Memory,
        max_work: u64,
        constants: Constants,
    ) -> Recorder {
        let alignment = u64::from(device.limits().min_uniform_buffer_offset_alignment);
        let slot_bytes = PARAMS_BYTES.next_multiple_of(alignment);
        let arena = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: slot_bytes * MAX_DISPATCHES as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Recorder {
            device: device.clone(),
            queue: queue.clone(),
            errors: errors.clone(),
            memory: memory.clone(),
            commands: Vec::new(),
            params: Vec::new(),
            arena,
            slot_bytes: slot_bytes as usize,
            work: 0,
            max_work,
            constants,
            layouts: HashMap::new(),
            pipelines: HashMap::new(),
            bind_groups: HashMap::new(),
            in_flight: VecDeque::new(),
            uploaded: 0,
            counts: GpuCounts::default(),
        }
    }

    /// The most work that one submit, and so one dispatch, may hold, in floating-point operations.
    pub fn max_work(&self) -> u64 {
        self.max_work
    }

    /// What this device's shaders are given.
    pub fn constants(&self) -> Constants {
        self.constants
    }

    /// How often the device was spoken to.
    pub fn counts(&self) -> GpuCounts {
        self.counts
    }

    /// Records `kernel` over `groups` workgroups. `buffers` are first those it reads, then those it
    /// writes.
    pub fn record(
        &mut self,
        kernel: Kernel,
        buffers: &[Binding],
        params: &[u8],
        groups: [u32; 3],
        work: u64,
    ) {
        assert_eq!(
            buffers.len(),
            kernel.reads + kernel.writes,
            "{}",
            kernel.name
        );
        assert!(params.len() <= PARAMS_BYTES as usize, "{}", kernel.name);
        if groups.contains(&0) || self.errors.pending() {
            return;
        }
        if self.commands.len() == MAX_DISPATCHES
            || (self.work > 0 && self.work + work > self.max_work)
        {
            self.submit(None);
        }
        let command = Command {
            pipeline: self.pipeline(kernel),
            bind_group: self.bind_group(kernel, buffers),
            groups,
        };
        self.commands.push(command);
        self.memory.recording();
        let slot = self.params.len();
        self.params.extend_from_slice(params);
        self.params.resize(slot + self.slot_bytes, 0);
        self.work += work;
    }

    /// Hands everything recorded to the device, and after it the copy of a result, if any.
    pub fn submit(&mut self, copy: Option<Copy>) -> wgpu::SubmissionIndex {
        self.counts.submits += 1;
        self.counts.dispatches += self.commands.len() as u64;
        self.counts.reads += u64::from(copy.is_some());
        self.counts.read_bytes += copy.as_ref().map_or(0, |copy| copy.bytes);
        let mut encoder = self
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        if !self.commands.is_empty() {
            // Uploads take effect between submits, so one arena serves them all.
            self.queue.write_buffer(&self.arena, 0, &self.params);
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (slot, command) in self.commands.drain(..).enumerate() {
                pass.set_pipeline(&command.pipeline);
                pass.set_bind_group(0, &command.bind_group, &[(slot * self.slot_bytes) as u32]);
                let [x, y, z] = command.groups;
                pass.dispatch_workgroups(x, y, z);
            }
        }
        if let Some(copy) = copy {
            encoder.copy_buffer_to_buffer(copy.from, copy.offset, copy.to, 0, copy.bytes);
        }
        let index = self.queue.submit([encoder.finish()]);
        self.params.clear();
        self.work = 0;
        self.forget(&self.memory.next_submit());
        self.track(index.clone());
        index
    }

    /// Uploads `words` to byte `offset` of `buffer`, before all that is recorded.
    pub fn upload(&mut self, buffer: &Buffer, offset: u64, words: &[u8]) {
        if self.errors.pending() {
            return;
        }
        self.queue.write_buffer(buffer.raw(), offset, words);
        self.uploaded += words.len() as u64;
        if self.uploaded > MAX_UPLOAD_BYTES {
            let index = self.queue.submit([]);
            self.track(index);
        }
    }

    /// Counts a submit as under way, and waits for the oldest if there are too many.
    fn track(&mut self, index: wgpu::SubmissionIndex) {
        self.uploaded = 0;
        self.in_flight.push_back(index);
        if self.in_flight.len() > MAX_IN_FLIGHT {
            let oldest = self.in_flight.pop_front().expect("there is one");
            self.wait(oldest);
        }
    }

    /// Takes natively what the device has done; in a browser the event loop does.
    pub fn look(&self) {
        poll(&self.device, &self.errors, wgpu::PollType::Poll);
    }

    /// Waits natively until the submit `index` is done; in a browser the event loop does.
    pub fn wait(&self, index: wgpu::SubmissionIndex) {
        poll(&self.device, &self.errors, until(index));
    }

    /// Drops the bind groups of `dead` buffers, which would keep their memory alive, and those that
    /// are not used any more.
    fn forget(&mut self, dead: &[u64]) {
        let submit = self.memory.submit();
        if !dead.is_empty() || submit.is_multiple_of(IDLE_BIND_GROUP_SUBMITS) {
            self.bind_groups.retain(|key, bound| {
                bound.used + IDLE_BIND_GROUP_SUBMITS >= submit
                    && key.buffers.iter().all(|(id, _)| !dead.contains(id))
            });
        }
    }

    /// Bind groups at hand.
    #[cfg(test)]
    pub fn created(&self) -> usize {
        self.bind_groups.len()
    }

    /// Whether the pipeline of `kernel` has been made.
    pub fn has_pipeline(&self, kernel: Kernel) -> bool {
        self.pipelines.contains_key(&kernel.key())
    }

    /// The pipeline of `kernel`, made at its first use.
    pub fn pipeline(&mut self, kernel: Kernel) -> wgpu::ComputePipeline {
        let key = kernel.key();
        if let Some(pipeline) = self.pipelines.get(&key) {
            return pipeline.clone();
        }
        let shader = kernel.shader(self.constants);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(shader.source.into()),
        };
        // SAFETY: every loop of our shaders ends, no divisor is zero, and every index comes from
        // shapes that were checked or is clamped. In a browser this changes nothing.
        let module = unsafe {
            self.device
                .create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
        };
        let signature = Signature {
            reads: kernel.reads,
            writes: kernel.writes,
        };
        let layout = self.layout(signature).pipeline.clone();
        let pipeline = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(kernel.name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(kernel.entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &shader.constants,
                    zero_initialize_workgroup_memory: false, // Every kernel writes what it reads.
                },
                cache: None,
            });
        self.pipelines.insert(key, pipeline.clone());
        pipeline
    }

    fn bind_group(&mut self, kernel: Kernel, bindings: &[Binding]) -> wgpu::BindGroup {
        let signature = Signature {
            reads: kernel.reads,
            writes: kernel.writes,
        };
        let mut buffers = [(0, 0); MAX_BINDINGS];
        for (entry, binding) in buffers.iter_mut().zip(bindings) {
            *entry = (binding.buffer.id(), binding.offset);
        }
        let key = BindGroupKey { signature, buffers };
        let used = self.memory.submit();
        if let Some(bound) = self.bind_groups.get_mut(&key) {
            bound.used = used;
            return bound.group.clone();
        }
        let layout = self.layout(signature).bind_group.clone();
        let params = wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &self.arena,
                offset: 0,
                size: NonZeroU64::new(PARAMS_BYTES),
            }),
        };
        let storage = bindings
            .iter()
            .zip(1..)
            .map(|(part, binding)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: part.buffer.raw(),
                    offset: part.offset,
                    size: None,
                }),
            });
        let entries: Vec<_> = std::iter::once(params).chain(storage).collect();
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout: &layout,
            entries: &entries,
        });
        let bound = Bound {
            group: group.clone(),
            used,
        };
        self.bind_groups.insert(key, bound);
        group
    }

    fn layout(&mut self, signature: Signature) -> &Layout {
        self.layouts.entry(signature).or_insert_with(|| {
            let entry = |binding, ty, has_dynamic_offset, min| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty,
                    has_dynamic_offset,
                    min_binding_size: NonZeroU64::new(min),
                },
                count: None,
            };
            let params = entry(0, wgpu::BufferBindingType::Uniform, true, PARAMS_BYTES);
            let storage = (0..signature.reads + signature.writes).map(|i| {
                let ty = wgpu::BufferBindingType::Storage {
                    read_only: i < signature.reads,
                };
                entry(i as u32 + 1, ty, false, 0)
            });
            let entries: Vec<_> = std::iter::once(params).chain(storage).collect();
            let bind_group =
                self.device
                    .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                        label: None,
                        entries: &entries,
                    });
            let pipeline = self
                .device
                .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label: None,
                    bind_group_layouts: &[Some(&bind_group)],
                    immediate_size: 0,
                });
            Layout {
                bind_group,
                pipeline,
            }
        })
    }
}

/// A copy out of a buffer, to be mapped by the host.
pub(super) struct Copy<'a> {
    pub from: &'a wgpu::Buffer,
    /// In bytes, like `bytes`; both are multiples of 4.
    pub offset: u64,
    pub bytes: u64,
    pub to: &'a wgpu::Buffer,
}

fn until(index: wgpu::SubmissionIndex) -> wgpu::PollType {
    wgpu::PollType::Wait {
        submission_index: Some(index),
        timeout: None,
    }
}

/// Speaks to the device. In a browser this returns at once.
fn poll(device: &wgpu::Device, errors: &DeviceErrors, poll: wgpu::PollType) {
    // Where the driver reports a lost device to a wait, wgpu panics instead of returning it.
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.poll(poll)));
    match polled {
        Ok(Ok(_)) => {}
        // The submit itself was refused; why was reported on its own.
        Ok(Err(error)) => errors.record(Error::Gpu {
            reason: error.to_string(),
        }),
        Err(_) => errors.lose("the driver stopped answering"),
    }
}
