//! The checkpoint that a stage begins with: what its folder holds, and for a plain LLaMA or Vicuna
//! the projector and the configuration of a Chat-UniVi.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use univi::{Error, Result};
use univi_convert::checkpoint::{Checkpoint, Files};
use univi_train::{
    export::{self, Tensors},
    projector,
};

use super::stage_args::{Stage, StageArgs};
use crate::{checkpoint_folder::Folder, files, pull::Source};

const CONFIG_NAME: &str = "config.json";
const PROJECTOR_NAME: &str = "mm_projector.safetensors";
const INDEX_NAME: &str = "model.safetensors.index.json";

/// A checkpoint's files, and others in front of them.
pub struct Base {
    /// The folder on the disk.
    pub folder: Folder,
    /// Files that are not on the disk, or stand for those that are.
    added: BTreeMap<String, Vec<u8>>,
}

impl Files for Base {
    fn len(&self, name: &str) -> Result<Option<u64>> {
        match self.added.contains_key(name) {
            true => Files::len(&self.added, name),
            false => self.folder.len(name),
        }
    }

    fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        match self.added.contains_key(name) {
            true => self.added.read(name, offset, out),
            false => self.folder.read(name, offset, out),
        }
    }
}

/// The paths of a file's tensors: an index, of which the map alone is read.
fn weight_map(folder: &Folder) -> Result<BTreeMap<String, String>> {
    const LAYOUTS: [&str; 4] = [
        INDEX_NAME,
        "model.safetensors",
        "pytorch_model.bin.index.json",
        "pytorch_model.bin",
    ];
    for name in LAYOUTS {
        if folder.len(name)?.is_none() {
            continue;
        }
        if !name.ends_with(".json") {
            // One tensor that every LLaMA has names the file.
            let tensor = "model.embed_tokens.weight".to_string();
            return Ok(BTreeMap::from([(tensor, name.to_string())]));
        }
        let index = json_file(&folder.path.join(name))?;
        let map = serde_json::from_value(index["weight_map"].clone());
        return map.map_err(|e| wrong(&folder.path.join(name), e.to_string()));
    }
    Ok(BTreeMap::new())
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::BadFile {
        format: "JSON",
        reason,
    }
    .in_file(files::name(path))
}

fn json_file(path: &Path) -> Result<Value> {
    serde_json::from_slice(&files::read(path)?).map_err(|e| wrong(path, e.to_string()))
}

impl Base {
    /// Opens the checkpoint of a stage. One without a projector gets that of `--projector`, or a
    /// new one for the first stage.
    ///
    /// # Errors
    /// Whatever is wrong with the files, named; `BadRequest` for a second stage without a
    /// projector.
    pub fn open(args: &StageArgs, stage: Stage) -> Result<Base> {
        let mut base = Base {
            folder: Folder::open(&args.checkpoint)?,
            added: BTreeMap::new(),
        };
        let source = Checkpoint::open(&base.folder).map_err(|e| base.folder.explain(e))?;
        let name = files::name(&args.checkpoint);
        let refuse = |reason: String| Err(Error::BadRequest { reason });
        match (source.has_projector(), &args.projector) {
            (true, None) => return Ok(base),
            (true, Some(_)) => {
                return refuse(format!(
                    "{name} has a projector of its own: leave --projector out"
                ));
            }
            (false, None) if stage == Stage::Tune => {
                return refuse(format!(
                    "{name} has no projector: train one with `univi train pretrain`, or name that \
                     of an earlier stage with --projector mm_projector.bin"
                ));
            }
            (false, _) => {}
        }
        let mut config = json_file(&base.folder.path.join(CONFIG_NAME))?;
        let tower = base.folder.tower(args.vision_tower.as_deref(), &source)?;
        let tower_width = match &tower {
            Some(tower) => {
                let opened = Checkpoint::open(tower).map_err(|e| tower.explain(e))?;
                let part = opened.tower().map_err(|e| tower.explain(e))?;
                part.metadata.u32("clip.vision.embedding_length")?
            }
            None => {
                return refuse(format!(
                    "{name} names no vision tower: name the folder of a CLIP with --vision-tower"
                ));
            }
        };
        let (tensors, beside) = match &args.projector {
            Some(path) => (
                read_projector(path)?,
                Some(path.with_file_name(CONFIG_NAME)),
            ),
            None => {
                let width = config["hidden_size"].as_u64().unwrap_or_default() as usize;
                (projector::new(tower_width as usize, width, args.seed), None)
            }
        };
        let tower = tower.map(|tower| tower.path).unwrap_or_default();
        let beside = beside.filter(|path| path.is_file());
        let beside = beside.map(|path| json_file(&path)).transpose()?;
        configure(&mut config, &tensors, &tower, tower_width, beside.as_ref());
        let mut map = weight_map(&base.folder)?;
        let names = tensors
            .keys()
            .map(|name| (name.clone(), PROJECTOR_NAME.to_string()));
        map.extend(names);
        let index = json!({ "metadata": {}, "weight_map": map });
        let mut added = BTreeMap::new();
        export::write(&mut added, &tensors)?;
        let weights = added.remove(export::WEIGHTS_NAME).unwrap_or_default();
        let written = serde_json::to_vec_pretty(&config);
        let config = written.map_err(|e| wrong(&args.checkpoint, e.to_string()))?;
        base.added = BTreeMap::from([
            (CONFIG_NAME.to_string(), config),
            (PROJECTOR_NAME.to_string(), weights),
            (INDEX_NAME.to_string(), index.to_string().into_bytes()),
        ]);
        Ok(base)
    }

