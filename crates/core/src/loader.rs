//! From files to a model, as a state machine without IO: the driver fetches the bytes, from a disk
//! or over a network, and pushes them; the weights go straight to the device.
//!
//! ```text
//! while let Some(file) = loader.next_file() { .. loader.push(chunk)? ..; loader.end_file()? }
//! let model = loader.finish(&options).await?;
//! ```
//!
//! What a header alone gives away is refused before the weights behind it are fetched.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::{
    Backend, Error, Result,
    backend::KvType,
    config::{LlamaConfig, VisionConfig},
    gguf::{
        Event, FiniteCheck, GgmlType, Header, Parser, QuantizationPlan, Shards, SplitName,
        TensorInfo,
    },
    model::{ChatUniVi, Language, Llama, Vision, Weights, llama_tensors, vision_tensors},
    prompt::{Template, WRAPS_VISUALS_KEY},
    signature::{Signature, impostor},
    tokenizer::{Tokenizer, TokenizerConfig},
};

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// GGUF: a language model, a vision side, or one of a set of files.
    Gguf,
    /// `tokenizer.json` or `tokenizer.model`.
    Tokenizer,
}

/// A file that a model is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// What it holds.
    pub content: Content,
    /// The name, relative to the manifest or the first file.
    pub name: String,
    /// Its length, where it is known before the file is opened.
    pub bytes: Option<u64>,
    /// SHA-256 in hexadecimal, where a manifest promises one.
    pub sha256: Option<String>,
}

/// Longer than any `tokenizer.json` that is read.
const MAX_TOKENIZER_BYTES: usize = 64 << 20;

/// How much of the model has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of all files so far.
    pub done_bytes: u64,
    /// Bytes of all files, where all lengths are known.
    pub total_bytes: Option<u64>,
}

/// Options of a model that is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Positions of a conversation: `None` for what the model was made for, up to
    /// [`LoadOptions::DEFAULT_CONTEXT`].
    pub context: Option<usize>,
    /// How conversations keep keys and values.
    pub kv_cache: KvType,
}

impl LoadOptions {
    /// Long enough for a clip and a conversation about it, short enough that the KV cache of a 7B
    /// model never grows beyond the size of its weights.
    pub const DEFAULT_CONTEXT: usize = 4096;

    /// Returns the tokens to make room for, of a model that was made for `most`.
    ///
    /// # Errors
    /// `BadRequest` for more than that, or none.
    pub fn context_within(&self, most: usize) -> Result<usize> {
        match self.context {
            None => Ok(most.min(LoadOptions::DEFAULT_CONTEXT)),
            Some(context) if (1..=most).contains(&context) => Ok(context),
            Some(context) => {
                let reason = format!("a context of {context} tokens: this model takes 1 to {most}");
                Err(Error::BadRequest { reason })
            }
        }
    }
}

impl LoadOptions {
    /// Sets [`LoadOptions::context`].
    pub fn context(mut self, context: impl Into<Option<usize>>) -> LoadOptions {
        self.context = context.into();
        self
    }

    /// Sets [`LoadOptions::kv_cache`].
    pub fn kv_cache(mut self, kv_cache: KvType) -> LoadOptions {
        self.kv_cache = kv_cache;
        self
    }
}

/// What a model and one conversation of full length need of a device's memory, besides some for
/// what is being computed. The conversation's share is not taken before it is needed: a KV cache
/// grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of all weights.
    pub weights_bytes: u64,
    /// Tokens that a conversation may have.
    pub context: u64,
    /// Bytes of the KV cache for each of them.
    pub kv_bytes_per_token: u64,
}

impl Needs {
    /// Returns the bytes of weights and KV cache.
    pub fn bytes(&self) -> u64 {
        self.weights_bytes
            .saturating_add(self.context.saturating_mul(self.kv_bytes_per_token))
    }

