//! From files to a model.

use js_sys::{Array, Reflect};
use univi::{
    Device, Error, ModelLoader, OpenDevice,
    backend::KvType,
    gguf::QuantizationPlan,
    gpu::GpuOptions,
    loader::{LoadOptions as CoreLoadOptions, ModelFile},
    manifest::Manifest,
};
use univi_web_bindings::{object, thrown, whole};
use wasm_bindgen::prelude::*;

use crate::{engine::Engine, pipelines::compile_ahead};

/// Opens what `device` names, `"webgpu"`, `"cpu"` or `"auto"`; and says why `"auto"` took the CPU.
async fn open(device: &str) -> univi::Result<(OpenDevice, Option<String>)> {
    const NO_WEBGPU: &str = "there is no navigator.gpu";
    let device = match device {
        "cpu" => Device::Cpu,
        "auto" if !has_webgpu() => {
            return Ok((Device::Cpu.open().await?, Some(NO_WEBGPU.into())));
        }
        "auto" => Device::Auto,
        "webgpu" if !has_webgpu() => {
            return Err(Error::NoGpu {
                reason: format!(
                    "{NO_WEBGPU}; use a browser with WebGPU and a page that comes over https, \
                     install the npm package webgpu in Node, or take the device cpu"
                ),
            });
        }
        "webgpu" => Device::Gpu,
        other => {
            return Err(Error::BadRequest {
                reason: format!("there is no device {other:?}; there are auto, webgpu and cpu"),
            });
        }
    };
    let options = GpuOptions::default().compile_ahead(Some(compile_ahead()));
    let open = device.open_with(options).await?;
    let why = open.why_not_gpu().map(|error| match error {
        Error::NoGpu { reason } => reason.clone(),
        other => other.to_string(),
    });
    Ok((open, why))
}

/// Whether there is a `navigator.gpu`: wgpu panics where there is neither a window nor a worker, as
/// in Node.
fn has_webgpu() -> bool {
    let get = |object: JsValue, name: &str| {
        let present = !object.is_undefined() && !object.is_null();
        present.then(|| Reflect::get(&object, &name.into()).ok())?
    };
    get(js_sys::global().into(), "navigator")
        .and_then(|navigator| get(navigator, "gpu"))
        .is_some_and(|gpu| gpu.is_object())
}

/// Takes a model's files, chunk by chunk.
#[wasm_bindgen]
pub struct Loader {
    device: OpenDevice,
    device_reason: Option<String>,
    options: CoreLoadOptions,
    name: String,
    manifest: Option<Manifest>,
    loader: Option<ModelLoader>,
}

#[wasm_bindgen]
impl Loader {
    /// A loader for a device: `"auto"`, `"webgpu"` or `"cpu"`.
    ///
    /// # Errors
    /// `no-gpu`, or `bad-request` for another name and for options that mean nothing.
    pub async fn create(device: String, options: LoadOptions) -> Result<Loader, JsValue> {
        let options = options.options().map_err(thrown)?;
        let (device, device_reason) = open(&device).await.map_err(thrown)?;
        Ok(Loader {
            device,
            device_reason,
            options,
            name: String::new(),
            manifest: None,
            loader: None,
        })
    }

    /// What computes: `"webgpu"` or `"cpu"`.
    #[wasm_bindgen(unchecked_return_type = "\"webgpu\" | \"cpu\"")]
    pub fn device(&self) -> String {
        match self.device.adapter_info() {
            None => "cpu".into(),
            Some(_) => "webgpu".into(),
        }
    }

    /// The device as it describes itself.
    #[wasm_bindgen(getter)]
    pub fn adapter(&self) -> String {
        match self.device.adapter_info() {
            None => "WebAssembly, one thread".into(),
            Some(adapter) => adapter.name.clone(),
        }
    }

    /// Why `"auto"` took the CPU.
    #[wasm_bindgen(getter, js_name = deviceReason)]
    pub fn device_reason(&self) -> Option<String> {
        self.device_reason.clone()
    }

    /// What the manifest calls the model, or its first file's name.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// The files of a model are those that this manifest names.
    ///
    /// # Errors
    /// `bad-file` where it is no manifest that can be trusted.
    pub fn manifest(&mut self, name: &str, json: &[u8]) -> Result<(), JsValue> {
        let manifest = Manifest::parse(json).map_err(|error| thrown(error.in_file(name)))?;
        self.begin_manifest(&manifest)?;
        self.manifest = Some(manifest);
        Ok(())
    }

    fn begin_manifest(&mut self, manifest: &Manifest) -> Result<(), JsValue> {
        self.begin(manifest.name.clone(), manifest.model_files())?;
        let quantization = manifest
            .quantization
            .as_deref()
            .map(QuantizationPlan::parse);
        if let (Some(loader), Some(Ok(plan))) = (&self.loader, quantization) {
            loader.expect(plan);
        }
        Ok(())
    }

    /// The model is this GGUF file, or the set of files that it begins.
    ///
    /// # Errors
    /// `bad-request`.
    pub fn gguf(&mut self, name: &str) -> Result<(), JsValue> {
        self.begin(name.to_string(), ModelFile::set(name))
    }

    fn begin(&mut self, name: String, files: Vec<ModelFile>) -> Result<(), JsValue> {
        self.name = name;
        let loader = ModelLoader::new(&self.device, files).map_err(thrown)?;
        loader.expect_options(&self.options);
        self.loader = Some(loader);
        Ok(())
    }

