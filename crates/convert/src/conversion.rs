//! From a checkpoint to the files of a model: all that is decided before the first number is read.
//!
//! Shapes alone fix each output file to the byte: its name, its header, the place of each tensor.
//! So a caller writes the files in any order, each on its own, and one that is finished need not be
//! made again.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use univi::{
    Error, Result,
    config::LlamaConfig,
    gguf::{GgmlType, Metadata, QuantizationPlan, SplitName, align},
    manifest::{FileEntry, Manifest, Role},
    prompt::TEMPLATE_KEY,
};

use crate::{
    ImportanceMatrix, TensorSpec,
    card::{CARD_NAME, CardFacts, Origin, card, license_files},
    checkpoint::{Checkpoint, CheckpointPart, CheckpointTensor},
    header, plan_shards, shard_metadata,
};

/// What becomes of a checkpoint.
#[derive(Debug, Clone)]
pub struct ConversionOptions {
    /// What to call the model. Its files are named after it.
    pub name: String,
    /// How the language model is stored.
    pub quantization: QuantizationPlan,
    /// How the vision side is stored.
    pub vision_quantization: QuantizationPlan,
    /// The prompt template that the model was tuned with, where the checkpoint does not say.
    pub template: Option<String>,
    /// How much each column of the language model's matrices matters, where it is known.
    pub importance: Option<ImportanceMatrix>,
    /// The most data of one file of the language model, in bytes. A tensor that is larger gets a
    /// file of its own.
    pub shard_bytes: u64,
}

/// The files of a model to be, in the order of its manifest.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// The files.
    pub files: Vec<PlannedFile>,
    /// Names in the importance matrix that no tensor has.
    pub unused_importance: Vec<String>,
    /// Lacks its files.
    manifest: Manifest,
    /// Under which terms the weights are used.
    license_files: Vec<(String, Vec<u8>)>,
}

/// A file of a model to be.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    /// What the file is for.
    pub role: Role,
    /// The name in the model's folder.
    pub name: String,
    /// The length.
    pub bytes: u64,
    /// What the file begins with: the header of a GGUF file; all of a tokenizer's file.
    pub head: Vec<u8>,
    /// What follows, in order.
    pub tensors: Vec<PlannedTensor>,
}

/// A tensor of a file of a model to be.
#[derive(Debug, Clone)]
pub struct PlannedTensor {
    /// Where its numbers come from.
    pub tensor: CheckpointTensor,
    /// How they are stored.
    pub ty: GgmlType,
    /// How much each column matters.
    pub importance: Option<Arc<[f32]>>,
    /// Of its first byte in the file.
    pub offset: u64,
    /// Length of its data.
    pub bytes: u64,
    /// Zeros that follow the data.
    pub padding: u64,
}

impl Conversion {
    /// Plans the conversion of a checkpoint; `tower` is the folder of the vision tower that the
    /// model was made with, where one is known.
    ///
    /// # Errors
    /// As [`Checkpoint::parts`]; `BadRequest` where a tensor can't be stored as is asked, or the
    /// importance matrix is of another model.
    pub fn plan(
        checkpoint: &Checkpoint<'_>,
        tower: Option<&Checkpoint<'_>>,
        options: &ConversionOptions,
    ) -> Result<Conversion> {
        let (mut llm, vision) = checkpoint.parts(tower)?;
        if let Some(template) = &options.template {
            llm.metadata.insert(TEMPLATE_KEY, template.as_str());
        }
        let license = checkpoint.license()?;
        let describe = |metadata: &mut Metadata| {
            metadata.insert("general.name", options.name.as_str());
            if let Some(license) = &license {
                metadata.insert("general.license", license.as_str());
            }
        };
        let quantization = options.quantization.name();
        let mut manifest = Manifest::new(&options.name, Vec::new());
        manifest.quantization = Some(quantization.to_string());
        manifest.parameters =
            Some(llm.parameters() + vision.as_ref().map_or(0, CheckpointPart::parameters));
        let config = LlamaConfig::from_metadata(&llm.metadata)?;
        manifest.context_length = Some(config.context as u64);
        manifest.kv_numbers = Some(config.kv_numbers());

        let stem = file_stem(&options.name);
        let (mut metadata, specs) = llm.plan(options.quantization);
        describe(&mut metadata);
        let none = ImportanceMatrix::default();
        let importance = options.importance.as_ref().unwrap_or(&none);
        if !importance.is_empty() {
            metadata.insert("quantize.imatrix.entries_count", importance.len() as u32);
            check_names(importance, &specs)?;
        }
        let shards = plan_shards(&specs, options.shard_bytes)?;
        let set = SplitName {
            prefix: format!("{stem}-{quantization}"),
            index: 0,
            count: shards.len(),
        };
        let mut files = Vec::new();
        let mut tensors = llm.tensors.into_iter();
        for (name, range) in set.all().zip(shards) {
            let metadata = shard_metadata(&metadata, name.index, name.count, specs.len());
            let of_shard = tensors.by_ref().take(range.len()).collect();
            let name = name.to_string();
            let specs = &specs[range];
            files.push(gguf(
                Role::Llm,
                name,
                &metadata,
                specs,
                of_shard,
                importance,
            )?);
        }
        if let Some(vision) = vision {
            let (mut metadata, specs) = vision.plan(options.vision_quantization);
            describe(&mut metadata);
            manifest.image_px = metadata.opt_u64("clip.vision.image_size")?;
            let name = format!("{stem}-vision-{}.gguf", options.vision_quantization.name());
            let tensors = vision.tensors;
            files.push(gguf(Role::Vision, name, &metadata, &specs, tensors, &none)?);
        }
        if let Some(name) = checkpoint.tokenizer_file()?
            && let Some(head) = checkpoint.small_file(name)?
        {
            files.push(PlannedFile {
                role: Role::Tokenizer,
                name: name.to_string(),
                bytes: head.len() as u64,
                head,
                tensors: Vec::new(),
            });
        }
        manifest.license = license;
        let tensors = files.iter().flat_map(|file: &PlannedFile| &file.tensors);
        let used: BTreeSet<&str> = tensors.map(|planned| &*planned.tensor.name).collect();
        let unused = importance.names().filter(|name| !used.contains(name));
        Ok(Conversion {
            unused_importance: unused.map(String::from).collect(),
            files,
            manifest,
            license_files: license_files(checkpoint)?,
        })
    }

