//! `univi inspect`: what a model is, and whether it would load.

use std::collections::BTreeMap;
use std::future::Ready;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use univi::backend::{Activation, Clusters, Heads, KvType};
use univi::config::{LlamaConfig, VisionConfig};
use univi::gguf::{Array, GgmlType, Header, Metadata, TensorInfo, Value};
use univi::loader::{Content, LoadOptions};
use univi::prompt::Template;
use univi::sampler::Choice;
use univi::{Backend, ModelFiles, Result};

use crate::open;
use crate::progress::bytes;
use crate::{files, out};

/// Print what a model is, and check that it would load.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi inspect models/chat-univi-7b
  univi inspect models/chat-univi-7b --verbose
  univi inspect model-00001-of-00004.gguf --tensors
  univi inspect models/chat-univi-7b/manifest.json --json

Exit codes: 0 it would load, 1 it would not, 2 wrong command line, 130 interrupted.")]
pub struct InspectArgs {
    /// A folder with a manifest.json, the manifest, a GGUF file, one of a split model's files, or a
    /// model on the Hub: hf:OWNER/NAME.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// List files and metadata, too.
    #[arg(long, short)]
    pub verbose: bool,
    /// List every tensor.
    #[arg(long)]
    pub tensors: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Loads a model onto [`Blank`], which checks all that loading checks, and prints what it is.
///
/// # Errors
/// All that loading would refuse.
pub async fn run(args: &InspectArgs) -> Result<()> {
    let source = open::find(&args.model)?;
    let mut headers = Vec::new();
    for file in source
        .files
        .iter()
        .filter(|file| file.content == Content::Gguf)
    {
        headers.push((file.name.clone(), open::header(Path::new(&file.name))?));
    }
    // Only a vision side may stand alone: everything else has to be a model that can speak.
    let is_vision = |header: &Header| {
        header
            .metadata
            .str("general.architecture")
            .is_ok_and(|name| name == "clip")
    };
    let mut prompt = None;
    if headers.iter().all(|(_, header)| is_vision(header)) {
        open::loader(Blank, &source.vision_files()?)?
            .finish_vision()
            .await?;
    } else {
        let model = open::loader(Blank, &source)?
            .finish(&LoadOptions::default())
            .await?;
        prompt = Some((
            template_name(model.template()),
            model.wraps_visuals(),
            model.tokenizer().vocab_len(),
        ));
    }
    let sides = sides(&headers)?;
    let report = Report {
        path: &args.model,
        source: &source,
        headers: &headers,
        sides,
        prompt,
    };
    if args.json {
        out::json(&report.json(args.tensors))
    } else {
        out::write(&report.text(args))
    }
}

fn template_name(template: &Template) -> &'static str {
    match template {
        Template::Simple => "simple",
        Template::SimpleQa => "simpleqa",
        Template::V1 => "v1",
        Template::Bare => "bare",
        Template::Jinja(_) => "of the model's own",
    }
}

/// Files that belong together: the language model's, or the vision side's.
struct Side<'a> {
    kind: SideKind,
    metadata: &'a Metadata,
    tensors: Vec<&'a TensorInfo>,
}

enum SideKind {
    Language(LlamaConfig),
    Vision(VisionConfig),
}

fn sides(headers: &[(String, Header)]) -> Result<Vec<Side<'_>>> {
    let mut sides: Vec<Side> = Vec::new();
    for (_, header) in headers {
        let metadata = &header.metadata;
        // Files of a set other than the first say nothing of what they belong to.
        let continues = metadata.opt_u32("split.no")?.is_some_and(|no| no > 0);
        let kind = match metadata.opt_str("general.architecture")? {
            _ if continues => None,
            Some("clip") => Some(SideKind::Vision(VisionConfig::from_metadata(metadata)?)),
            _ => Some(SideKind::Language(LlamaConfig::from_metadata(metadata)?)),
        };
        if let Some(kind) = kind {
            sides.push(Side {
                kind,
                metadata,
                tensors: Vec::new(),
            });
        }
        if let Some(side) = sides.last_mut() {
            side.tensors.extend(&header.tensors);
        }
    }
    Ok(sides)
}

