//! From visual tokens to the embeddings that the language model reads.

use super::weights::{ExpectedTensor, Weights};
use crate::{Backend, Result, backend::Activation, config::ProjectorConfig};

/// Linear layers with a GELU between two; none at all for the identity.
pub struct Projector<B: Backend> {
    backend: B,
    layers: Vec<(B::Matrix, B::Tensor)>,
}

/// Returns the tensors of a projector from `visual` to `width` channels.
pub fn tensors(config: ProjectorConfig, visual: usize, width: usize) -> Vec<ExpectedTensor> {
    let layer = |i: usize| {
        let weight =
            ExpectedTensor::new(weight_name(i), [width, if i == 0 { visual } else { width }]);
        [weight, ExpectedTensor::new(bias_name(i), [width])]
    };
    (0..layers(config)).flat_map(layer).collect()
}

fn layers(config: ProjectorConfig) -> usize {
    match config {
        ProjectorConfig::Identity => 0,
        ProjectorConfig::Mlp { layers } => layers,
    }
}

/// The layers are numbered as in the sequence of modules they come from, where each GELU counts
/// too.
fn weight_name(layer: usize) -> String {
    format!("mm.{}.weight", 2 * layer)
}

fn bias_name(layer: usize) -> String {
    format!("mm.{}.bias", 2 * layer)
}

impl<B: Backend> Projector<B> {
    /// Takes the projector out of `weights`.
    ///
    /// # Errors
    /// `MissingTensor`.
    pub fn new(weights: &mut Weights<B>, config: ProjectorConfig) -> Result<Projector<B>> {
        let backend = weights.backend().clone();
        let layer = |i| {
            Ok((
                weights.matrix(&weight_name(i))?,
                weights.vector(&bias_name(i))?,
            ))
        };
        Ok(Projector {
            backend,
            layers: (0..layers(config)).map(layer).collect::<Result<_>>()?,
        })
    }

    /// Projects tokens: `x: [tokens, visual]` -> `[tokens, width]`.
    pub fn forward(&self, x: &B::Tensor) -> B::Tensor {
        let b = &self.backend;
        let mut x = x.clone();
        for (i, (weight, bias)) in self.layers.iter().enumerate() {
            if i > 0 {
                x = b.activate(&x, Activation::Gelu);
            }
            x = b.add(&b.matmul(&x, weight), bias);
        }
        x
    }
}
