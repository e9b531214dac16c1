//! From what the user chose to a device and a model, with a word on stderr about both.

use std::{fs::File, io::Read, path::Path};

use univi::{
    Backend, Device, Error, Model, ModelFiles, OpenDevice, Result, VisionEncoder,
    gguf::{Header, Parser},
    loader::{LoadOptions, Loader},
};

use crate::{
    files, hub, out,
    progress::{Progress, Unit},
};

/// Opens the device; says on stderr why it is the CPU where the choice was free.
///
/// # Errors
/// As [`Device::open`].
pub async fn device(choice: Device) -> Result<OpenDevice> {
    let device = choice.open().await?;
    if let Some(why) = device.why_not_gpu() {
        out::note(&format!("using the CPU: {why}"));
    }
    Ok(device)
}

/// Finds the files of the model at `path`. One of the Hub is downloaded into the cache, unless it
/// is there.
///
/// # Errors
/// As [`ModelFiles::find`] and [`hub::model_path`]; an address of the web is named without its
/// secrets.
pub fn find(path: &Path) -> Result<ModelFiles> {
    let path = hub::model_path(path)?;
    files::metadata(&path)?;
    ModelFiles::find(path)
}

/// Loads the model at `path`.
///
/// # Errors
/// As [`Model::open`].
pub async fn model(device: &OpenDevice, path: &Path, options: &LoadOptions) -> Result<Model> {
    let files = find(path)?;
    let mut progress = loading(&files);
    let mut on_progress = |now: univi::loader::Progress| progress.set(now.done_bytes);
    Model::open_files(device, &files, options, &mut on_progress).await
}

/// Loads the vision encoder of the model at `path`, and nothing else.
///
/// # Errors
/// As [`VisionEncoder::open_files`].
pub async fn vision(device: &OpenDevice, path: &Path) -> Result<VisionEncoder> {
    let files = find(path)?;
    let mut progress = loading(&files);
    let mut on_progress = |now: univi::loader::Progress| progress.set(now.done_bytes);
    VisionEncoder::open_files(device, &files, &mut on_progress).await
}

/// Reads the files of a model into the loader of a backend that is none of the library's.
///
/// # Errors
/// As [`ModelFiles::read`], and whatever is wrong inside a file, named with it.
pub fn loader<B: Backend>(backend: B, files: &ModelFiles) -> Result<Loader<B>> {
    loader_until(backend, files, loading(files), &|| false)
}

/// The same with a progress of its own, until `stop` says otherwise.
///
/// # Errors
/// As [`loader`]; `Aborted`.
pub fn loader_until<B: Backend>(
    backend: B,
    files: &ModelFiles,
    mut progress: Progress,
    stop: &dyn Fn() -> bool,
) -> Result<Loader<B>> {
    let mut loader = Loader::new(backend, files.files.clone())?;
    files.read(&mut |chunk| match chunk {
        Some(_) if stop() => Err(Error::Aborted),
        Some(bytes) => {
            loader.push(bytes)?;
            progress.set(loader.progress().done_bytes);
            Ok(())
        }
        None => loader.end_file(),
    })?;
    Ok(loader)
}

/// Reads the header of a GGUF file; what stands behind it is not read.
///
/// # Errors
/// `Io`, or what is wrong in the file, named with it.
pub fn header(path: &Path) -> Result<Header> {
    let in_file = |e: univi::Error| e.in_file(files::name(path));
    let bytes = files::metadata(path)?.len();
    let mut file = File::open(path).map_err(|e| files::io_error(path, &e))?;
    let mut parser = Parser::for_file_of(bytes);
    let mut chunk = vec![0; 1 << 20];
    loop {
        let n = file
            .read(&mut chunk)
            .map_err(|e| files::io_error(path, &e))?;
        if n == 0 {
            return parser.finish().map_err(in_file);
        }
        parser.push(&chunk[..n], &mut |_| Ok(())).map_err(in_file)?;
        if let Some(header) = parser.header() {
            return Ok(header.clone());
        }
    }
}

fn loading(files: &ModelFiles) -> Progress {
    Progress::new("loading the model", Unit::Bytes, files.bytes())
}