    /// Asks a device, before any byte is fetched, whether it has that much.
    ///
    /// # Errors
    /// `OutOfMemory` that says what is too large, and which context would do.
    pub async fn check<B: Backend>(&self, backend: &B) -> Result<()> {
        let needed_bytes = self.bytes();
        if backend.can_allocate(needed_bytes).await? {
            return Ok(());
        }
        let mut shorter = Needs { ..*self };
        while shorter.kv_bytes_per_token > 0 && shorter.context > MIN_CONTEXT {
            shorter.context = (shorter.context / 2).max(MIN_CONTEXT);
            if backend.can_allocate(shorter.bytes()).await? {
                let what = format!(
                    "the model with a context of {} tokens (one of {} would fit)",
                    self.context, shorter.context
                );
                return Err(Error::OutOfMemory {
                    what,
                    needed_bytes,
                    limit_bytes: 0,
                });
            }
        }
        Err(Error::OutOfMemory {
            what: "the model".into(),
            needed_bytes,
            limit_bytes: 0,
        })
    }
}

/// A picture and a question: a shorter context is of no use.
const MIN_CONTEXT: u64 = 256;

/// Takes the files of a model, one after the other.
pub struct Loader<B: Backend> {
    backend: B,
    files: Vec<ModelFile>,
    /// Files that are complete.
    ended: usize,
    current: Option<Current>,
    done_bytes: u64,
    sides: Vec<Side<B>>,
    tokenizer: Option<(String, Vec<u8>)>,
    /// Every so many-th tensor of a file is read back; 0: none.
    check_every: usize,
    /// What those tensors were when they came.
    checks: HashMap<String, Sha256>,
}

/// The file that is being read.
struct Current {
    hash: Hash,
    reader: Reader,
    /// Bytes of it that have come.
    done_bytes: u64,
    /// Sides, and headers of the last of them, before this file's header came.
    sides_before: usize,
    headers_before: usize,
}

/// What is known of the SHA-256 of the file that is being read.
enum Hash {
    /// Nobody promised one.
    Unpromised,
    /// Computed as bytes come.
    Internal(Sha256),
    /// The driver computes it, and tells it before the file ends.
    External(Option<String>),
}

enum Reader {
    Gguf(Box<GgufReader>),
    Tokenizer(Vec<u8>),
}

struct GgufReader {
    parser: Parser,
    finite: FiniteCheck,
    /// The tensors of the file, once its header is known, and whether the model calls for them.
    tensors: Vec<(TensorInfo, bool)>,
}

/// The language model or the vision encoder: a set of files with one configuration.
struct Side<B: Backend> {
    file: String,
    config: SideConfig,
    shards: Shards,
    weights: Weights<B>,
}

enum SideConfig {
    Language(LlamaConfig),
    Vision(VisionConfig),
}

impl SideConfig {
    /// Whether a tensor that is not loaded may be there: nothing would be computed with it.
    fn may_hold(&self, name: &str) -> bool {
        match self {
            // Frequencies that old converters stored, and which follow from the metadata.
            SideConfig::Language(_) => {
                name.ends_with(".attn_rot_embd") || name.ends_with(".rope_freqs")
            }
            // What is behind the layer that the features come from.
            SideConfig::Vision(config) => {
                let block = name
                    .strip_prefix("v.blk.")
                    .and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
                name.starts_with("v.post_ln.")
                    || block.is_some_and(|block| block >= config.clip.blocks)
            }
        }
    }
}

impl ModelFile {
    /// Returns the files of a model that begins with this one: itself, or all files of its set
    /// where the name is `PREFIX-00001-of-0000N.gguf`.
    pub fn set(name: &str) -> Vec<ModelFile> {
        let file = |name: String| ModelFile {
            content: Content::Gguf,
            name,
            bytes: None,
            sha256: None,
        };
        match SplitName::parse(name) {
            Some(split) => split.all().map(|split| file(split.to_string())).collect(),
            None => vec![file(name.to_string())],
        }
    }
}