impl Side<'_> {
    fn parameters(&self) -> u64 {
        self.tensors.iter().map(|t| t.elements() as u64).sum()
    }

    fn bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes).sum()
    }

    /// Bytes by type, the largest share first.
    fn types(&self) -> Vec<(GgmlType, u64)> {
        let mut bytes: BTreeMap<GgmlType, u64> = BTreeMap::new();
        for t in &self.tensors {
            *bytes.entry(t.ty).or_default() += t.bytes;
        }
        let mut types: Vec<_> = bytes.into_iter().collect();
        types.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
        types
    }

    fn line(&self) -> String {
        match &self.kind {
            SideKind::Language(c) => format!(
                "language  LLaMA: {} layers, width {}, {} heads ({} for keys and values), FFN {}, {} tokens, context {}",
                c.layers, c.width, c.heads.heads, c.heads.kv_heads, c.ffn, c.vocabulary, c.context
            ),
            SideKind::Vision(c) => format!(
                "vision    CLIP: {} blocks, width {}, {} heads, pictures of {} px in patches of {}, up to {} tokens each",
                c.clip.blocks,
                c.clip.width,
                c.clip.heads,
                c.clip.image_px,
                c.clip.patch_px,
                c.image_tokens()
            ),
        }
    }

    fn json(&self, tensors: bool) -> serde_json::Value {
        let mut facts = match &self.kind {
            SideKind::Language(c) => json!({
                "kind": "llm", "layers": c.layers, "width": c.width, "heads": c.heads.heads, "kv_heads": c.heads.kv_heads,
                "ffn": c.ffn, "vocabulary": c.vocabulary, "context_length": c.context,
            }),
            SideKind::Vision(c) => json!({
                "kind": "vision", "blocks": c.clip.blocks, "width": c.clip.width, "heads": c.clip.heads, "ffn": c.clip.ffn,
                "image_px": c.clip.image_px, "patch_px": c.clip.patch_px, "image_tokens": c.image_tokens(),
            }),
        };
        let types: BTreeMap<&str, u64> = self
            .types()
            .into_iter()
            .map(|(ty, bytes)| (ty.name(), bytes))
            .collect();
        facts["parameters"] = self.parameters().into();
        facts["bytes"] = self.bytes().into();
        facts["bytes_by_type"] = json!(types);
        facts["metadata"] = self
            .metadata
            .iter()
            .map(|(key, value)| (key.to_string(), value_json(value)))
            .collect();
        if tensors {
            let one = |t: &&TensorInfo| json!({ "name": t.name, "type": t.ty.name(), "shape": t.shape, "bytes": t.bytes });
            facts["tensors"] = self.tensors.iter().map(one).collect();
        }
        facts
    }
}

/// Everything that is printed.
struct Report<'a> {
    path: &'a Path,
    source: &'a ModelFiles,
    headers: &'a [(String, Header)],
    sides: Vec<Side<'a>>,
    /// Template, whether visuals are wrapped in special tokens, tokens of the vocabulary.
    prompt: Option<(&'static str, bool, usize)>,
}

impl Report<'_> {
    fn text(&self, args: &InspectArgs) -> String {
        let parameters: u64 = self.sides.iter().map(Side::parameters).sum();
        let total: u64 = self.source.files.iter().filter_map(|file| file.bytes).sum();
        let count = self.source.files.len();
        let name = self
            .sides
            .iter()
            .find_map(|side| side.metadata.opt_str("general.name").ok().flatten());
        let name = name.map(|name| format!("{name}, ")).unwrap_or_default();
        let plural = if count == 1 { "" } else { "s" };
        let mut lines = vec![format!(
            "{}: {name}{:.1} M parameters, {} in {count} file{plural}",
            files::name(self.path),
            parameters as f64 / 1e6,
            bytes(total)
        )];
        for side in &self.sides {
            lines.push(side.line());
            let types: Vec<String> = side
                .types()
                .iter()
                .map(|(ty, size)| format!("{ty} {}", bytes(*size)))
                .collect();
            lines.push(format!(
                "          {} tensors: {}",
                side.tensors.len(),
                types.join(", ")
            ));
        }
        if let Some((template, wraps, tokens)) = self.prompt {
            let wraps = if wraps {
                ", visuals between <im_start> and <im_end>"
            } else {
                ""
            };
            lines.push(format!(
                "prompt    template {template}{wraps}; tokenizer of {tokens} tokens"
            ));
        }
        let files = self.source.files.iter().filter(|_| args.verbose);
        for file in files {
            let known = if file.sha256.is_some() {
                ", as in the manifest"
            } else {
                ""
            };
            lines.push(format!(
                "file      {}: {} bytes{known}",
                file.name,
                file.bytes.unwrap_or_default()
            ));
        }
        for side in self.sides.iter().filter(|_| args.verbose) {
            let metadata = side.metadata.iter();
            lines.extend(metadata.map(|(key, value)| format!("metadata  {key} = {value}")));
        }
        if args.tensors {
            for t in self.headers.iter().flat_map(|(_, header)| &header.tensors) {
                lines.push(format!("tensor    {} {} {:?}", t.name, t.ty, t.shape));
            }
        }
        // Names and values come from the file: each stays on its line.
        let lines: Vec<String> = lines.iter().map(|line| out::one_line(line)).collect();
        lines.join("\n") + "\n"
    }

    fn json(&self, tensors: bool) -> impl Serialize {
        let files: Vec<_> = self
            .source
            .files
            .iter()
            .map(|file| json!({ "path": file.name, "bytes": file.bytes, "sha256": file.sha256 }))
            .collect();
        let prompt = self.prompt.map(
            |(template, wraps, tokens)| json!({ "template": template, "wraps_visuals": wraps, "tokenizer_tokens": tokens }),
        );
        json!({
            "model": files::name(self.path),
            "sides": self.sides.iter().map(|side| side.json(tensors)).collect::<Vec<_>>(),
            "prompt": prompt,
            "files": files,
        })
    }
}

/// Longer lists (vocabularies) are printed as their length.
const LONG_LIST: usize = 64;

