//! llama.cpp's importance matrices: how much each column of a matrix matters, as the mean square of
//! the activations that it was multiplied with.
//!
//! Both forms are read: GGUF, and the one before it, which has neither a mark nor a version.

use std::{collections::BTreeMap, sync::Arc};

use univi::{
    Error, Result,
    gguf::{GgmlType, Header, MAGIC, parse},
};

/// Longer than that of any model of the family.
pub const MAX_IMPORTANCE_BYTES: u64 = 256 << 20;

/// Longer than the name of any tensor.
const MAX_NAME_BYTES: usize = 256;

/// How much each column of each matrix matters.
#[derive(Debug, Clone, Default)]
pub struct ImportanceMatrix {
    /// By the names of matrices.
    entries: BTreeMap<String, Arc<[f32]>>,
}

fn bad(reason: impl Into<String>) -> Error {
    Error::BadFile {
        format: "importance matrix",
        reason: reason.into(),
    }
}

impl ImportanceMatrix {
    /// Reads a file.
    ///
    /// # Errors
    /// `BadFile` for anything else, and for numbers that are none, or below 0.
    pub fn parse(bytes: &[u8]) -> Result<ImportanceMatrix> {
        let entries = match bytes.starts_with(MAGIC) {
            true => of_gguf(bytes)?,
            false => of_legacy(bytes)?,
        };
        if entries.is_empty() {
            return Err(bad("has no entries"));
        }
        for (name, importance) in &entries {
            if !importance.iter().all(|x| x.is_finite() && *x >= 0.) {
                return Err(bad(format!("{name} has numbers that are no mean squares")));
            }
        }
        Ok(ImportanceMatrix { entries })
    }

    /// Returns the number of matrices.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the names of the matrices.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Returns the importance of each column of a matrix, where it is known.
    ///
    /// # Errors
    /// `BadRequest` where it has another number of columns.
    pub fn of(&self, name: &str, cols: usize) -> Result<Option<Arc<[f32]>>> {
        match self.entries.get(name) {
            Some(found) if found.len() != cols => Err(Error::BadRequest {
                reason: format!(
                    "the importance matrix has {} columns for {name}, which has {cols}: it is of \
                     another model",
                    found.len()
                ),
            }),
            found => Ok(found.cloned()),
        }
    }
}

/// `NAME.in_sum2` has the sums of squares, `NAME.counts` of how many.
fn of_gguf(bytes: &[u8]) -> Result<BTreeMap<String, Arc<[f32]>>> {
    let header = parse(bytes)?;
    if header.metadata.opt_str("general.type")? != Some("imatrix") {
        return Err(bad("is a GGUF file, but of another kind"));
    }
    let mut entries = BTreeMap::new();
    for tensor in &header.tensors {
        let Some(name) = tensor.name.strip_suffix(".in_sum2") else {
            continue;
        };
        let sums = f32s(bytes, &header, &tensor.name)?;
        let counts = f32s(bytes, &header, &format!("{name}.counts"))?;
        // Experts of a mixture have a count each.
        let [count] = counts[..] else {
            return Err(bad(format!("{name} has {} counts, not one", counts.len())));
        };
        // What was never used says nothing.
        if count > 0. {
            entries.insert(
                name.to_string(),
                sums.iter().map(|sum| sum / count).collect(),
            );
        }
    }
    Ok(entries)
}

/// The numbers of a tensor.
fn f32s(bytes: &[u8], header: &Header, name: &str) -> Result<Vec<f32>> {
    let tensor = header.tensors.iter().find(|tensor| tensor.name == name);
    let tensor = tensor.ok_or_else(|| bad(format!("{name} is missing")))?;
    if tensor.ty != GgmlType::F32 {
        return Err(bad(format!("{name} is {}, not F32", tensor.ty)));
    }
    let data = usize::try_from(tensor.offset).ok();
    let data = data.and_then(|offset| bytes.get(offset..)?.get(..tensor.bytes as usize));
    let data = data.ok_or_else(|| bad(format!("ends before {name} does")))?;
    Ok(numbers(data))
}

