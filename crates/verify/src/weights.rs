//! Weights of a model that a checkpoint holds.

use univi::{
    Backend, Result,
    gguf::GgmlType,
    model::{ExpectedTensor, Weights},
};
use univi_convert::checkpoint::{CheckpointPart, CheckpointTensor};

/// The tensors of a side of a checkpoint, in f32.
pub(crate) fn weights_of_part<B: Backend>(
    backend: &B,
    part: &CheckpointPart<'_>,
) -> Result<Weights<B>> {
    let wanted = |tensor: &CheckpointTensor| ExpectedTensor {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        optional: false,
    };
    let mut weights = Weights::new(backend.clone(), part.tensors.iter().map(wanted).collect());
    for tensor in &part.tensors {
        weights.begin(&tensor.name, GgmlType::F32, &tensor.shape)?;
        let values = part.read(tensor, 0..tensor.rows())?;
        weights.write(&tensor.name, 0, bytemuck::cast_slice(&values));
    }
    Ok(weights)
}