fn value_json(value: &Value) -> serde_json::Value {
    match value {
        Value::U8(x) => json!(x),
        Value::I8(x) => json!(x),
        Value::U16(x) => json!(x),
        Value::I16(x) => json!(x),
        Value::U32(x) => json!(x),
        Value::I32(x) => json!(x),
        Value::U64(x) => json!(x),
        Value::I64(x) => json!(x),
        Value::F32(x) => json!(x),
        Value::F64(x) => json!(x),
        Value::Bool(x) => json!(x),
        Value::String(x) => json!(x),
        Value::Array(list) if list.len() > LONG_LIST => {
            json!({ "length": list.len(), "type": value.type_name() })
        }
        Value::Array(list) => match list {
            Array::U8(v) => json!(v),
            Array::I8(v) => json!(v),
            Array::U16(v) => json!(v),
            Array::I16(v) => json!(v),
            Array::U32(v) => json!(v),
            Array::I32(v) => json!(v),
            Array::U64(v) => json!(v),
            Array::I64(v) => json!(v),
            Array::F32(v) => json!(v),
            Array::F64(v) => json!(v),
            Array::Bool(v) => json!(v),
            Array::String(v) => json!(v),
        },
    }
}

/// A backend that holds nothing: loading a model onto it checks the model and takes no memory.
/// What a model does beyond being loaded is never asked of it.
#[derive(Clone)]
pub struct Blank;

const LOADING_ONLY: &str = "a model on a blank backend is never run";

impl Backend for Blank {
    type Tensor = ();
    type Ids = ();
    type Matrix = ();
    type KvCache = ();

    async fn read_matrix(&self, _: &(), _: usize, _: usize) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    async fn can_allocate(&self, _: u64) -> Result<bool> {
        Ok(true)
    }

    fn alloc_matrix(&self, _: GgmlType, _: usize, _: usize) -> Result<()> {
        Ok(())
    }

    fn write_matrix(&self, (): &mut (), _: usize, _: &[u8]) {}

    fn kv_cache(&self, _: usize, _: usize, _: KvType) {}

    async fn reserve(&self, (): &mut (), _: usize) -> Result<()> {
        Ok(())
    }

    async fn copy_kv_cache(&self, (): &(), _: usize) -> Result<()> {
        Ok(())
    }

    fn tensor(&self, _: &[f32], _: usize) {}

    fn ids(&self, _: &[u32]) {}

    fn embed(&self, (): &(), (): &()) {}

    fn add(&self, (): &(), (): &()) {}

    async fn finish(&self) -> Result<()> {
        Ok(())
    }

    fn shape(&self, (): &()) -> [usize; 2] {
        unreachable!("{LOADING_ONLY}")
    }

    async fn read(&self, (): &()) -> Result<Vec<f32>> {
        unreachable!("{LOADING_ONLY}")
    }

    #[expect(refining_impl_trait)] // It never returns.
    fn read_ids(&self, (): &()) -> Ready<Result<Vec<u32>>> {
        unreachable!("{LOADING_ONLY}")
    }

    fn slice(&self, (): &(), _: Range<usize>) {
        unreachable!("{LOADING_ONLY}")
    }

    fn concat(&self, _: &[&()]) {
        unreachable!("{LOADING_ONLY}")
    }

    fn gather(&self, (): &(), (): &()) {
        unreachable!("{LOADING_ONLY}")
    }

    fn mean(&self, (): &(), _: usize) {
        unreachable!("{LOADING_ONLY}")
    }

    fn matmul(&self, (): &(), (): &()) {
        unreachable!("{LOADING_ONLY}")
    }

    fn activate(&self, (): &(), _: Activation) {
        unreachable!("{LOADING_ONLY}")
    }

    fn silu_mul(&self, (): &(), (): &()) {
        unreachable!("{LOADING_ONLY}")
    }

    fn layer_norm(&self, (): &(), (): &(), (): &(), _: f32) {
        unreachable!("{LOADING_ONLY}")
    }

    fn rms_norm(&self, (): &(), (): &(), _: f32) {
        unreachable!("{LOADING_ONLY}")
    }

    fn rope(&self, (): &(), (): &(), _: usize, _: usize) {
        unreachable!("{LOADING_ONLY}")
    }

    fn attention(&self, (): &(), (): &(), (): &(), _: Heads, _: usize) {
        unreachable!("{LOADING_ONLY}")
    }

    fn append(&self, (): &mut (), _: usize, (): &(), (): &()) {
        unreachable!("{LOADING_ONLY}")
    }

    fn attention_causal(&self, (): &(), (): &(), _: Heads, _: usize) {
        unreachable!("{LOADING_ONLY}")
    }

    fn dpc_knn(&self, (): &(), _: usize, _: usize, _: usize, _: Option<&()>) -> Clusters<()> {
        unreachable!("{LOADING_ONLY}")
    }

    fn merge(&self, (): &(), (): &(), _: usize, _: usize) {
        unreachable!("{LOADING_ONLY}")
    }

    fn choose(&self, (): &(), _: &Choice) {
        unreachable!("{LOADING_ONLY}")
    }
}
