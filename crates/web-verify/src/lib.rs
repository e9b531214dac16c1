//! The self-test in a browser: the same functions as `univi verify`. A module of its own, so that
//! what pages download holds none of it.

use std::collections::BTreeMap;

use js_sys::{Array, JSON};
use sha2::{Digest, Sha256};
use univi::{Backend, BackendWork, Device, Error, OpenDevice, Result};
use univi_verify::{Fixtures, Report};
use wasm_bindgen::prelude::*;

/// Makes a panic say on the console what and where it was.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

/// Runs fixtures that JavaScript has fetched.
#[wasm_bindgen]
pub struct Verifier {
    device: OpenDevice,
    files: Files,
}

#[derive(Default)]
struct Files {
    fixtures: BTreeMap<String, Vec<u8>>,
    models: Vec<Vec<u8>>,
}

#[wasm_bindgen]
impl Verifier {
    /// Opens a device for its self-test: `"webgpu"` or `"cpu"`.
    ///
    /// # Errors
    /// `no-gpu`, or `bad-request` for another name.
    pub async fn create(device: String) -> Result<Verifier, JsValue> {
        let device = match &*device {
            "cpu" => Device::Cpu,
            "webgpu" => Device::Gpu,
            other => {
                let reason = format!("there is no device {other:?}; there are webgpu and cpu");
                return Err(thrown(Error::BadRequest { reason }));
            }
        };
        Ok(Verifier {
            device: device.open().await.map_err(thrown)?,
            files: Files::default(),
        })
    }

    /// The kinds of fixtures that there are.
    #[wasm_bindgen(unchecked_return_type = "string[]")]
    pub fn kinds() -> Array {
        univi_verify::KINDS.into_iter().map(JsValue::from).collect()
    }

    /// Adds a fixture file, named from the fixtures' folder.
    #[wasm_bindgen(js_name = addFile)]
    pub fn add_file(&mut self, path: String, bytes: Vec<u8>) {
        self.files.fixtures.insert(path, bytes);
    }

    /// Adds a real model, which fixtures know by its SHA-256.
    #[wasm_bindgen(js_name = addModel)]
    pub fn add_model(&mut self, bytes: Vec<u8>) {
        self.files.models.push(bytes);
    }

    /// Compiles every shader, for every type of weights and caches.
    ///
    /// # Errors
    /// `gpu`: what the browser says of the shader.
    #[wasm_bindgen(js_name = compileAll)]
    pub async fn compile_all(&self) -> Result<(), JsValue> {
        self.device.compile_shaders().await.map_err(thrown)
    }

    /// Runs all fixtures of one kind. Failures are part of the report.
    ///
    /// # Errors
    /// None that a fixture can bring about.
    #[wasm_bindgen(
        unchecked_return_type = "{ cases: { name: string; error: number | null; tolerance: number; passed: boolean; detail: string }[]; missing: string[] }"
    )]
    pub async fn check(&self, kind: String) -> Result<JsValue, JsValue> {
        let check = Check {
            kind: &kind,
            fixtures: &self.files,
        };
        let report = self.device.run(check).await;
        let json = serde_json::to_string(&report).map_err(|error| {
            thrown(Error::Io {
                reason: error.to_string(),
            })
        })?;
        JSON::parse(&json)
    }
}

struct Check<'a> {
    kind: &'a str,
    fixtures: &'a Files,
}

impl BackendWork for Check<'_> {
    type Output = Report;

    async fn run<B: Backend>(self, backend: &B) -> Report {
        univi_verify::check(self.kind, backend, self.fixtures).await
    }
}

impl Fixtures for Files {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let missing = || {
            Error::Io {
                reason: "no such file".into(),
            }
            .in_file(path)
        };
        self.fixtures.get(path).cloned().ok_or_else(missing)
    }

    fn list(&self) -> Vec<String> {
        self.fixtures.keys().cloned().collect()
    }

    fn model(&self, bytes: u64, sha256: &str) -> Result<Option<Vec<u8>>> {
        let same = |model: &&Vec<u8>| {
            model.len() as u64 == bytes
                && hex::encode(Sha256::digest(model)).eq_ignore_ascii_case(sha256)
        };
        Ok(self.models.iter().find(same).cloned())
    }
}

/// What JavaScript catches.
fn thrown(error: Error) -> JsValue {
    js_sys::Error::new(&error.to_string()).into()
}