impl Current {
    fn new<B: Backend>(file: &ModelFile, sides: &[Side<B>]) -> Current {
        let reader = match file.content {
            Content::Tokenizer => Reader::Tokenizer(Vec::new()),
            Content::Gguf => Reader::Gguf(Box::new(GgufReader {
                parser: file.bytes.map_or_else(Parser::new, Parser::for_file_of),
                finite: FiniteCheck::new(),
                tensors: Vec::new(),
            })),
        };
        Current {
            hash: match file.sha256 {
                Some(_) => Hash::Internal(Sha256::new()),
                None => Hash::Unpromised,
            },
            reader,
            done_bytes: 0,
            sides_before: sides.len(),
            headers_before: sides.last().map_or(0, |side| side.shards.headers().len()),
        }
    }
}

impl<B: Backend> Loader<B> {
    /// Makes a loader for these files: each GGUF file, in the order of its set.
    ///
    /// # Errors
    /// `BadRequest` without files.
    pub fn new(backend: B, files: Vec<ModelFile>) -> Result<Loader<B>> {
        if files.is_empty() {
            return Err(Error::BadRequest {
                reason: "a model needs at least one GGUF file".into(),
            });
        }
        Ok(Loader {
            backend,
            files,
            ended: 0,
            current: None,
            done_bytes: 0,
            sides: Vec::new(),
            tokenizer: None,
            check_every: 0,
            checks: HashMap::new(),
        })
    }

    /// Has [`Loader::finish`] read every `every`-th matrix of each file back from the device, and
    /// compare it with what came: for a device that nobody has tried yet.
    pub fn check_upload(&mut self, every: usize) {
        self.check_every = every;
    }

    /// Tells what the language model is probably stored in, before any of its headers says so: the
    /// last of its files may hold a type that no other has, and preparing for it takes longer
    /// than fetching that file.
    pub fn expect(&self, plan: QuantizationPlan) {
        self.backend.prepare_pipelines(&plan.types(), true);
    }

    /// Tells what [`Loader::finish`] will be asked for: preparing for it may begin.
    pub fn expect_options(&self, options: &LoadOptions) {
        self.backend.prepare_cache_pipelines(options.kv_cache);
    }

    /// Returns all files, in the order in which they are wanted.
    pub fn files(&self) -> &[ModelFile] {
        &self.files
    }

    /// Returns the file whose bytes are wanted next, from its start; `None` when all have come.
    pub fn next_file(&self) -> Option<&ModelFile> {
        self.files.get(self.ended)
    }

    /// Returns how much has come.
    pub fn progress(&self) -> Progress {
        Progress {
            done_bytes: self.done_bytes,
            total_bytes: self.files.iter().map(|file| file.bytes).sum(),
        }
    }

