//! From numbers to blocks: the opposite of [`GgmlType::dequantize`].
//!
//! Without an importance, the 32-wide types round as ggml's reference code does. For the others the
//! scale of a group is searched: several roundings are tried, and for each the least-squares scale
//! (and minimum) is solved. Candle has a quantizer too, but turns groups of equal positive numbers
//! into zeros.
//!
//! Numbers become the same bytes on every processor, and in WebAssembly.

mod affine;
mod encoder;
mod lanes;
mod pack;
mod plain;
mod scaled;

use std::marker::PhantomData;

use half::{bf16, f16};
use pulp::NullaryFnOnce;

use univi::{Error, Result, gguf::GgmlType};

use self::encoder::Encoder;
use crate::bad;

/// Far more than a block of any type holds, and little enough for the search to compute with.
const LARGEST: f32 = 1e30;

/// Stores whole rows of numbers as `ty`.
///
/// # Errors
/// [`Error::BadRequest`] for rows that are not whole blocks; [`Error::BadFile`] for
/// numbers that the type can't hold (NaN, infinity, too large).
pub fn quantize(ty: GgmlType, values: &[f32]) -> Result<Vec<u8>> {
    quantize_weighted(ty, values, None)
}

/// As [`quantize`], where `importance` is how much each column of the rows matters: errors where it
/// is large are made smaller at the cost of others. `Q8_0`, `Q4_1` and `Q5_1`, and what is not
/// quantized, are the same with it.
///
/// # Errors
/// As [`quantize`]; `BadRequest` where the values are not whole rows of so many columns.
pub fn quantize_weighted(
    ty: GgmlType,
    values: &[f32],
    importance: Option<&[f32]>,
) -> Result<Vec<u8>> {
    if let Some(importance) = importance
        && (importance.is_empty() || !values.len().is_multiple_of(importance.len()))
    {
        return Err(Error::BadRequest {
            reason: format!(
                "{} values are not whole rows of {} columns",
                values.len(),
                importance.len()
            ),
        });
    }
    let mut bytes = vec![0; ty.row_bytes(values.len())?];
    if let Some(at) = values.iter().position(|x| !x.is_finite()) {
        return Err(bad(format!(
            "number {at} to be stored is {}: the checkpoint is damaged",
            values[at]
        )));
    }
    let too_large = |at| bad(format!("numbers near {at} are too large for {ty}: use f32"));
    if ty.is_quantized()
        && let Some(at) = values.iter().position(|x| x.abs() > LARGEST)
    {
        return Err(too_large(at));
    }
    let to = &mut bytes;
    match ty {
        GgmlType::F32 => fill(to, values, f32::to_le_bytes),
        GgmlType::F16 => fill(to, values, |x| f16::from_f32(x).to_le_bytes()),
        GgmlType::BF16 => fill(to, values, |x| bf16::from_f32(x).to_le_bytes()),
        GgmlType::Q4_0 if importance.is_some() => encode(scaled::Q4_0, values, importance, to),
        GgmlType::Q5_0 if importance.is_some() => encode(scaled::Q5_0, values, importance, to),
        GgmlType::Q4_0 => encode(plain::Q4_0, values, importance, to),
        GgmlType::Q4_1 => encode(plain::Q4_1, values, importance, to),
        GgmlType::Q5_0 => encode(plain::Q5_0, values, importance, to),
        GgmlType::Q5_1 => encode(plain::Q5_1, values, importance, to),
        GgmlType::Q8_0 => encode(plain::Q8_0, values, importance, to),
        GgmlType::Q2K => encode(affine::Q2K, values, importance, to),
        GgmlType::Q3K => encode(scaled::Q3K, values, importance, to),
        GgmlType::Q4K => encode(affine::Q4K, values, importance, to),
        GgmlType::Q5K => encode(affine::Q5K, values, importance, to),
        GgmlType::Q6K => encode(scaled::Q6K, values, importance, to),
        GgmlType::Iq4Nl => encode(scaled::Iq4Nl, values, importance, to),
        GgmlType::Iq4Xs => encode(scaled::Iq4Xs, values, importance, to),
    }
    match ty.first_not_finite(&bytes) {
        None => Ok(bytes),
        Some(block) => Err(too_large(block * ty.block_len())),
    }
}

/// Writes each number by itself.
fn fill<const BYTES: usize>(to: &mut [u8], values: &[f32], bytes: impl Fn(f32) -> [u8; BYTES]) {
    for (to, x) in to.as_chunks_mut().0.iter_mut().zip(values) {
        *to = bytes(*x);
    }
}

/// Encodes whole blocks. Zeros follow the last numbers, where they are fewer than are encoded at
/// once.
fn encode<E: Encoder<NUMBERS, BYTES>, const NUMBERS: usize, const BYTES: usize>(
    _: E,
    values: &[f32],
    importance: Option<&[f32]>,
    to: &mut Vec<u8>,
) {
    let bytes = to.len();
    let mut padded = Vec::new();
    let mut values = values;
    if !values.len().is_multiple_of(NUMBERS) {
        padded.extend_from_slice(values);
        padded.resize(values.len().next_multiple_of(NUMBERS), 0.);
        values = &padded;
        to.resize(values.len() / NUMBERS * BYTES, 0);
    }
    run(Work {
        encoder: PhantomData::<E>,
        values,
        importance,
        to,
    });
    to.truncate(bytes);
}

/// Runs work in vectors of eight where the processor has them; else in those that all processors of
/// its kind have, and WebAssembly.
fn run(work: impl NullaryFnOnce<Output = ()>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(work);
    }
    work.call();
}

/// Work that is compiled for several processors. Neither a closure nor a function that is passed
/// along would be inlined into what is compiled so.
struct Work<'a, E, const NUMBERS: usize, const BYTES: usize> {
    encoder: PhantomData<E>,
    values: &'a [f32],
    /// Of each column.
    importance: Option<&'a [f32]>,
    to: &'a mut [u8],
}

impl<E, const NUMBERS: usize, const BYTES: usize> NullaryFnOnce for Work<'_, E, NUMBERS, BYTES>
where
    E: Encoder<NUMBERS, BYTES>,
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (blocks, _) = self.to.as_chunks_mut();
        let mut columns = self.importance.map(|importance| importance.iter().cycle());
        let mut importance = [0.; NUMBERS];
        for (x, b) in self.values.as_chunks().0.iter().zip(blocks) {
            if let Some(columns) = &mut columns {
                for (to, from) in importance.iter_mut().zip(columns) {
                    *to = *from;
                }
            }
            E::encode(x, columns.is_some().then_some(&importance), b);
        }
    }
}
