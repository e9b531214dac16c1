//! Other ways from features to visual tokens, to compare merging with (arXiv 2311.08046, section
//! 4.3).

use candle_core::{D, Tensor};
use univi::{
    Backend, Result,
    config::VisionConfig,
    model::{projector::Projector, projector::tensors},
};

use crate::{
    autograd::Autograd,
    parameters::{Parameters, candle},
};

/// How features become visual tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Merged, as inference does it, in whatever way the model's configuration says.
    Model,
    /// The tokens of the finest stage of merging alone.
    Finest,
    /// The means of so many rows and columns of the picture.
    Pooled {
        /// Rows of means.
        rows: usize,
        /// Columns of means.
        cols: usize,
    },
    /// So many learned queries, each looking at all patches.
    Queries {
        /// How many.
        count: usize,
    },
}

/// Equal parts of a clip that readers which don't find events look at, each as the mean of its
/// frames.
const PARTS: usize = 4;

impl Reader {
    /// Returns the parameters that the reader itself learns, knowing nothing.
    ///
    /// # Errors
    /// `Gpu` where there is no room.
    pub fn parameters(
        self,
        config: &VisionConfig,
        values: &mut dyn FnMut() -> f32,
    ) -> Result<Parameters> {
        let mut parameters = Parameters::default();
        if let Reader::Queries { count } = self {
            let width = config.clip.width;
            let queries = (0..count * width).map(|_| values()).collect();
            parameters.insert(
                "query.weight",
                [count, width],
                queries,
                &candle_core::Device::Cpu,
            )?;
        }
        Ok(parameters)
    }

    /// `features [frames * patches, c]` -> embeddings `[tokens, width]`, as inference does not.
    ///
    /// # Panics
    /// For the readers that are inference's own.
    pub fn read(
        self,
        b: &Autograd,
        features: &Tensor,
        config: &VisionConfig,
        parameters: &Parameters,
        learns: fn(&str) -> bool,
    ) -> Result<Tensor> {
        let patches = config.clip.patches();
        let frames = b.shape(features)[0] / patches;
        let parts = if frames == 1 { 1 } else { PARTS.min(frames) };
        let mut tokens = Vec::new();
        for part in 0..parts {
            let (start, end) = (part * frames / parts, (part + 1) * frames / parts);
            let part = b.slice(features, start * patches..end * patches);
            let mean = || part.reshape((end - start, patches, part.dim(1)?))?.mean(0);
            let x = mean().map_err(candle)?; // [patches, c]
            tokens.push(
                self.read_one(b, &x, config.clip.grid(), parameters, learns)
                    .map_err(candle)?,
            );
        }
        let tokens = b.concat(&tokens.iter().collect::<Vec<_>>());
        let wanted = tensors(config.projector, config.clip.width, config.width);
        let mut weights = parameters.weights(b, wanted, learns);
        Ok(Projector::new(&mut weights, config.projector)?.forward(&tokens))
    }

    fn read_one(
        self,
        b: &Autograd,
        x: &Tensor,
        grid: usize,
        parameters: &Parameters,
        learns: fn(&str) -> bool,
    ) -> candle_core::Result<Tensor> {
        match self {
            Reader::Pooled { rows, cols } => {
                // A matrix that averages, with windows that overlap where the grid does not divide.
                let window = |i: usize, n: usize| i * grid / n..((i + 1) * grid).div_ceil(n);
                let mut mean = vec![0f32; rows * cols * grid * grid];
                for (i, mean) in mean.chunks_exact_mut(grid * grid).enumerate() {
                    let (ys, xs) = (window(i / cols, rows), window(i % cols, cols));
                    for y in ys.clone() {
                        for x in xs.clone() {
                            mean[y * grid + x] = 1. / (ys.len() * xs.len()) as f32;
                        }
                    }
                }
                b.tensor(&mean, grid * grid).matmul(x)
            }
            Reader::Queries { .. } => {
                let var = parameters.var("query.weight");
                let queries = if learns("query.weight") {
                    var.as_tensor().clone()
                } else {
                    var.as_detached_tensor()
                };
                let scores = (queries.matmul(&x.t()?)? * (x.dim(1)? as f64).powf(-0.5))?;
                let exp = scores
                    .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
                    .exp()?;
                let weights = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?;
                weights.matmul(x)
            }
            Reader::Model | Reader::Finest => panic!("inference reads these"),
        }
    }
}