    /// Takes the next bytes of [`Loader::next_file`].
    ///
    /// # Errors
    /// Whatever is wrong with them, named with the file.
    ///
    /// # Panics
    /// When all files have come.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let file = self.files[self.ended].clone();
        self.push_bytes(&file, bytes)
            .map_err(|error| error.in_file(file.name))
    }

    fn push_bytes(&mut self, file: &ModelFile, bytes: &[u8]) -> Result<()> {
        self.done_bytes += bytes.len() as u64;
        let current = self
            .current
            .get_or_insert_with(|| Current::new(file, &self.sides));
        current.done_bytes += bytes.len() as u64;
        if let Hash::Internal(sha256) = &mut current.hash {
            sha256.update(bytes);
        }
        let gguf = match &mut current.reader {
            Reader::Gguf(gguf) => &mut **gguf,
            Reader::Tokenizer(all) if all.len() + bytes.len() > MAX_TOKENIZER_BYTES => {
                let reason = format!("longer than {MAX_TOKENIZER_BYTES} bytes");
                return Err(Error::BadFile {
                    format: "tokenizer",
                    reason,
                });
            }
            Reader::Tokenizer(all) => {
                all.extend_from_slice(bytes);
                return Ok(());
            }
        };
        let (sides, backend) = (&mut self.sides, &self.backend);
        let (tensors, finite) = (&mut gguf.tensors, &mut gguf.finite);
        let (check_every, checks) = (self.check_every, &mut self.checks);
        gguf.parser.push(bytes, &mut |event| match event {
            Event::Header(header) => {
                *tensors = begin(sides, backend, file, header)?;
                Ok(())
            }
            Event::Data {
                tensor,
                offset,
                bytes,
            } => {
                let (info, wanted) = &tensors[tensor];
                if *wanted {
                    finite.push(tensor, info, offset, bytes)?;
                    if check_every > 0 && tensor % check_every == 0 && info.shape.len() > 1 {
                        if offset == 0 {
                            checks.insert(info.name.clone(), Sha256::new());
                        }
                        let came = checks.get_mut(&info.name).expect("it began at 0");
                        came.update(bytes);
                    }
                    let weights = &mut sides.last_mut().expect("data follow a header").weights;
                    weights.write(&info.name, offset as usize, bytes);
                }
                Ok(())
            }
        })
    }

    /// Leaves the SHA-256 of [`Loader::next_file`] to the driver, where the platform computes it
    /// faster: before the file's first byte. [`Loader::set_hash`] then is due before its end.
    pub fn use_external_hash(&mut self) {
        let Some(file) = self.next_file().cloned() else {
            return;
        };
        let current = self
            .current
            .get_or_insert_with(|| Current::new(&file, &self.sides));
        if let Hash::Internal(_) = current.hash {
            current.hash = Hash::External(None);
        }
    }

    /// Returns the SHA-256, in hexadecimal, of all that was pushed of [`Loader::next_file`], after
    /// [`Loader::use_external_hash`].
    pub fn set_hash(&mut self, sha256: String) {
        if let Some(Hash::External(found)) = self.current.as_mut().map(|current| &mut current.hash)
        {
            *found = Some(sha256);
        }
    }

    /// Forgets what has come of [`Loader::next_file`], right or wrong: it begins anew. Room that
    /// its header asked for is free again.
    pub fn restart_file(&mut self) {
        let Some(current) = self.current.take() else {
            return;
        };
        self.done_bytes -= current.done_bytes;
        self.sides.truncate(current.sides_before);
        let Some(side) = self.sides.last_mut() else {
            return;
        };
        while side.shards.headers().len() > current.headers_before {
            let header = side.shards.pop().expect("there is a header");
            for tensor in &header.tensors {
                side.weights.forget(&tensor.name);
            }
        }
    }

    /// Ends a file: all bytes of [`Loader::next_file`] have been pushed.
    ///
    /// # Errors
    /// `BadFile` where it breaks off, `WrongHash`; named with the file, which then still is the
    /// next one: [`Loader::restart_file`] lets it come again. `BadRequest` where the hash that
    /// was left to the driver is not there.
    pub fn end_file(&mut self) -> Result<()> {
        self.push(&[])?; // An empty file has not begun.
        let file = &self.files[self.ended];
        let current = self.current.as_ref().expect("the file has begun");
        let check = || {
            if let Reader::Gguf(gguf) = &current.reader {
                gguf.parser.check_end()?;
            }
            let Some(expected) = file.sha256.clone() else {
                return Ok(());
            };
            let found = match &current.hash {
                Hash::Unpromised => return Ok(()),
                Hash::Internal(sha256) => hex::encode(sha256.clone().finalize()),
                Hash::External(found) => found.clone().ok_or_else(|| Error::BadRequest {
                    reason: "its SHA-256 was to be computed elsewhere, and was not".into(),
                })?,
            };
            if found.eq_ignore_ascii_case(&expected) {
                Ok(())
            } else {
                Err(Error::WrongHash { expected, found })
            }
        };
        check().map_err(|error| error.in_file(&*file.name))?;
        if let Some(Reader::Tokenizer(bytes)) = self.current.take().map(|current| current.reader) {
            self.tokenizer = Some((file.name.clone(), bytes));
        }
        self.ended += 1;
        Ok(())
    }

    /// Returns the model.
    ///
    /// # Errors
    /// `BadRequest` before all files have come or for a context that is too long; `BadFile` without
    /// a language model; what the parts themselves refuse, named with the file; or as
    /// [`Backend::finish`].
    pub async fn finish(mut self, options: &LoadOptions) -> Result<ChatUniVi<B>> {
        if let Some(file) = self.next_file() {
            return Err(Error::BadRequest {
                reason: format!("the model is not complete: {} has not come", file.name),
            });
        }
        self.expect_options(options);
        self.backend.pipelines_ready().await;
        for (name, came) in std::mem::take(&mut self.checks) {
            for side in &self.sides {
                side.check_upload(&name, &came).await?;
            }
        }
        let (mut llama, mut vision) = (None, None);
        for side in &mut self.sides {
            let Side {
                file,
                config,
                shards,
                weights,
            } = side;
            let built = shards.check_complete().and_then(|()| match config {
                SideConfig::Language(config) => {
                    llama = Some(Llama::new(
                        weights,
                        config,
                        options.context_within(config.context)?,
                        options.kv_cache,
                    )?);
                    Ok(())
                }
                SideConfig::Vision(config) => {
                    vision = Some(Vision::new(weights, config)?);
                    Ok(())
                }
            });
            built.map_err(|error| error.in_file(&*file))?;
        }
        let no_language = || Error::BadFile {
            format: "GGUF",
            reason: "there is no language model among the files".into(),
        };
        let mut llama = llama.ok_or_else(no_language)?;
        llama.stack_matrices().await?;
        let model = ChatUniVi::new(self.backend.clone(), llama, vision, self.words()?)?;
        // What went wrong on the device while the weights streamed to it shows here, not in an
        // answer.
        self.backend.finish().await?;
        Ok(model)
    }

    /// Returns the vision side of a loader that was given no other files: for looking without
    /// speaking.
    ///
    /// # Errors
    /// As [`Loader::finish`]; `BadFile` without a vision side.
    pub async fn finish_vision(mut self) -> Result<Vision<B>> {
        self.backend.pipelines_ready().await;
        for side in &mut self.sides {
            if let SideConfig::Vision(config) = &side.config {
                let built = side.shards.check_complete();
                let built = built.and_then(|()| Vision::new(&mut side.weights, config));
                let vision = built.map_err(|error| error.in_file(&side.file))?;
                self.backend.finish().await?;
                return Ok(vision);
            }
        }
        Err(Error::BadFile {
            format: "GGUF",
            reason: "there is no vision side among the files".into(),
        })
    }
}

