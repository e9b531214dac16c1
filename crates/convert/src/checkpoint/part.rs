//! What becomes a GGUF file: metadata, and tensors that are read row by row.

use std::ops::Range;

use univi::{
    Error, Result,
    gguf::{GgmlType, Metadata, QuantizationPlan},
};

use super::{
    files::Files,
    stored::{Dtype, Stored},
};
use crate::{TensorSpec, Writer, quantize};

/// One side of a model on its way into GGUF files.
pub struct CheckpointPart<'a> {
    /// What the file will say about itself, but for how the tensors are stored:
    /// [`CheckpointPart::plan`] adds that.
    pub metadata: Metadata,
    /// The tensors in the order of the file.
    pub tensors: Vec<CheckpointTensor<'a>>,
    /// Tensors of a vision tower that no feature depends on. They stay out of GGUF files, and go
    /// along where a checkpoint is written again, so that its layers count alike.
    pub unused: Vec<CheckpointTensor<'a>>,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Llm { heads_per_kv: usize },
    Vision,
}

/// A tensor of a checkpoint, as it will stand in a GGUF file.
#[derive(Clone)]
pub struct CheckpointTensor<'a> {
    /// The name in the file.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// The name in the checkpoint.
    pub source: String,
    /// Whether it lies in the folder of a vision tower beside the checkpoint.
    pub is_beside: bool,
    pub(super) files: &'a dyn Files,
    pub(super) stored: Stored,
    pub(super) order: RowOrder,
}

/// Which stored row a row of the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowOrder {
    Same,
    /// Hugging Face keeps the two halves of a head's rotary pairs apart; GGUF has the numbers of a
    /// pair side by side.
    RotaryPairs {
        head_dim: usize,
    },
}

impl RowOrder {
    fn stored_row(self, row: usize) -> usize {
        match self {
            RowOrder::Same => row,
            RowOrder::RotaryPairs { head_dim } => {
                let (head, i) = (row / head_dim, row % head_dim);
                head * head_dim + i % 2 * (head_dim / 2) + i / 2
            }
        }
    }
}

impl<'a> CheckpointTensor<'a> {
    /// Finds numbers of `stored` for a tensor of `shape`, which may have fewer rows.
    pub(super) fn new(
        name: String,
        shape: Vec<usize>,
        files: &'a dyn Files,
        source: &str,
        stored: &Stored,
        order: RowOrder,
    ) -> Result<CheckpointTensor<'a>> {
        if let Dtype::Other { name: found, .. } = &stored.dtype {
            return Err(Error::UnsupportedType {
                name: source.to_string(),
                found: found.clone(),
                supported: "F16, BF16, F32, F64".into(),
            });
        }
        let same_rows =
            stored.shape.len() == shape.len() && stored.shape.get(1..) == shape.get(1..);
        if !same_rows || stored.shape.first() < shape.first() {
            return Err(Error::WrongShape {
                name: source.to_string(),
                found: stored.shape.clone(),
                expected: shape,
            });
        }
        Ok(CheckpointTensor {
            name,
            shape,
            source: source.to_string(),
            is_beside: false,
            files,
            stored: stored.clone(),
            order,
        })
    }

    /// Returns the number of rows: 1 for a vector or a single number.
    pub fn rows(&self) -> usize {
        match self.shape[..] {
            [] | [_] => 1,
            [rows, ..] => rows,
        }
    }

    /// Returns how many numbers a row has.
    pub fn cols(&self) -> usize {
        match &self.shape[..] {
            [] => 1,
            [cols] => *cols,
            [_, row @ ..] => row.iter().product(),
        }
    }

    /// Returns the type of the numbers in the checkpoint: `F16`, `BF16`, `F32` or `F64`.
    pub fn stored_type(&self) -> &str {
        match &self.stored.dtype {
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::F32 => "F32",
            Dtype::F64 => "F64",
            Dtype::Other { name, .. } => name,
        }
    }

    /// Returns the numbers of some rows.
    ///
    /// # Errors
    /// As [`Files::read`], named with the file.
    pub fn read(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let cols = self.cols();
        let mut values = Vec::with_capacity(rows.len() * cols);
        let read = |first, count, out: &mut Vec<f32>| {
            self.stored
                .read(self.files, first, count, out)
                .map_err(|e| e.in_file(&*self.stored.file))
        };
        if self.order == RowOrder::Same {
            read(rows.start * cols, rows.len() * cols, &mut values)?;
        } else {
            for row in rows {
                read(self.order.stored_row(row) * cols, cols, &mut values)?;
            }
        }
        Ok(values)
    }

    /// Returns the numbers of the whole tensor, as they will stand in the file, in the order of the
    /// checkpoint: the way back.
    ///
    /// # Panics
    /// Where there are not as many as the tensor has.
    pub fn in_stored_order(&self, values: &[f32]) -> Vec<f32> {
        let cols = self.cols();
        assert_eq!(values.len(), self.rows() * cols, "numbers of {}", self.name);
        let mut stored = vec![0.; values.len()];
        for (row, values) in values.chunks_exact(cols.max(1)).enumerate() {
            let at = self.order.stored_row(row) * cols;
            stored[at..at + cols].copy_from_slice(values);
        }
        stored
    }

    /// Returns some rows as they will stand in the file.
    ///
    /// # Errors
    /// As [`CheckpointTensor::read`]; `BadFile` for numbers that `ty` can't hold.
    pub fn encode(&self, ty: GgmlType, rows: Range<usize>) -> Result<Vec<u8>> {
        quantize(ty, &self.read(rows)?).map_err(|e| match e {
            Error::BadFile { format, reason } => Error::BadFile {
                format,
                reason: format!("tensor {}: {reason}", self.name),
            },
            other => other,
        })
    }
}

impl CheckpointPart<'_> {
    /// Returns how the file will be: its metadata, and the tensors with their types.
    pub fn plan(&self, plan: QuantizationPlan) -> (Metadata, Vec<TensorSpec>) {
        let shapes: Vec<(&str, &[usize])> =
            self.tensors.iter().map(|t| (&*t.name, &*t.shape)).collect();
        let types = match self.kind {
            Kind::Llm { heads_per_kv } => plan.llm_types(&shapes, heads_per_kv),
            Kind::Vision => plan.vision_types(&shapes),
        };
        let mut metadata = self.metadata.clone();
        metadata.insert("general.file_type", plan.file_type());
        metadata.insert("general.quantization_version", 2u32);
        let specs = shapes
            .iter()
            .zip(types)
            .map(|(&(name, shape), ty)| TensorSpec {
                name: name.to_string(),
                ty,
                shape: shape.to_vec(),
            });
        (metadata, specs.collect())
    }

    /// Returns the whole part as one GGUF file in memory: for small models.
    ///
    /// # Errors
    /// As [`CheckpointTensor::encode`] and [`Writer`].
    pub fn to_gguf(&self, plan: QuantizationPlan) -> Result<Vec<u8>> {
        let (metadata, specs) = self.plan(plan);
        let mut writer = Writer::new(Vec::new(), &metadata, &specs)?;
        for (tensor, spec) in self.tensors.iter().zip(&specs) {
            writer.write(&tensor.encode(spec.ty, 0..tensor.rows())?)?;
        }
        writer.finish()
    }

    /// Numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors
            .iter()
            .map(|t| (t.rows() * t.cols()) as u64)
            .sum()
    }
}
