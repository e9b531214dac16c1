//! Pipelines that compile while weights arrive.
//!
//! wgpu makes pipelines with `createComputePipeline`, for which a browser stops handling what the
//! page sends to the GPU until the shader is compiled: an upload, and with it the download, stands
//! still for seconds. What was made with `createComputePipelineAsync` before, of the same parts,
//! the browser then has at hand.

use std::{any::Any, rc::Rc};

use js_sys::{Array, Function, Object, Promise, Reflect};
use univi::gpu::{CompileAhead, Shader};
use univi_web_bindings::object;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// `GPUShaderStage.COMPUTE`
const COMPUTE: u32 = 4;

/// Compiles with the browser's own interface.
pub fn compile_ahead() -> CompileAhead {
    CompileAhead(Rc::new(|device, shader| {
        let begun = of_browser(device).and_then(|device| begin(&device, shader));
        Box::pin(async move {
            // What fails here fails again where wgpu asks, and is reported there.
            let pipeline = match begun {
                Ok(promise) => JsFuture::from(promise).await.ok(),
                Err(_) => None,
            };
            Box::new(pipeline) as Box<dyn Any>
        })
    }))
}

/// The device as the browser knows it.
#[cfg(target_arch = "wasm32")]
fn of_browser(device: &wgpu::Device) -> Result<JsValue, JsValue> {
    let device = device.as_webgpu().ok_or(JsValue::UNDEFINED)?;
    Ok(device.clone().into())
}

/// Elsewhere this crate is only checked: there is no browser.
#[cfg(not(target_arch = "wasm32"))]
fn of_browser(_: &wgpu::Device) -> Result<JsValue, JsValue> {
    Err(JsValue::UNDEFINED)
}

/// The same parts as wgpu makes them of, so that the browser knows them again.
fn begin(device: &JsValue, shader: &Shader) -> Result<Promise, JsValue> {
    let call = |name: &str, argument: JsValue| -> Result<JsValue, JsValue> {
        let function: Function = Reflect::get(device, &name.into())?.dyn_into()?;
        function.call1(device, &argument)
    };
    let module = call(
        "createShaderModule",
        object([("code", (&*shader.source).into())]),
    )?;
    let entries = Array::new();
    let entry = |buffer: JsValue| {
        let binding = entries.length();
        entries.push(&object([
            ("binding", binding.into()),
            ("visibility", COMPUTE.into()),
            ("buffer", buffer),
        ]));
    };
    entry(object([
        ("type", "uniform".into()),
        ("hasDynamicOffset", true.into()),
        ("minBindingSize", (shader.params_bytes as f64).into()),
    ]));
    for i in 0..shader.reads + shader.writes {
        let kind = if i < shader.reads {
            "read-only-storage"
        } else {
            "storage"
        };
        entry(object([("type", kind.into())]));
    }
    let group = call(
        "createBindGroupLayout",
        object([("entries", entries.into())]),
    )?;
    let groups = Array::of1(&group);
    let layout = call(
        "createPipelineLayout",
        object([("bindGroupLayouts", groups.into())]),
    )?;
    let constants = Object::new();
    for &(name, value) in &shader.constants {
        Reflect::set(&constants, &name.into(), &value.into())?;
    }
    let compute = object([
        ("module", module),
        ("entryPoint", shader.entry.into()),
        ("constants", constants.into()),
    ]);
    let pipeline = call(
        "createComputePipelineAsync",
        object([("layout", layout), ("compute", compute)]),
    )?;
    pipeline.dyn_into()
}