impl<B: Backend> Side<B> {
    /// Compares a tensor on the device with what came, if it is one of this side.
    async fn check_upload(&self, name: &str, came: &Sha256) -> Result<()> {
        let (mut read, mut bytes) = (Sha256::new(), 0);
        let mut piece = |piece: &[u8]| {
            read.update(piece);
            bytes += piece.len();
        };
        self.weights.read_back(name, &mut piece).await?;
        if bytes > 0 && read.finalize() != came.clone().finalize() {
            let reason = format!(
                "tensor {name} reads back differently than it was written: the device or its driver is faulty"
            );
            return Err(Error::Gpu { reason });
        }
        Ok(())
    }
}

impl<B: Backend> Loader<B> {
    /// Vocabulary and template, from whichever file has them.
    fn words(&self) -> Result<Language> {
        let is_language = |side: &&Side<B>| matches!(side.config, SideConfig::Language(_));
        let language = self
            .sides
            .iter()
            .find(is_language)
            .expect("there is a language model");
        let metadata = language.shards.metadata();
        let tokenizer = match &self.tokenizer {
            // The GGUF's own vocabulary is what its rows are in the order of.
            None => Tokenizer::from_gguf(metadata),
            Some(_) if metadata.contains("tokenizer.ggml.tokens") => Tokenizer::from_gguf(metadata),
            Some((file, bytes)) => tokenizer_of_file(bytes).map_err(|error| error.in_file(file)),
        };
        let tokenizer = tokenizer.map_err(|error| error.in_file(&language.file))?;

        // What the vision side says of prompts goes before what the language model says.
        let mut sides: Vec<&Side<B>> = self.sides.iter().collect();
        sides.sort_by_key(|side| is_language(side));
        let (mut template, mut wraps_visuals) = (None, None);
        for side in sides {
            let metadata = side.shards.metadata();
            let found = Template::from_metadata(metadata, &tokenizer)
                .and_then(|found| Ok((found, metadata.opt_bool(WRAPS_VISUALS_KEY)?)));
            let found = found.map_err(|error| error.in_file(&side.file))?;
            template = template.or(found.0);
            wraps_visuals = wraps_visuals.or(found.1);
        }
        Ok(Language {
            tokenizer,
            template: template.unwrap_or(Template::Simple),
            wraps_visuals: wraps_visuals.unwrap_or(false),
        })
    }
}

