//! Planning, over and over again until all that it reads is here.

use js_sys::Array;
use univi::{Error, Result, gguf::QuantizationPlan};
use univi_convert::{
    Conversion, ConversionOptions, PlannedFile,
    checkpoint::{Checkpoint, Span},
};
use univi_web_bindings::{object, thrown};
use wasm_bindgen::prelude::*;

use crate::{making::Making, ranges::Ranges};

/// The most data of one file, as the command line has it.
const SHARD_BYTES: u64 = 64 << 20;

/// How the vision side is stored, as the command line has it.
const VISION_QUANTIZATION: &str = "f16";

/// Plans the conversion of a checkpoint of which some ranges have been fetched.
#[wasm_bindgen]
pub struct Planner {
    checkpoint: Ranges,
    tower: Option<Ranges>,
    options: ConversionOptions,
    planned: Option<Conversion>,
}

/// What planning has led to.
enum Step {
    /// A range has to be fetched.
    Missing { place: &'static str, span: Span },
    /// The vision tower lies in a repository of its own.
    Tower(String),
    /// The plan is made.
    Planned(Box<Conversion>),
}

#[wasm_bindgen]
impl Planner {
    /// Begins to plan a model that is called `name` and whose language model is stored as
    /// `quantization`.
    ///
    /// # Errors
    /// `bad-request` for a quantization that is not known.
    #[wasm_bindgen(constructor)]
    pub fn new(name: String, quantization: &str) -> Result<Planner, JsValue> {
        let plan = |name: &str| QuantizationPlan::parse(name).map_err(thrown);
        Ok(Planner {
            checkpoint: Ranges::default(),
            tower: None,
            options: ConversionOptions {
                name,
                quantization: plan(quantization)?,
                vision_quantization: plan(VISION_QUANTIZATION)?,
                template: None,
                importance: None,
                shard_bytes: SHARD_BYTES,
            },
            planned: None,
        })
    }

    /// Adds a file of the repository of `place`.
    #[wasm_bindgen(js_name = addFile)]
    pub fn add_file(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "\"checkpoint\" | \"tower\"")] place: &str,
        name: String,
        bytes: f64,
    ) {
        self.ranges(place).add_file(name, bytes as u64);
    }

    /// Adds bytes of a file, from `offset` on.
    #[wasm_bindgen(js_name = addRange)]
    pub fn add_range(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "\"checkpoint\" | \"tower\"")] place: &str,
        name: &str,
        offset: f64,
        bytes: Vec<u8>,
    ) {
        self.ranges(place).add_range(name, offset as u64, bytes);
    }

    /// Plans: the range that has to be fetched before it is called again, or the repository of the
    /// vision tower whose files have to be added, or that the plan is made.
    ///
    /// # Errors
    /// Whatever is wrong with the checkpoint.
    #[wasm_bindgen(
        unchecked_return_type = "{ kind: \"missing\"; place: \"checkpoint\" | \"tower\"; file: string; offset: number; bytes: number } | { kind: \"tower\"; repository: string } | { kind: \"planned\" }"
    )]
    pub fn plan(&mut self) -> Result<JsValue, JsValue> {
        Ok(match self.step().map_err(thrown)? {
            Step::Missing { place, span } => object([
                ("kind", "missing".into()),
                ("place", place.into()),
                ("file", span.file.into()),
                ("offset", (span.offset as f64).into()),
                ("bytes", (span.len as f64).into()),
            ]),
            Step::Tower(repository) => {
                object([("kind", "tower".into()), ("repository", repository.into())])
            }
            Step::Planned(conversion) => {
                self.planned = Some(*conversion);
                self.checkpoint.forget_ranges();
                if let Some(tower) = &mut self.tower {
                    tower.forget_ranges();
                }
                object([("kind", "planned".into())])
            }
        })
    }

    /// The files that will be made, in the order of the manifest: `fetchBytes` are fetched for the
    /// tensors of each.
    #[wasm_bindgen(unchecked_return_type = "{ path: string; bytes: number; fetchBytes: number }[]")]
    pub fn files(&self) -> Array {
        let describe = |file: &PlannedFile| {
            let fetched = |planned: &univi_convert::PlannedTensor| planned.tensor.span().len;
            let fetch_bytes: u64 = file.tensors.iter().map(fetched).sum();
            object([
                ("path", (&*file.name).into()),
                ("bytes", (file.bytes as f64).into()),
                ("fetchBytes", (fetch_bytes as f64).into()),
            ])
        };
        let planned = self.planned.iter().flat_map(|planned| &planned.files);
        planned.map(describe).collect()
    }

    /// The manifest as JSON, by the SHA-256 of each file.
    ///
    /// # Errors
    /// `bad-request` where there are not as many as files, or no plan; `bad-file`.
    pub fn manifest(&self, sha256: Vec<String>) -> Result<String, JsValue> {
        let manifest = || self.conversion()?.manifest(&sha256)?.to_json();
        manifest().map_err(thrown)
    }

    /// Begins to make a file of the plan.
    ///
    /// # Errors
    /// `bad-request` where there is no such file.
    pub fn make(&self, index: usize) -> Result<Making, JsValue> {
        let file = || match self.conversion()?.files.get(index) {
            Some(file) => Ok(Making::new(file.clone())),
            None => Err(no_plan()),
        };
        file().map_err(thrown)
    }
}

impl Planner {
    fn ranges(&mut self, place: &str) -> &mut Ranges {
        match place {
            "tower" => self.tower.get_or_insert_default(),
            _ => &mut self.checkpoint,
        }
    }

    fn conversion(&self) -> Result<&Conversion> {
        self.planned.as_ref().ok_or_else(no_plan)
    }

    fn step(&self) -> Result<Step> {
        let error = match self.attempt() {
            Ok(step) => return Ok(step),
            Err(error) => error,
        };
        let missing = |place, ranges: &Ranges| {
            let span = ranges.take_missing()?;
            Some(Step::Missing { place, span })
        };
        let of_checkpoint = missing("checkpoint", &self.checkpoint);
        let of_tower = self
            .tower
            .as_ref()
            .and_then(|tower| missing("tower", tower));
        of_checkpoint.or(of_tower).ok_or(error)
    }

    fn attempt(&self) -> Result<Step> {
        let checkpoint = Checkpoint::open(&self.checkpoint)?;
        let is_elsewhere = checkpoint.has_vision() && !checkpoint.has_tower();
        if let (None, true, Some(name)) = (&self.tower, is_elsewhere, checkpoint.tower_name()) {
            return Ok(Step::Tower(name.to_string()));
        }
        let tower = self.tower.as_ref().map(|files| Checkpoint::open(files));
        let tower = tower.transpose()?;
        let conversion = Conversion::plan(&checkpoint, tower.as_ref(), &self.options)?;
        Ok(Step::Planned(Box::new(conversion)))
    }
}

fn no_plan() -> Error {
    Error::BadRequest {
        reason: "there is no such file of a plan".into(),
    }
}
