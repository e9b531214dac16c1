//! What was learned, back in the files of a checkpoint.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use univi::{Error, Result};
use univi_convert::checkpoint::{CheckpointPart, CheckpointTensor};

use crate::parameters::Parameters;

/// Files of a folder, by name.
pub type Folder = BTreeMap<String, Vec<u8>>;

/// Shapes and numbers, by the names of a checkpoint.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The file that holds a checkpoint's tensors.
pub const WEIGHTS_NAME: &str = "model.safetensors";

/// The tensors of a part that are among `parameters`, by their names in the checkpoint that it was
/// read from, in its order of rows.
///
/// # Errors
/// `Gpu` where the device fails.
pub fn tensors(part: &CheckpointPart, parameters: &Parameters) -> Result<Tensors> {
    let mut tensors = Tensors::new();
    for tensor in &part.tensors {
        if parameters.has(&tensor.name) {
            let values = tensor.in_stored_order(&parameters.f32s(&tensor.name)?);
            tensors.insert(tensor.source.clone(), (tensor.shape.clone(), values));
        }
    }
    Ok(tensors)
}

/// The tensors of a part that nothing depends on, by their names in the checkpoint: they go along
/// unchanged, since layers are counted by what is stored.
///
/// # Errors
/// As [`CheckpointTensor::read`].
pub fn unused(part: &CheckpointPart) -> Result<Tensors> {
    let one = |tensor: &CheckpointTensor| {
        let numbers = tensor.read(0..tensor.rows())?;
        Ok((tensor.source.clone(), (tensor.shape.clone(), numbers)))
    };
    part.unused.iter().map(one).collect()
}

/// Writes the weights of a folder, in f32: they may go on learning.
///
/// # Errors
/// `Io` where they can't be written down.
pub fn write(folder: &mut Folder, tensors: &Tensors) -> Result<()> {
    let views = tensors.iter().map(|(name, (shape, values))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
        (name.clone(), view.expect("as many bytes as numbers"))
    });
    let about = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    let bytes = safetensors::serialize(views, Some(about.into_iter().collect()));
    let bytes = bytes.map_err(|e| Error::Io {
        reason: e.to_string(),
    })?;
    folder.insert(WEIGHTS_NAME.into(), bytes);
    Ok(())
}

/// Replaces those tensors of a folder's weights that are given.
///
/// # Errors
/// `BadFile` where the folder has no weights of [`write`]'s.
pub fn update(folder: &mut Folder, tensors: &Tensors) -> Result<()> {
    let bad = |reason: String| {
        Error::BadFile {
            format: "safetensors",
            reason,
        }
        .in_file(WEIGHTS_NAME)
    };
    let mut all = Tensors::new();
    if let Some(bytes) = folder.get(WEIGHTS_NAME) {
        let file = SafeTensors::deserialize(bytes).map_err(|e| bad(e.to_string()))?;
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(bad(format!("{name} is not f32")));
            }
            let values = match tensors.get(&name) {
                Some((_, values)) => values.clone(),
                None => bytemuck::pod_collect_to_vec(view.data()),
            };
            all.insert(name, (view.shape().to_vec(), values));
        }
    }
    write(folder, &all)
}
