//! The tensors of a checkpoint on their way into a model: checked against what the configuration
//! calls for as soon as a header names them, before any of their bytes are fetched.

use std::collections::HashMap;

use crate::{Backend, Error, Result, gguf::GgmlType};

/// A tensor that a model calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// The name in GGUF files.
    pub name: String,
    /// Outermost dimension first. One dimension is a vector, more are a matrix of `shape[0]` rows.
    pub shape: Vec<usize>,
    /// Whether the model can do without.
    pub optional: bool,
}

impl ExpectedTensor {
    pub(super) fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> ExpectedTensor {
        ExpectedTensor {
            name: name.into(),
            shape: shape.into(),
            optional: false,
        }
    }

    pub(super) fn optional(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
    ) -> ExpectedTensor {
        ExpectedTensor {
            optional: true,
            ..ExpectedTensor::new(name, shape)
        }
    }
}

/// The tensors that a model is made of, as far as they have arrived.
pub struct Weights<B: Backend> {
    backend: B,
    specs: HashMap<String, ExpectedTensor>,
    arrived: HashMap<String, Arrived<B>>,
}

enum Arrived<B: Backend> {
    /// Norms and biases are small: they wait here as bytes, and become f32.
    Vector(GgmlType, Vec<u8>),
    /// With the length of what is stored.
    Matrix(B::Matrix, usize),
    /// A vector that somebody computes with already.
    Tensor(B::Tensor),
}

/// What is read back at a time.
const READ_BACK_BYTES: usize = 1 << 22;

impl<B: Backend> Weights<B> {
    /// Makes the table of tensors, none of which has arrived.
    pub fn new(backend: B, specs: Vec<ExpectedTensor>) -> Weights<B> {
        let specs = specs
            .into_iter()
            .map(|spec| (spec.name.clone(), spec))
            .collect();
        Weights {
            backend,
            specs,
            arrived: HashMap::new(),
        }
    }

    /// Makes room for a tensor, `shape` with the outermost dimension first. False where the model
    /// has no use for a tensor of this name: its bytes may be skipped.
    ///
    /// # Errors
    /// `WrongShape`; `BadFile` for a second tensor of this name; `OutOfMemory`.
    pub fn begin(&mut self, name: &str, ty: GgmlType, shape: &[usize]) -> Result<bool> {
        let Some(spec) = self.specs.get(name) else {
            return Ok(false);
        };
        check_shape(spec, shape)?;
        let cols: usize = shape[1..].iter().product();
        let room = match shape {
            [len] => Arrived::Vector(ty, vec![0; ty.row_bytes(*len)?]),
            _ => {
                let matrix = self.backend.alloc_matrix(ty, shape[0], cols)?;
                Arrived::Matrix(matrix, shape[0] * ty.row_bytes(cols)?)
            }
        };
        match self.arrived.insert(name.to_string(), room) {
            None => Ok(true),
            Some(_) => Err(Error::BadFile {
                format: "GGUF",
                reason: format!("tensor {name} occurs twice"),
            }),
        }
    }

    /// Writes bytes of a tensor that has begun; offset and length as [`Backend::write_matrix`]
    /// wants them.
    pub fn write(&mut self, name: &str, offset: usize, bytes: &[u8]) {
        match self.arrived.get_mut(name) {
            Some(Arrived::Vector(_, all)) => {
                all[offset..offset + bytes.len()].copy_from_slice(bytes)
            }
            Some(Arrived::Matrix(matrix, _)) => self.backend.write_matrix(matrix, offset, bytes),
            Some(Arrived::Tensor(_)) => panic!("bytes of a tensor {name} that is there already"),
            None => panic!("bytes of a tensor {name} that has not begun"),
        }
    }

    /// Takes a matrix that somebody computes with already, such as one that learns.
    pub fn put_matrix(&mut self, name: &str, matrix: B::Matrix) {
        self.arrived
            .insert(name.to_string(), Arrived::Matrix(matrix, 0));
    }

