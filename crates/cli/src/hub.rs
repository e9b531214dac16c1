//! Checkpoints and models on the Hub: `hf:OWNER/NAME[@REVISION][/FILE]` wherever a path is taken.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use univi::{
    Error, ModelFiles, Result,
    loader::ModelFile,
    manifest::{MANIFEST_NAME, Manifest},
};
use univi_convert::Origin;
use univi_convert::checkpoint::{Checkpoint, Files, Span};
use univi_hub::{Hub, HubAddress, HubSettings, RemoteFile, Repository};

use crate::{
    checkpoint_folder::Folder,
    files, out,
    progress::{Progress, Unit, bytes as bytes_text},
    pull::Source,
};

/// Files that are kept in memory: what describes a checkpoint is read more than once.
const MAX_KEPT_BYTES: u64 = 64 << 20;

/// Returns the address that a path is, `None` for one of the disk.
///
/// # Errors
/// `BadRequest` for an address that makes no sense.
pub fn address(path: &Path) -> Result<Option<HubAddress>> {
    match path.to_str() {
        Some(text) if HubAddress::is_address(text) => HubAddress::parse(text).map(Some),
        _ => Ok(None),
    }
}

/// Asks the Hub for a repository.
///
/// # Errors
/// As [`Repository::open`].
pub fn open(address: &HubAddress) -> Result<Repository> {
    let hub = Hub::new(HubSettings::from_env()?)?.on_wait(out::note);
    Repository::open(Arc::new(hub), address)
}

/// A checkpoint on the Hub. What is in the cache is read there; nothing else is written to the
/// disk.
pub struct HubFolder {
    repository: Repository,
    /// The files that are in the cache.
    cached: Option<Folder>,
    kept: Mutex<HashMap<String, Arc<Vec<u8>>>>,
}

impl HubFolder {
    /// Takes a repository for a checkpoint's.
    pub fn new(repository: Repository) -> HubFolder {
        HubFolder {
            cached: Folder::open(&repository.snapshot()).ok(),
            repository,
            kept: Mutex::default(),
        }
    }

    fn file(&self, name: &str) -> Result<&RemoteFile> {
        let missing = || {
            let reason = "is not in the repository".into();
            Error::Io { reason }.in_file(self.repository.name_of(name))
        };
        self.repository.file(name).ok_or_else(missing)
    }

    fn cached(&self, file: &RemoteFile) -> Option<&Folder> {
        let is_cached = self.cached.is_some() && self.repository.is_cached(file);
        self.cached.as_ref().filter(|_| is_cached)
    }
}

impl Files for HubFolder {
    fn len(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.repository.file(name).map(|file| file.bytes))
    }

    fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        let file = self.file(name)?;
        if let Some(cached) = self.cached(file) {
            return cached.read(name, offset, out);
        }
        if (offset, out.len() as u64) == (0, file.bytes) && file.bytes <= MAX_KEPT_BYTES {
            let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
            let bytes = match kept.get(name) {
                Some(bytes) => bytes.clone(),
                None => {
                    let bytes = Arc::new(self.repository.read_whole(file)?);
                    kept.insert(name.to_string(), bytes.clone());
                    bytes
                }
            };
            out.copy_from_slice(&bytes);
            return Ok(());
        }
        let (len, mut at) = (out.len() as u64, 0);
        self.repository.read(file, offset, len, &mut |bytes| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
            Ok(())
        })
    }
}

impl Source for HubFolder {
    fn stream(&self, span: &Span, on_bytes: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let file = self.file(&span.file)?;
        match self.cached(file) {
            Some(cached) => cached.stream(span, on_bytes),
            None => self.repository.read(file, span.offset, span.len, on_bytes),
        }
    }

    fn stamp(&self, file: &str) -> Result<String> {
        Ok(format!("{} {file}", self.repository.commit()))
    }

