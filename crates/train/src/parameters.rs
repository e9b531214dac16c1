//! The numbers that learn, by their names in GGUF files.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use univi::{
    Error, Result,
    model::{ExpectedTensor, Weights},
};
use univi_convert::checkpoint::CheckpointPart;

use crate::autograd::Autograd;

/// Tensors of a model in f32. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    vars: BTreeMap<String, Var>,
}

/// What candle refuses here, the device refuses.
pub(crate) fn candle(error: candle_core::Error) -> Error {
    Error::Gpu {
        reason: error.to_string(),
    }
}

impl Parameters {
    /// Returns all tensors of one side of a checkpoint.
    ///
    /// # Errors
    /// As [`univi_convert::checkpoint::CheckpointPart::read`].
    pub fn read(part: &CheckpointPart, device: &Device) -> Result<Parameters> {
        let mut parameters = Parameters::default();
        for tensor in &part.tensors {
            let values = part.read(tensor, 0..tensor.rows())?;
            parameters.insert(&tensor.name, [tensor.rows(), tensor.cols()], values, device)?;
        }
        Ok(parameters)
    }

    /// Adds or replaces a matrix; a vector is `[1, len]`.
    ///
    /// # Errors
    /// `Gpu` where there is no room on the device.
    pub fn insert(
        &mut self,
        name: &str,
        [rows, cols]: [usize; 2],
        values: Vec<f32>,
        device: &Device,
    ) -> Result<()> {
        let tensor = Tensor::from_vec(values, (rows, cols), device).map_err(candle)?;
        let var = Var::from_tensor(&tensor).map_err(candle)?;
        self.vars.insert(name.to_string(), var);
        Ok(())
    }

    /// These and `others`.
    pub fn join(mut self, others: Parameters) -> Parameters {
        self.vars.extend(others.vars);
        self
    }

    /// Those whose names fit.
    pub fn only(&self, fits: impl Fn(&str) -> bool) -> Parameters {
        let vars = self.vars.iter().filter(|(name, _)| fits(name));
        Parameters {
            vars: vars
                .map(|(name, var)| (name.clone(), var.clone()))
                .collect(),
        }
    }

    /// In order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Var)> {
        self.vars.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// Returns whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.vars.contains_key(name)
    }

    /// Returns a tensor by name, as something that learns.
    ///
    /// # Panics
    /// Where there is none of this name.
    pub fn var(&self, name: &str) -> &Var {
        self.vars
            .get(name)
            .unwrap_or_else(|| panic!("there is no parameter {name}"))
    }

    /// Numbers in all tensors.
    pub fn count(&self) -> usize {
        self.vars.values().map(|var| var.elem_count()).sum()
    }

    /// The numbers of all tensors, by their names.
    ///
    /// # Errors
    /// `Gpu` where the device fails.
    pub(crate) fn snapshot(&self) -> Result<BTreeMap<String, Vec<f32>>> {
        let all = self.iter();
        all.map(|(name, var)| Ok((name.to_string(), f32s(var)?)))
            .collect()
    }

    /// Becomes the mean of what it is and what it was, tensor by tensor of `before`.
    ///
    /// # Errors
    /// `Gpu` where the device fails.
    pub(crate) fn average(&self, before: BTreeMap<String, Vec<f32>>) -> Result<()> {
        for (name, before) in before {
            let var = self.var(&name);
            let mut mean = f32s(var)?;
            for (x, before) in mean.iter_mut().zip(before) {
                *x = 0.5 * (*x + before);
            }
            let mean = Tensor::from_vec(mean, var.shape(), var.device());
            mean.and_then(|mean| var.set(&mean)).map_err(candle)?;
        }
        Ok(())
    }

    /// Returns the tensors that a model wants, those for which `learns` remember what is computed
    /// with them.
    pub fn weights(
        &self,
        backend: &Autograd,
        wanted: Vec<ExpectedTensor>,
        learns: impl Fn(&str) -> bool,
    ) -> Weights<Autograd> {
        let shapes: Vec<(String, usize)> = wanted
            .iter()
            .map(|wanted| (wanted.name.clone(), wanted.shape.len()))
            .collect();
        let mut weights = Weights::new(backend.clone(), wanted);
        for (name, dimensions) in shapes {
            let Some(var) = self.vars.get(&name) else {
                continue;
            };
            let tensor = match learns(&name) {
                true => var.as_tensor().clone(),
                false => var.as_detached_tensor(),
            };
            match dimensions {
                1 => weights.put_vector(&name, tensor),
                _ => weights.put_matrix(&name, tensor),
            }
        }
        weights
    }

    /// Returns the numbers of a tensor.
    ///
    /// # Errors
    /// `Gpu` for a device that is lost.
    pub fn f32s(&self, name: &str) -> Result<Vec<f32>> {
        f32s(self.var(name))
    }
}

/// All numbers, row-major.
pub(crate) fn f32s(x: &Tensor) -> Result<Vec<f32>> {
    let all = || x.flatten_all()?.to_vec1();
    all().map_err(candle)
}
