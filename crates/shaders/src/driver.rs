//! A Vulkan driver, called directly for what its compiler reports.

use std::ffi::{CStr, CString};

use anyhow::{Context, Result, anyhow};
use ash::{khr::pipeline_executable_properties, vk};
use naga::{
    back::{pipeline_constants::process_overrides, spv},
    valid::{Capabilities, ValidationFlags, Validator},
};
use univi::gpu::Shader;

use crate::{Statistics, loop_body::largest_loop_valu};

/// Compiles every shader with the driver that the environment names.
///
/// # Errors
/// Where there is no such driver, or it refuses a shader.
pub fn compile_all(filter: &str) -> Result<Vec<Statistics>> {
    let driver = Driver::open()?;
    univi::gpu::shaders()
        .into_iter()
        .filter(|shader| shader.name.contains(filter))
        .map(|shader| {
            let reported = driver
                .compile(&shader)
                .with_context(|| format!("cannot compile {}", shader.name))?;
            Ok(reported.statistics(shader.name))
        })
        .collect()
}

/// An open device. The process ends without closing it.
struct Driver {
    device: ash::Device,
    executables: pipeline_executable_properties::Device,
}

/// What a driver says of a pipeline.
struct Reported {
    numbers: Vec<(String, u64)>,
    disassembly: String,
}

impl Driver {
    fn open() -> Result<Driver> {
        // SAFETY: plain Vulkan; what a structure points at outlives the call.
        unsafe {
            let vulkan = ash::Entry::load().context("no Vulkan loader; install libvulkan1")?;
            let version = vk::make_api_version(0, 1, 3, 0);
            let application = vk::ApplicationInfo::default().api_version(version);
            let info = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = vulkan.create_instance(&info, None)?;
            let adapters = instance.enumerate_physical_devices()?;
            let adapter = *adapters.first().context("the driver has no device")?;
            let queue = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let extensions = [pipeline_executable_properties::NAME.as_ptr()];
            let mut reports = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                .pipeline_executable_info(true);
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queue)
                .enabled_extension_names(&extensions)
                .push_next(&mut reports);
            let device = instance.create_device(adapter, &info, None)?;
            let executables = pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Driver {
                device,
                executables,
            })
        }
    }

    fn compile(&self, shader: &Shader) -> Result<Reported> {
        let code = spirv(shader)?;
        let entry = CString::new(shader.entry)?;
        let ty = |binding: usize| match binding {
            0 => vk::DescriptorType::UNIFORM_BUFFER,
            _ => vk::DescriptorType::STORAGE_BUFFER,
        };
        let bindings: Vec<_> = (0..=shader.reads + shader.writes)
            .map(|binding| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding as u32)
                    .descriptor_type(ty(binding))
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let device = &self.device;
        // SAFETY: as above; naga's validator has seen the shader, and its bindings are those of the
        // layout, which a test of the engine holds.
        unsafe {
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [device.create_descriptor_set_layout(&info, None)?];
            let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = device.create_pipeline_layout(&info, None)?;
            let info = vk::ShaderModuleCreateInfo::default().code(&code);
            let module = device.create_shader_module(&info, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&entry);
            let info = vk::ComputePipelineCreateInfo::default()
                .stage(stage)
                .layout(layout)
                .flags(
                    vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                        | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
                );
            let pipelines = device
                .create_compute_pipelines(vk::PipelineCache::null(), &[info], None)
                .map_err(|(_, error)| error)?;
            let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipelines[0]);
            let numbers = self
                .executables
                .get_pipeline_executable_statistics(&executable)?
                .iter()
                .map(|statistic| (text(&statistic.name), statistic.value.u64))
                .collect();
            let disassembly = self.disassembly(&executable)?;
            Ok(Reported {
                numbers,
                disassembly,
            })
        }
    }

    /// The last of a driver's texts about a pipeline: what the GPU would run.
    ///
    /// # Safety
    /// `executable` is one of this device that was created with its texts.
    unsafe fn disassembly(&self, executable: &vk::PipelineExecutableInfoKHR<'_>) -> Result<String> {
        let call = self
            .executables
            .fp()
            .get_pipeline_executable_internal_representations_khr;
        let device = self.device.handle();
        let mut count = 0;
        // SAFETY: the first call counts the texts, the second measures them, the third copies them
        // into room of that size.
        unsafe {
            call(device, executable, &mut count, std::ptr::null_mut()).result()?;
            let mut texts =
                vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            call(device, executable, &mut count, texts.as_mut_ptr()).result()?;
            let mut room: Vec<Vec<u8>> = texts.iter().map(|t| vec![0; t.data_size]).collect();
            for (text, room) in texts.iter_mut().zip(&mut room) {
                text.p_data = room.as_mut_ptr().cast();
            }
            call(device, executable, &mut count, texts.as_mut_ptr()).result()?;
            Ok(String::from_utf8_lossy(&room.pop().unwrap_or_default()).into_owned())
        }
    }
}

impl Reported {
    fn number(&self, name: &str) -> Option<u64> {
        let found = self.numbers.iter().find(|(other, _)| other == name);
        found.map(|&(_, number)| number)
    }

    /// The numbers of either vendor under common names.
    fn statistics(&self, kernel: String) -> Statistics {
        let all = |names: [&str; 2]| names.iter().filter_map(|name| self.number(name)).sum();
        let valu = self.number("VALU");
        Statistics {
            kernel,
            registers: all(["VGPRs", "Max live registers"]),
            waves: self.number("Subgroups per SIMD"),
            simd: self.number("Max dispatch width"),
            spills: all(["Spilled VGPRs", "Spilled SGPRs"]) + all(["Spill Count", "Fill Count"]),
            instructions: all(["Instructions", "Instruction Count"]),
            valu,
            loop_valu: valu.and_then(|_| largest_loop_valu(&self.disassembly)),
            sends: self.number("SEND Count"),
            cycles: all(["Inverse Throughput", "Cycle Count"]),
        }
    }
}

/// What wgpu gives a Vulkan driver: its shaders are trusted, so nothing is checked in them.
fn spirv(shader: &Shader) -> Result<Vec<u32>> {
    let source = &shader.source;
    let module = naga::front::wgsl::parse_str(source)
        .map_err(|error| anyhow!("{}", error.emit_to_string(source)))?;
    let info = Validator::new(
        ValidationFlags::all(),
        Capabilities::SHADER_FLOAT16_IN_FLOAT32,
    )
    .validate(&module)?;
    let constants = shader.constants.iter();
    let constants = constants
        .map(|&(name, value)| (name.to_owned(), value))
        .collect();
    let (module, info) = process_overrides(&module, &info, None, &constants)?;
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..Default::default()
    };
    Ok(spv::write_vec(&module, &info, &options, None)?)
}

fn text(name: &[std::ffi::c_char]) -> String {
    // SAFETY: drivers end their names with a zero, within the array.
    unsafe { CStr::from_ptr(name.as_ptr()) }
        .to_string_lossy()
        .into_owned()
}