    fn explain(&self, error: Error) -> Error {
        match error {
            Error::In { file, source } if self.repository.file(&file).is_some() => {
                source.in_file(self.repository.name_of(&file))
            }
            error @ (Error::In { .. } | Error::Aborted | Error::BadRequest { .. }) => error,
            error => error.in_file(self.place()),
        }
    }

    fn model_name(&self) -> Result<String> {
        Ok(self.repository.address().name().to_string())
    }

    fn place(&self) -> String {
        self.repository.address().to_string()
    }

    fn folder(&self) -> Option<&Path> {
        None
    }

    fn origin(&self) -> Option<Origin> {
        Some(Origin {
            repository: self.repository.address().repository.clone(),
            commit: self.repository.commit().to_string(),
        })
    }

    /// A tower inside the checkpoint needs no other one: nothing is asked for.
    fn tower_of(&self, checkpoint: &Checkpoint<'_>) -> Result<Option<Arc<dyn Source>>> {
        let named = checkpoint.tower_name().filter(|_| !checkpoint.has_tower());
        let address = named.and_then(|name| HubAddress::parse(&format!("hf:{name}")).ok());
        match address {
            Some(address) => open_checkpoint(&address).map(Some),
            None => Ok(None),
        }
    }
}

/// Opens a checkpoint: a folder of the disk, or a repository of the Hub.
///
/// # Errors
/// As [`Folder::open`] and [`Repository::open`]; `BadRequest` for a file of the Hub.
pub fn checkpoint(path: &Path) -> Result<Arc<dyn Source>> {
    match address(path)? {
        None => Ok(Arc::new(Folder::open(path)?)),
        Some(address) => open_checkpoint(&address),
    }
}

fn open_checkpoint(address: &HubAddress) -> Result<Arc<dyn Source>> {
    let refuse = |reason: &str| {
        let reason = reason.into();
        Err(Error::BadRequest { reason }.in_file(address.to_string()))
    };
    if address.path.is_some() {
        return refuse("is a file, expected the repository of a checkpoint");
    }
    let settings = HubSettings::from_env()?;
    if !settings.is_offline {
        return Ok(Arc::new(HubFolder::new(open(address)?)));
    }
    match settings.cached(address) {
        Some(folder) => Ok(Arc::new(Folder::open(&folder)?.named(address.name()))),
        None => refuse("is not in the cache, and HF_HUB_OFFLINE is set: unset it"),
    }
}

/// Returns where a model is on the disk: a path as it is; a model of the Hub in the cache, where it
/// is downloaded to unless it is there.
///
/// # Errors
/// As [`Repository::open`] and [`Repository::download`]; `BadRequest` where the repository holds no
/// model that runs, or there is not enough room.
pub fn model_path(path: &Path) -> Result<Cow<'_, Path>> {
    let Some(address) = address(path)? else {
        return Ok(Cow::Borrowed(path));
    };
    let settings = HubSettings::from_env()?;
    let cached = cached_model(&settings, &address);
    let is_commit =
        |revision: &String| revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
    // Nothing of a commit can have changed.
    if let Some(path) = &cached
        && (settings.is_offline || address.revision.as_ref().is_some_and(is_commit))
    {
        return Ok(Cow::Owned(path.clone()));
    }
    if settings.is_offline {
        let reason = "is not in the cache, and HF_HUB_OFFLINE is set: unset it to download the \
                      model"
            .into();
        return Err(Error::BadRequest { reason }.in_file(address.to_string()));
    }
    match (open(&address), cached) {
        (Ok(repository), _) => download_model(&repository).map(Cow::Owned),
        (Err(error), Some(path)) => {
            out::note(&format!("{error}; using what is in the cache"));
            Ok(Cow::Owned(path))
        }
        (Err(error), None) => Err(error),
    }
}

/// A model that is in the cache as a whole.
fn cached_model(settings: &HubSettings, address: &HubAddress) -> Option<PathBuf> {
    let mut path = settings.cached(address)?;
    path.extend(address.path.as_deref());
    ModelFiles::find(&path).is_ok().then_some(path)
}