    /// Asks the device, before any file has come, whether it has room for the model and for one
    /// conversation that takes all of the context, as far as the manifest tells what they need.
    ///
    /// What does not fit into WebAssembly's 4 GiB, where `"auto"` took the CPU, goes to WebGPU in
    /// software after all.
    ///
    /// # Errors
    /// `out-of-memory` that says which context would do.
    #[wasm_bindgen(js_name = checkRoom)]
    pub async fn check_room(&mut self) -> Result<(), JsValue> {
        let Some(manifest) = self.manifest.clone() else {
            return Ok(());
        };
        let needs = manifest.needs(&self.options).map_err(thrown)?;
        let room = ModelLoader::check_memory(&self.device, &needs).await;
        if self.device.why_not_gpu().is_some()
            && matches!(room, Err(Error::OutOfMemory { .. }))
            && let Ok((gpu, _)) = open("webgpu").await
        {
            (self.device, self.device_reason) = (gpu, None);
            let room = ModelLoader::check_memory(&self.device, &needs).await;
            room.map_err(thrown)?;
            return self.begin_manifest(&manifest);
        }
        room.map_err(thrown)
    }

    /// Has `finish` read every `every`-th matrix of each file back from the device, and compare it
    /// with what came.
    #[wasm_bindgen(js_name = checkUpload)]
    pub fn check_upload(&mut self, every: usize) {
        if let Some(loader) = &mut self.loader {
            loader.check_upload(every);
        }
    }

    /// All files, in the order in which their bytes are wanted, each from its start.
    #[wasm_bindgen(unchecked_return_type = "{ name: string; bytes?: number; sha256?: string }[]")]
    pub fn files(&self) -> Array {
        let Some(loader) = &self.loader else {
            return Array::new();
        };
        let plain = |file: &ModelFile| {
            let bytes = file
                .bytes
                .map_or(JsValue::UNDEFINED, |bytes| (bytes as f64).into());
            object([
                ("name", (&*file.name).into()),
                ("bytes", bytes),
                ("sha256", file.sha256.as_deref().into()),
            ])
        };
        loader.files().iter().map(plain).collect()
    }

    /// Leaves the SHA-256 of the next file to the caller, who sets it by `setHash` before
    /// `endFile`: before its first byte.
    #[wasm_bindgen(js_name = useExternalHash)]
    pub fn use_external_hash(&mut self) {
        if let Some(loader) = &mut self.loader {
            loader.use_external_hash();
        }
    }

    /// The SHA-256, in hexadecimal, of all that was pushed of the next file.
    #[wasm_bindgen(js_name = setHash)]
    pub fn set_hash(&mut self, sha256: String) {
        if let Some(loader) = &mut self.loader {
            loader.set_hash(sha256);
        }
    }

    /// Forgets what has come of the next file, right or wrong: it begins anew.
    #[wasm_bindgen(js_name = restartFile)]
    pub fn restart_file(&mut self) {
        if let Some(loader) = &mut self.loader {
            loader.restart_file();
        }
    }

    /// Waits until what was pushed lies on the device, so that no more is on its way than it can
    /// take.
    ///
    /// # Errors
    /// What the device reports.
    pub async fn settle(&self) -> Result<(), JsValue> {
        self.device.finish().await.map_err(thrown)
    }

    /// Bytes that have come.
    #[wasm_bindgen(getter, js_name = doneBytes)]
    pub fn done_bytes(&self) -> f64 {
        let done = |loader: &ModelLoader| loader.progress().done_bytes;
        self.loader.as_ref().map_or(0, done) as f64
    }

    /// Bytes of all files, where that is known.
    #[wasm_bindgen(getter, js_name = totalBytes)]
    pub fn total_bytes(&self) -> Option<f64> {
        let total = self.loader.as_ref()?.progress().total_bytes;
        total.map(|bytes| bytes as f64)
    }

    /// Takes the next bytes of the next file.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), JsValue> {
        self.loader_mut()?.push(bytes).map_err(thrown)
    }

    /// That all bytes of the next file have been pushed.
    ///
    /// # Errors
    /// `bad-file` where it breaks off, `wrong-hash`; `bad-request` where the hash that was left to
    /// the caller is not there.
    #[wasm_bindgen(js_name = endFile)]
    pub fn end_file(&mut self) -> Result<(), JsValue> {
        self.loader_mut()?.end_file().map_err(thrown)
    }

    /// The model.
    ///
    /// # Errors
    /// Whatever keeps the files from being a model.
    pub async fn finish(self) -> Result<Engine, JsValue> {
        let loader = self.loader.ok_or_else(no_files)?;
        let options = self.options;
        let model = loader.finish(&options).await.map_err(thrown)?;
        Ok(Engine::new(self.name, model))
    }

    fn loader_mut(&mut self) -> Result<&mut ModelLoader, JsValue> {
        self.loader.as_mut().ok_or_else(no_files)
    }
}

#[wasm_bindgen]
extern "C" {
    /// What a user may choose about a model that is loaded.
    #[wasm_bindgen(typescript_type = "{ contextLength?: number; kvCache?: \"f32\" | \"q8\" }")]
    pub type LoadOptions;

    #[wasm_bindgen(method, getter, js_name = contextLength)]
    fn context_length(this: &LoadOptions) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = kvCache)]
    fn kv_cache(this: &LoadOptions) -> Option<String>;
}

impl LoadOptions {
    fn options(&self) -> univi::Result<CoreLoadOptions> {
        let kv_cache = self.kv_cache().as_deref().map(KvType::from_name);
        Ok(CoreLoadOptions::default()
            .context(whole("contextLength", self.context_length())?.map(|n| n as usize))
            .kv_cache(kv_cache.transpose()?.unwrap_or_default()))
    }
}

fn no_files() -> JsValue {
    thrown(Error::BadRequest {
        reason: "the loader was given neither a manifest nor a GGUF file".into(),
    })
}