    /// A small file of the checkpoint, if it is there.
    ///
    /// # Errors
    /// `Io`.
    pub fn small_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(len) = self.len(name)? else {
            return Ok(None);
        };
        let mut bytes = vec![0; len as usize];
        self.read(name, 0, &mut bytes)?;
        Ok(Some(bytes))
    }
}

fn read_projector(path: &Path) -> Result<Tensors> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = Folder::open(folder.unwrap_or(Path::new(".")))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    files::metadata(path)?;
    let read = projector::read(&folder, &name);
    read.map_err(|e| match e {
        Error::In { source, .. } => source.in_file(files::name(path)),
        e => e.in_file(files::name(path)),
    })
}

/// Makes the configuration of a LLaMA that of a Chat-UniVi, as the reference's training does: its
/// own keys where it has them, those that stand `beside` the projector, and for the rest the
/// published recipe's.
fn configure(
    config: &mut Value,
    projector: &Tensors,
    tower: &Path,
    tower_width: u32,
    beside: Option<&Value>,
) {
    let tower = tower.to_string_lossy().replace('\\', "/");
    // The reference takes towers of these names alone.
    let tower = match tower.find("openai/").or_else(|| tower.find("clip-vit-")) {
        Some(at) if tower[at..].starts_with("openai/") => tower[at..].to_string(),
        Some(at) => format!("openai/{}", &tower[at..]),
        None => tower,
    };
    let published = json!({
        "architectures": ["ChatUniViLlamaForCausalLM"],
        "model_type": "ChatUniVi",
        "use_mm_proj": true,
        "mm_vision_tower": tower.trim_end_matches("/"),
        "mm_hidden_size": tower_width,
        "mm_projector_type": projector::kind(projector),
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_use_im_start_end": false,
        "mm_use_im_patch_token": false,
        "config": {
            "use_cluster": true,
            "freeze": false,
            "mm_tune": true,
            "vision_tune": false,
            "spatial_cluster_rate0": 64,
            "spatial_cluster_rate1": 32,
            "spatial_cluster_rate2": 16,
            "temporal_cluster_rate": 0.0625,
        },
    });
    let Some(config) = config.as_object_mut() else {
        return;
    };
    for (key, value) in published.as_object().into_iter().flatten() {
        let is_ours = [
            "architectures",
            "model_type",
            "mm_hidden_size",
            "mm_projector_type",
        ];
        if is_ours.contains(&&**key) {
            config.insert(key.clone(), value.clone());
            continue;
        }
        let other = beside
            .and_then(|beside| beside.get(key))
            .filter(|value| !value.is_null());
        let own = config.get(key).filter(|value| !value.is_null()).cloned();
        let value = own
            .or_else(|| other.cloned())
            .unwrap_or_else(|| value.clone());
        config.insert(key.clone(), value);
    }
}
