//! What was learned, back in the files of a checkpoint.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    path::Path,
};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, View, tensor::TensorView};
use univi::{Error, Result};
use univi_convert::checkpoint::{CheckpointPart, CheckpointTensor};

pub use univi_convert::checkpoint::Tensors;

use crate::{parameters::Parameters, whole_file};

/// Files of a folder, by name.
pub type Folder = BTreeMap<String, Vec<u8>>;

/// The file that holds a checkpoint's tensors.
pub const WEIGHTS_NAME: &str = "model.safetensors";

/// Returns the tensors of a part that are among `parameters`, by their names in the checkpoint that
/// it was read from, in its order of rows.
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

/// A tensor on its way into a file, read when it is written.
struct Exported<'a> {
    part: &'a CheckpointPart<'a>,
    tensor: &'a CheckpointTensor,
    dtype: Dtype,
    /// What learned, or is to be written as it was.
    parameters: Option<&'a Parameters>,
    failed: &'a RefCell<Option<Error>>,
}

impl Exported<'_> {
    fn bytes(&self) -> Result<Vec<u8>> {
        let CheckpointTensor { name, .. } = self.tensor;
        let numbers = match self.parameters {
            Some(parameters) => parameters.f32s(name)?,
            None => self.part.read(self.tensor, 0..self.tensor.rows())?,
        };
        let numbers = self.tensor.in_stored_order(&numbers);
        let mut bytes = Vec::with_capacity(self.data_len());
        match self.dtype {
            Dtype::F16 => {
                bytes.extend(numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()));
            }
            Dtype::BF16 => {
                bytes.extend(
                    numbers
                        .iter()
                        .flat_map(|&x| bf16::from_f32(x).to_le_bytes()),
                );
            }
            _ => bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes())),
        }
        Ok(bytes)
    }
}

impl View for Exported<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.bytes().unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            vec![0; self.data_len()]
        }))
    }

    fn data_len(&self) -> usize {
        self.tensor.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Writes the tensors of `parts` for which `goes_along` into the file at `path`, whole and one by
/// one: in f32 where `learned` holds for their names, since they may go on learning, else as the
/// checkpoint has them.
///
/// # Errors
/// `Io`; as [`CheckpointPart::read`].
pub fn write_file(
    path: &Path,
    parts: &[&CheckpointPart],
    parameters: &Parameters,
    learned: impl Fn(&str) -> bool,
    goes_along: impl Fn(&CheckpointTensor) -> bool,
) -> Result<()> {
    let failed = RefCell::new(None);
    // What nothing depends on goes along, too: layers are counted by what is stored.
    let tensors = parts.iter().flat_map(|&part| {
        let tensors = part.tensors.iter().chain(&part.unused);
        tensors.map(move |tensor| (part, tensor))
    });
    let tensors = tensors.filter(|(_, tensor)| goes_along(tensor));
    let tensors = tensors.map(|(part, tensor)| {
        let is_learned = learned(&tensor.name) && parameters.has(&tensor.name);
        let dtype = match tensor.stored_type() {
            "F16" if !is_learned => Dtype::F16,
            "BF16" if !is_learned => Dtype::BF16,
            _ => Dtype::F32,
        };
        let exported = Exported {
            part,
            tensor,
            dtype,
            parameters: is_learned.then_some(parameters),
            failed: &failed,
        };
        (tensor.source.clone(), exported)
    });
    let about = HashMap::from([("format".to_string(), "pt".to_string())]);
    let in_file = |reason: String| Error::Io { reason }.in_file(path.display().to_string());
    let fill = |temporary: &Path| {
        let tensors: Vec<_> = tensors.collect();
        let written = safetensors::serialize_to_file(tensors, Some(about), temporary);
        written.map_err(|e| in_file(e.to_string()))?;
        failed.borrow_mut().take().map_or(Ok(()), Err)
    };
    whole_file::write_with(path, fill, |e| in_file(e.to_string()))
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
/// `BadFile` where the folder has no weights of [`write`](fn@write)'s.
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