    /// Takes a vector `[1, len]` that somebody computes with already.
    pub fn put_vector(&mut self, name: &str, vector: B::Tensor) {
        self.arrived
            .insert(name.to_string(), Arrived::Tensor(vector));
    }

    /// Gives up the room of a tensor, if it has begun.
    pub fn forget(&mut self, name: &str) {
        self.arrived.remove(name);
    }

    /// Reads a matrix back from the device, piece by piece, in order.
    ///
    /// # Errors
    /// As [`Backend::read`].
    pub async fn read_back(&self, name: &str, piece: &mut impl FnMut(&[u8])) -> Result<()> {
        let Some(Arrived::Matrix(matrix, bytes)) = self.arrived.get(name) else {
            return Ok(());
        };
        for offset in (0..*bytes).step_by(READ_BACK_BYTES) {
            let count = READ_BACK_BYTES.min(bytes - offset);
            piece(&self.backend.read_matrix(matrix, offset, count).await?);
        }
        Ok(())
    }

    /// Checks that everything is there which the model can't do without.
    ///
    /// # Errors
    /// `MissingTensor`.
    pub fn check_complete(&self) -> Result<()> {
        let mut missing: Vec<&str> = Vec::new();
        for (name, spec) in &self.specs {
            if !spec.optional && !self.arrived.contains_key(name) {
                missing.push(name);
            }
        }
        // The first by name, so that the same damage always gives the same message.
        match missing.into_iter().min() {
            Some(name) => Err(Error::MissingTensor {
                name: name.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// Takes a matrix out.
    ///
    /// # Errors
    /// `MissingTensor`.
    pub fn matrix(&mut self, name: &str) -> Result<B::Matrix> {
        self.optional_matrix(name)
            .ok_or_else(|| Error::MissingTensor {
                name: name.to_string(),
            })
    }

    /// Takes a matrix out, if it is there.
    pub fn optional_matrix(&mut self, name: &str) -> Option<B::Matrix> {
        match self.arrived.remove(name)? {
            Arrived::Matrix(matrix, _) => Some(matrix),
            Arrived::Vector(..) | Arrived::Tensor(_) => panic!("{name} is a vector"),
        }
    }

    /// Takes a vector out: `[1, len]`.
    ///
    /// # Errors
    /// `MissingTensor`.
    pub fn vector(&mut self, name: &str) -> Result<B::Tensor> {
        if let Some(Arrived::Tensor(vector)) = self.arrived.get(name) {
            let vector = vector.clone();
            self.arrived.remove(name);
            return Ok(vector);
        }
        let values = self.f32s(name).ok_or_else(|| Error::MissingTensor {
            name: name.to_string(),
        })?;
        Ok(self.backend.tensor(&values, values.len()))
    }

    /// Takes a vector's numbers out, if it is there.
    pub fn f32s(&mut self, name: &str) -> Option<Vec<f32>> {
        match self.arrived.remove(name)? {
            Arrived::Vector(ty, bytes) => {
                let mut values = vec![0.; self.specs[name].shape[0]];
                ty.dequantize(&bytes, &mut values);
                Some(values)
            }
            Arrived::Matrix(..) => panic!("{name} is a matrix"),
            Arrived::Tensor(_) => panic!("{name} is on the device"),
        }
    }

    /// Returns what holds the tensors.
    pub fn backend(&self) -> &B {
        &self.backend
    }
}

/// Checks that a tensor has the shape that the model calls for.
///
/// # Errors
/// `WrongShape`.
pub fn check_shape(spec: &ExpectedTensor, found: &[usize]) -> Result<()> {
    if found == spec.shape {
        return Ok(());
    }
    Err(Error::WrongShape {
        name: spec.name.clone(),
        found: found.to_vec(),
        expected: spec.shape.clone(),
    })
}