fn tokenizer_of_file(bytes: &[u8]) -> Result<Tokenizer> {
    let config = TokenizerConfig::default();
    if let Some(advice) = impostor(bytes, Some(Signature::Json)) {
        let reason = format!("this {advice}");
        return Err(Error::Tokenizer { reason });
    }
    match bytes.first() {
        Some(b'{') => Tokenizer::from_json(bytes, &config),
        _ => Tokenizer::from_sentencepiece(bytes, &config),
    }
}

/// A header has come: finds the side that it belongs to, checks all that it promises, and makes
/// room.
fn begin<B: Backend>(
    sides: &mut Vec<Side<B>>,
    backend: &B,
    file: &ModelFile,
    header: &Header,
) -> Result<Vec<(TensorInfo, bool)>> {
    let continues = sides
        .last()
        .is_some_and(|side| side.shards.headers().len() < side.shards.count());
    if !continues {
        let (config, wanted) = match header.metadata.str("general.architecture")? {
            "clip" => {
                let config = VisionConfig::from_metadata(&header.metadata)?;
                let wanted = vision_tensors(&config);
                (SideConfig::Vision(config), wanted)
            }
            _ => {
                let config = LlamaConfig::from_metadata(&header.metadata)?;
                let wanted = llama_tensors(&config);
                (SideConfig::Language(config), wanted)
            }
        };
        if sides
            .iter()
            .any(|side| std::mem::discriminant(&side.config) == std::mem::discriminant(&config))
        {
            let reason =
                "is a second model of its kind: a model is one language model and one vision side"
                    .into();
            return Err(Error::BadFile {
                format: "GGUF",
                reason,
            });
        }
        let weights = Weights::new(backend.clone(), wanted);
        sides.push(Side {
            file: file.name.clone(),
            config,
            shards: Shards::new(),
            weights,
        });
    }

    let mut types: Vec<GgmlType> = header.tensors.iter().map(|tensor| tensor.ty).collect();
    types.sort_unstable();
    types.dedup();
    let side = sides.last_mut().expect("there is a side");
    let decodes = matches!(side.config, SideConfig::Language(_));
    backend.prepare_pipelines(&types, decodes);
    side.shards.push(header.clone())?;
    let mut tensors = Vec::new();
    for info in &header.tensors {
        let wanted = side.weights.begin(&info.name, info.ty, &info.shape)?;
        if !wanted && !side.config.may_hold(&info.name) {
            let what = if info.name.ends_with(".bias") {
                "language models with biases are not supported"
            } else {
                "the model computes something else than its metadata say, or is damaged"
            };
            return Err(Error::BadFile {
                format: "GGUF",
                reason: format!("tensor {} has no place in the model: {what}", info.name),
            });
        }
        tensors.push((info.clone(), wanted));
    }
    if side.shards.headers().len() == side.shards.count() {
        side.shards.check_complete()?;
        side.weights.check_complete()?;
    }
    Ok(tensors)
}