    /// Returns what the model is called.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Returns the bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Returns the small files that go along with a model beside those of its manifest, by their
    /// names: a model card, and what the checkpoint says about its licence. `origin` is where the
    /// checkpoint is published.
    pub fn companions(&self, origin: Option<&Origin>) -> Vec<(String, Vec<u8>)> {
        let facts = CardFacts {
            manifest: &self.manifest,
            files: self
                .files
                .iter()
                .map(|file| (file.role, file.bytes))
                .collect(),
            license_names: self.license_files.iter().map(|(name, _)| &**name).collect(),
            origin,
        };
        let mut companions = vec![(CARD_NAME.to_string(), card(&facts).into_bytes())];
        companions.extend(self.license_files.iter().cloned());
        companions
    }

    /// Returns all tensors, in the order of the files.
    pub fn tensors(&self) -> impl Iterator<Item = &PlannedTensor> {
        self.files.iter().flat_map(|file| &file.tensors)
    }

    /// Returns the model's manifest, by the SHA-256 of each file in order: 64 lower-case
    /// hexadecimal digits.
    ///
    /// # Errors
    /// `BadRequest` where there are not as many as files.
    pub fn manifest(&self, sha256: &[String]) -> Result<Manifest> {
        if sha256.len() != self.files.len() {
            return Err(Error::BadRequest {
                reason: format!("{} hashes for {} files", sha256.len(), self.files.len()),
            });
        }
        let entries = self
            .files
            .iter()
            .zip(sha256)
            .map(|(file, sha256)| FileEntry {
                role: file.role,
                path: file.name.clone(),
                bytes: file.bytes,
                sha256: sha256.clone(),
            });
        let mut manifest = self.manifest.clone();
        manifest.files = entries.collect();
        Ok(manifest)
    }
}

impl PlannedTensor {
    /// As [`CheckpointTensor::encode`], in the type and with the importance that are planned.
    ///
    /// # Errors
    /// As [`CheckpointTensor::encode`].
    pub fn encode(&self, rows: Range<usize>, bytes: &[u8]) -> Result<Vec<u8>> {
        let importance = self.importance.as_deref();
        self.tensor.encode(self.ty, importance, rows, bytes)
    }
}

/// Refuses an importance matrix that lacks a matrix of a layer: it is of another model. Of the
/// embeddings and of the output, llama.cpp collects nothing by default.
fn check_names(importance: &ImportanceMatrix, specs: &[TensorSpec]) -> Result<()> {
    let names: BTreeSet<&str> = importance.names().collect();
    let mut layers = specs
        .iter()
        .filter(|spec| spec.ty.is_quantized() && spec.name.starts_with("blk."));
    match layers.find(|spec| !names.contains(&*spec.name)) {
        None => Ok(()),
        Some(spec) => Err(Error::BadRequest {
            reason: format!(
                "the importance matrix lacks {}: it is of another model",
                spec.name
            ),
        }),
    }
}

fn gguf(
    role: Role,
    name: String,
    metadata: &Metadata,
    specs: &[TensorSpec],
    tensors: Vec<CheckpointTensor>,
    importance: &ImportanceMatrix,
) -> Result<PlannedFile> {
    let (head, header) = header(metadata, specs)?;
    let mut bytes = head.len() as u64;
    let mut planned = Vec::with_capacity(tensors.len());
    for (tensor, info) in tensors.into_iter().zip(&header.tensors) {
        let padded = align(info.bytes, header.alignment).ok_or_else(|| Error::BadRequest {
            reason: format!("the sizes of {name} overflow 64 bits"),
        })?;
        bytes = info.offset.saturating_add(padded);
        let importance = match info.ty.is_quantized() {
            true => importance.of(&tensor.name, tensor.cols())?,
            false => None,
        };
        planned.push(PlannedTensor {
            tensor,
            ty: info.ty,
            importance,
            offset: info.offset,
            bytes: info.bytes,
            padding: padded - info.bytes,
        });
    }
    Ok(PlannedFile {
        role,
        name,
        bytes,
        head,
        tensors: planned,
    })
}

/// A name that is a file name everywhere: letters, digits, `.`, `-` and `_` stay.
fn file_stem(name: &str) -> String {
    let stem: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    match stem.trim_matches(['-', '.']) {
        "" => "model".to_string(),
        stem => stem.to_string(),
    }
}