fn numbers(data: &[u8]) -> Vec<f32> {
    let (numbers, _) = data.as_chunks();
    numbers
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

/// `n` entries of `length, name, calls, n, means of squares * calls`, all numbers of 32 bits. What
/// follows them is about the text that it was made with.
fn of_legacy(bytes: &[u8]) -> Result<BTreeMap<String, Arc<[f32]>>> {
    let mut rest = Rest(bytes);
    let mut entries = BTreeMap::new();
    for _ in 0..rest.length()? {
        let length = rest.length()?;
        if length == 0 || length > MAX_NAME_BYTES {
            return Err(bad(format!("has a name of {length} bytes, or is none")));
        }
        let name = std::str::from_utf8(rest.take(length)?);
        let name = name.map_err(|_| bad("has a name that is no text, or is none"))?;
        let calls = rest.length()?;
        let cols = rest.length()?;
        let data = rest.take(cols.saturating_mul(4))?;
        let calls = if calls == 0 { 1. } else { calls as f32 };
        let means = numbers(data).iter().map(|x| x / calls).collect();
        if entries.insert(name.to_string(), means).is_some() {
            return Err(bad(format!("has {name} twice")));
        }
    }
    Ok(entries)
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let split = self.0.split_at_checked(count);
        let (taken, rest) = split.ok_or_else(|| bad("ends too early, or is none"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number that counts something.
    fn length(&mut self) -> Result<usize> {
        let bytes = self.take(4)?;
        let number = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        usize::try_from(number).map_err(|_| bad(format!("counts {number}, or is none")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TensorSpec, Writer};
    use univi::gguf::Metadata;

    fn legacy(entries: &[(&str, i32, &[f32])]) -> Vec<u8> {
        let mut file = (entries.len() as i32).to_le_bytes().to_vec();
        for (name, calls, sums) in entries {
            file.extend((name.len() as i32).to_le_bytes());
            file.extend(name.as_bytes());
            file.extend(calls.to_le_bytes());
            file.extend((sums.len() as i32).to_le_bytes());
            file.extend(sums.iter().flat_map(|x| x.to_le_bytes()));
        }
        // The number of chunks, and the name of the text.
        file.extend([7, 0, 0, 0, 1, 0, 0, 0, b'a']);
        file
    }

    fn gguf(kind: &str, tensors: &[(&str, &[f32])]) -> Vec<u8> {
        let metadata: Metadata = [("general.type", kind)].into_iter().collect();
        let specs: Vec<TensorSpec> = tensors
            .iter()
            .map(|(name, numbers)| TensorSpec {
                name: name.to_string(),
                ty: GgmlType::F32,
                shape: vec![1, numbers.len()],
            })
            .collect();
        let mut writer = Writer::new(Vec::new(), &metadata, &specs).unwrap();
        for (_, numbers) in tensors {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            writer.write(&bytes).unwrap();
        }
        writer.finish().unwrap()
    }

    fn fails(file: &[u8], says: &str) {
        let error = ImportanceMatrix::parse(file).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn both_forms_say_the_same() {
        let old = legacy(&[("a.weight", 2, &[2., 4., 8.]), ("b.weight", 1, &[1.])]);
        let new = gguf(
            "imatrix",
            &[
                ("a.weight.in_sum2", &[10., 20., 40.]),
                ("a.weight.counts", &[10.]),
                ("b.weight.in_sum2", &[3.]),
                ("b.weight.counts", &[3.]),
                ("c.weight.in_sum2", &[0.]),
                ("c.weight.counts", &[0.]),
            ],
        );
        for file in [old, new] {
            let matrix = ImportanceMatrix::parse(&file).unwrap();
            assert_eq!(matrix.names().collect::<Vec<_>>(), ["a.weight", "b.weight"]);
            assert_eq!(matrix.of("a.weight", 3).unwrap().unwrap()[..], [1., 2., 4.]);
            assert!(matrix.of("c.weight", 3).unwrap().is_none());
            let error = matrix.of("a.weight", 4).unwrap_err();
            assert_eq!(error.code(), "bad-request");
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let whole = legacy(&[("a.weight", 1, &[1., 2.])]);
        // What follows the entries is not read.
        for end in 0..whole.len() - 9 {
            assert!(ImportanceMatrix::parse(&whole[..end]).is_err(), "{end}");
        }
        fails(&legacy(&[]), "no entries");
        fails(&legacy(&[("a", 1, &[f32::NAN])]), "no mean squares");
        fails(&legacy(&[("a", 1, &[-1.])]), "no mean squares");
        fails(&legacy(&[("a", 1, &[1.]), ("a", 1, &[1.])]), "twice");
        fails(&legacy(&[("a", -1, &[1.])]), "counts -1");
        fails(b"{ \"a\": 1 }", "or is none");
        // Lengths that no file has.
        let mut huge = legacy(&[("a.weight", 1, &[1., 2.])]);
        huge[..4].copy_from_slice(&i32::MAX.to_le_bytes());
        assert!(ImportanceMatrix::parse(&huge).is_err());
        huge[4..8].copy_from_slice(&i32::MAX.to_le_bytes());
        assert!(ImportanceMatrix::parse(&huge).is_err());

        let sums: (&str, &[f32]) = ("a.in_sum2", &[1.]);
        fails(&gguf("model", &[sums]), "of another kind");
        fails(&gguf("imatrix", &[sums]), "a.counts is missing");
        fails(
            &gguf("imatrix", &[sums, ("a.counts", &[1., 2.])]),
            "2 counts",
        );
    }
}
