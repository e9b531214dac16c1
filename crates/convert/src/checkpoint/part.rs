//! What becomes a GGUF file: metadata, and tensors that are read row by row.

use std::ops::Range;

use univi::{
    Error, Result,
    gguf::{GgmlType, Metadata, QuantizationPlan},
};

use super::{
    files::Files,
    stored::{Dtype, Stored},
    tensor_reader::{Span, TensorReader},
};
use crate::{TensorSpec, Writer, quantize_weighted};

/// One side of a model on its way into GGUF files.
pub struct CheckpointPart<'a> {
    /// What the file will say about itself, but for how the tensors are stored:
    /// [`CheckpointPart::plan`] adds that.
    pub metadata: Metadata,
    /// The tensors in the order of the file.
    pub tensors: Vec<CheckpointTensor>,
    /// Tensors of a vision tower that no feature depends on. They stay out of GGUF files, and go
    /// along where a checkpoint is written again, so that its layers count alike.
    pub unused: Vec<CheckpointTensor>,
    pub(super) kind: Kind,
    pub(super) files: &'a dyn Files,
    /// Those of the vision tower beside the checkpoint.
    pub(super) beside: Option<&'a dyn Files>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Llm { heads_per_kv: usize },
    Vision,
}

/// A tensor of a checkpoint, as it will stand in a GGUF file.
///
/// ```text
/// reader(rows) -> bytes of its span, in order -> StoredRows -> encode -> bytes of the GGUF file
/// ```
#[derive(Debug, Clone)]
pub struct CheckpointTensor {
    /// The name in the file.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// The name in the checkpoint.
    pub source: String,
    /// Whether it lies in the folder of a vision tower beside the checkpoint.
    pub is_beside: bool,
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

    /// Rows that change places among each other alone.
    fn unit(self) -> usize {
        match self {
            RowOrder::Same => 1,
            RowOrder::RotaryPairs { head_dim } => head_dim.max(1),
        }
    }
}

/// Numbers of a batch of rows: enough that a thread is worth it, few enough that many threads have
/// some.
const BATCH_NUMBERS: usize = 1 << 18;

impl CheckpointTensor {
    /// Finds numbers of `stored` for a tensor of `shape`, which may have fewer rows.
    pub(super) fn new(
        name: String,
        shape: Vec<usize>,
        source: &str,
        stored: &Stored,
        order: RowOrder,
    ) -> Result<CheckpointTensor> {
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

    /// Returns the bytes of a row in the checkpoint.
    fn row_bytes(&self) -> u64 {
        (self.cols() * (self.stored.dtype.bits() / 8)) as u64
    }

    /// Returns the name of the file that the tensor's numbers are in.
    pub fn file(&self) -> &str {
        &self.stored.file
    }

    /// Returns the bytes of the tensor's numbers in the checkpoint.
    pub fn stored_bytes(&self) -> u64 {
        self.rows() as u64 * self.row_bytes()
    }

    /// Returns what reads all rows: the bytes that it needs, and batches of rows out of them.
    pub fn reader(&self) -> TensorReader {
        self.reader_of(0..self.rows())
    }

    /// Returns where the bytes of all rows are, with whatever has to be read along with them.
    pub fn span(&self) -> Span {
        self.reader().span().clone()
    }

    /// Rows whose ends are where rows stop changing places.
    fn reader_of(&self, rows: Range<usize>) -> TensorReader {
        let unit = self.order.unit();
        let units = BATCH_NUMBERS / (self.cols().max(1) * unit);
        TensorReader::new(&self.stored, rows, self.row_bytes(), units.max(1) * unit)
    }

    /// Returns the numbers of `rows` as the reader hands them out, in the order of the file.
    fn decode(&self, rows: &Range<usize>, bytes: &[u8]) -> Vec<f32> {
        let stored = self.stored.dtype.decode(bytes);
        if self.order == RowOrder::Same {
            return stored;
        }
        let cols = self.cols();
        let mut values = Vec::with_capacity(stored.len());
        for row in rows.clone() {
            let at = (self.order.stored_row(row) - rows.start) * cols;
            values.extend_from_slice(&stored[at..at + cols]);
        }
        values
    }

    /// Returns the numbers of some rows.
    pub(super) fn read(&self, files: &dyn Files, rows: Range<usize>) -> Result<Vec<f32>> {
        let unit = self.order.unit();
        let whole = rows.start / unit * unit..rows.end.next_multiple_of(unit).min(self.rows());
        let first = whole.start;
        let mut values = Vec::with_capacity(whole.len() * self.cols());
        self.reader_of(whole).read(files, &mut |batch| {
            values.extend(self.decode(&batch.rows, &batch.bytes));
            Ok(())
        })?;
        values.truncate((rows.end - first) * self.cols());
        values.drain(..(rows.start - first) * self.cols());
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

    /// Returns rows that the reader handed out as they will stand in the file; `importance` is how
    /// much each column matters, where it is known.
    ///
    /// # Errors
    /// `BadFile` for numbers that `ty` can't hold; `BadRequest` where `bytes` are not those of
    /// `rows`, or `rows` not whole heads of a tensor whose heads are turned.
    pub fn encode(
        &self,
        ty: GgmlType,
        importance: Option<&[f32]>,
        rows: Range<usize>,
        bytes: &[u8],
    ) -> Result<Vec<u8>> {
        let unit = self.order.unit();
        let is_whole = rows.end <= self.rows()
            && rows.start.is_multiple_of(unit)
            && rows.end.is_multiple_of(unit)
            && bytes.len() as u64 == rows.len() as u64 * self.row_bytes();
        if !is_whole {
            return Err(Error::BadRequest {
                reason: format!(
                    "tensor {}: {} bytes for rows {rows:?}",
                    self.name,
                    bytes.len()
                ),
            });
        }
        self.quantize(ty, importance, &self.decode(&rows, bytes))
    }

    fn quantize(
        &self,
        ty: GgmlType,
        importance: Option<&[f32]>,
        values: &[f32],
    ) -> Result<Vec<u8>> {
        quantize_weighted(ty, values, importance).map_err(|e| match e {
            Error::BadFile { format, reason } => Error::BadFile {
                format,
                reason: format!("tensor {}: {reason}", self.name),
            },
            other => other,
        })
    }
}

impl CheckpointPart<'_> {
    /// Returns the numbers of some rows of one of the part's tensors.
    ///
    /// # Errors
    /// As [`Files::read`], named with the file; `BadFile` where the bytes are not those of their
    /// checksum.
    pub fn read(&self, tensor: &CheckpointTensor, rows: Range<usize>) -> Result<Vec<f32>> {
        let files = match self.beside {
            Some(beside) if tensor.is_beside => beside,
            _ => self.files,
        };
        tensor.read(files, rows)
    }

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
    /// As [`CheckpointPart::read`], [`CheckpointTensor::encode`] and [`Writer`].
    pub fn to_gguf(&self, plan: QuantizationPlan) -> Result<Vec<u8>> {
        let (metadata, specs) = self.plan(plan);
        let mut writer = Writer::new(Vec::new(), &metadata, &specs)?;
        for (tensor, spec) in self.tensors.iter().zip(&specs) {
            let values = self.read(tensor, 0..tensor.rows())?;
            writer.write(&tensor.quantize(spec.ty, None, &values)?)?;
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