fn download_model(repository: &Repository) -> Result<PathBuf> {
    let address = repository.address();
    let refuse = |reason: String| Err(Error::BadRequest { reason }.in_file(address.to_string()));
    let path = address.path.as_deref().unwrap_or_default();
    let mut wanted = Vec::new();
    if path.ends_with(".gguf") {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        for file in ModelFile::set(name) {
            wanted.push(join(folder, &file.name));
        }
    } else {
        let folder = path
            .strip_suffix(MANIFEST_NAME)
            .unwrap_or(path)
            .trim_end_matches('/');
        let manifest_path = join(folder, MANIFEST_NAME);
        let Some(file) = repository.file(&manifest_path) else {
            return refuse(no_model(repository));
        };
        let json = repository.read_whole(file)?;
        let in_file = |e: Error| e.in_file(repository.name_of(&manifest_path));
        let manifest = Manifest::parse(&json).map_err(in_file)?;
        wanted.extend(manifest.files.iter().map(|file| join(folder, &file.path)));
        // Last: what has a manifest is a whole model.
        wanted.push(manifest_path);
    }
    let mut remote = Vec::new();
    for path in &wanted {
        match repository.file(path) {
            Some(file) => remote.push(file),
            None => return refuse(format!("{path} is not in the repository")),
        }
    }
    let bytes = remote.iter().map(|file| file.bytes).sum();
    let missing = remote.iter().filter(|file| !repository.is_cached(file));
    check_room(&repository.snapshot(), missing.map(|file| file.bytes).sum())?;
    let mut progress = Progress::new(format!("downloading {address}"), Unit::Bytes, bytes);
    let mut done = 0;
    for file in remote {
        repository.download(file, &mut counting(&mut progress, done))?;
        done += file.bytes;
    }
    let mut local = repository.snapshot();
    local.extend(address.path.as_deref());
    Ok(local)
}

/// Counts a file's bytes behind those `before`. The first number that it gets is what was there
/// already.
pub fn counting(progress: &mut Progress, before: u64) -> impl FnMut(u64) -> Result<()> {
    let mut is_first = true;
    move |bytes| {
        match std::mem::take(&mut is_first) {
            true => progress.skip_to(before + bytes),
            false => progress.set(before + bytes),
        }
        Ok(())
    }
}

fn join(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_string(),
        folder => format!("{folder}/{name}"),
    }
}

/// What a repository without a manifest is, and what to do.
fn no_model(repository: &Repository) -> String {
    let is_gguf = |file: &&RemoteFile| file.path.ends_with(".gguf");
    let ggufs: Vec<&str> = repository
        .files()
        .filter(is_gguf)
        .map(|file| &*file.path)
        .collect();
    let address = HubAddress {
        path: None,
        ..repository.address().clone()
    };
    match &ggufs[..] {
        [] if repository.file("config.json").is_some() => format!(
            "is a checkpoint: `univi convert {address} --out DIR` makes a model of it, and \
             --model takes DIR"
        ),
        [] => format!("has no {MANIFEST_NAME}: it is no model that `univi convert` made"),
        [first, ..] => format!(
            "has no {MANIFEST_NAME}, but {} GGUF files: name one, such as {address}/{first}",
            ggufs.len()
        ),
    }
}

/// Refuses a download that the disk has no room for.
///
/// # Errors
/// `BadRequest`.
pub fn check_room(folder: &Path, bytes: u64) -> Result<()> {
    let there = folder.ancestors().find(|folder| folder.is_dir());
    // A file system that does not say is no reason to refuse it.
    match fs4::available_space(there.unwrap_or(Path::new("."))) {
        Ok(free) if free < bytes => Err(Error::BadRequest {
            reason: format!(
                "{}: {} are to be downloaded, but {} are free: make room, or name another disk \
                 with HF_HOME",
                files::name(folder),
                bytes_text(bytes),
                bytes_text(free)
            ),
        }),
        _ => Ok(()),
    }
}
