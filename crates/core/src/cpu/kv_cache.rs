//! Keys and values of one layer, as a cache keeps them.

use candle_core::{DType, Device, Tensor};

use super::values::{done, f32s};
use crate::{
    Error, Result,
    backend::{KV_BLOCK, KvType, kv_capacity},
};

/// Bytes of a block of [`KvType::Q8`]: its scale, a f32, then its numbers.
const Q8_BYTES: usize = 4 + KV_BLOCK;
/// What a number farthest from zero becomes.
const Q8_MOST: f32 = 127.;
/// A block of numbers no larger than this is zero: its scale would lose its precision, or be
/// nothing.
const Q8_NOTHING: f32 = 1e-30;

/// Keys and values of one layer.
#[derive(Debug)]
pub struct KvCache {
    ty: KvType,
    width: usize,
    most: usize,
    /// `[capacity, width]` of f32, or `[capacity, bytes]` of blocks.
    keys: Tensor,
    values: Tensor,
    /// What was appended last, if at position 0: still tied to what it was computed from.
    first: Option<(Tensor, Tensor)>,
}

impl KvCache {
    pub(super) fn new(width: usize, most: usize, ty: KvType) -> KvCache {
        KvCache {
            ty,
            width,
            most,
            keys: rows(ty, width, 0),
            values: rows(ty, width, 0),
            first: None,
        }
    }

    fn capacity(&self) -> usize {
        done(self.keys.dim(0))
    }

    pub(super) fn reserve(&mut self, positions: usize) -> Result<()> {
        assert!(positions <= self.most, "{positions} of {}", self.most);
        let held = self.capacity();
        if positions > held {
            *self = KvCache {
                first: self.first.take(),
                ..self.copy(held, kv_capacity(positions, self.most))?
            };
        }
        Ok(())
    }

    /// A cache of `capacity` positions that holds the first `len` of this one.
    fn copy(&self, len: usize, capacity: usize) -> Result<KvCache> {
        let &KvCache {
            ty, width, most, ..
        } = self;
        check_room(ty, width, capacity)?;
        let copy = |from: &Tensor| {
            let to = rows(ty, width, capacity);
            if len > 0 {
                done(
                    from.narrow(0, 0, len)
                        .and_then(|from| to.slice_set(&from, 0, 0)),
                );
            }
            to
        };
        Ok(KvCache {
            ty,
            width,
            most,
            keys: copy(&self.keys),
            values: copy(&self.values),
            first: None,
        })
    }

    /// The first `len` positions of this cache in one of its own.
    pub(super) fn fork(&self, len: usize) -> Result<KvCache> {
        match len {
            0 => Ok(KvCache::new(self.width, self.most, self.ty)),
            len => self.copy(len, kv_capacity(len, self.most)),
        }
    }

    pub(super) fn append(&mut self, pos: usize, k: &Tensor, v: &Tensor) -> candle_core::Result<()> {
        self.keys.slice_set(&stored(self.ty, k)?, 0, pos)?;
        self.values.slice_set(&stored(self.ty, v)?, 0, pos)?;
        // Rounded numbers have no gradient, and are what is to be seen.
        let exact = pos == 0 && self.ty == KvType::F32;
        self.first = exact.then(|| (k.clone(), v.clone()));
        Ok(())
    }

    /// Keys and values `[len, width]` of positions `..len`; with `from_start` those that were
    /// appended at position 0 last, gradients and all.
    pub(super) fn seen(
        &self,
        len: usize,
        from_start: bool,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        if let Some(first) = self.first.as_ref().filter(|_| from_start) {
            return Ok(first.clone());
        }
        let dequantize = |rows: &Tensor| dequantize(self.ty, self.width, &rows.narrow(0, 0, len)?);
        Ok((dequantize(&self.keys)?, dequantize(&self.values)?))
    }
}

/// That keys and values can be had: where they can't, allocating them would end the program.
fn check_room(ty: KvType, width: usize, capacity: usize) -> Result<()> {
    let needed_bytes = ty
        .bytes(width as u64)
        .saturating_mul(capacity as u64)
        .saturating_mul(2);
    let room = usize::try_from(needed_bytes)
        .is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
    if room {
        return Ok(());
    }
    Err(Error::OutOfMemory {
        what: format!("the KV cache of a layer for {capacity} tokens"),
        needed_bytes,
        limit_bytes: 0,
    })
}

/// Room for `capacity` rows.
fn rows(ty: KvType, width: usize, capacity: usize) -> Tensor {
    let (cols, dtype) = match ty {
        KvType::F32 => (width, DType::F32),
        KvType::Q8 => (width.div_ceil(KV_BLOCK) * Q8_BYTES, DType::U8),
    };
    done(Tensor::zeros((capacity, cols), dtype, &Device::Cpu))
}

/// `x: [t, width]` as rows of a cache.
fn stored(ty: KvType, x: &Tensor) -> candle_core::Result<Tensor> {
    if ty == KvType::F32 {
        return x.contiguous();
    }
    let (t, width) = x.dims2()?;
    let mut bytes = Vec::with_capacity(t * width.div_ceil(KV_BLOCK) * Q8_BYTES);
    for row in f32s(x)?.chunks_exact(width) {
        row.chunks(KV_BLOCK)
            .for_each(|block| bytes.extend(to_q8(block)));
    }
    let cols = bytes.len() / t.max(1);
    Tensor::from_vec(bytes, (t, cols), &Device::Cpu)
}

/// The opposite of [`stored`].
fn dequantize(ty: KvType, width: usize, rows: &Tensor) -> candle_core::Result<Tensor> {
    if ty == KvType::F32 {
        return Ok(rows.clone());
    }
    let (t, cols) = rows.dims2()?;
    let bytes = rows.flatten_all()?.to_vec1::<u8>()?;
    let mut x = vec![0.; t * width];
    for (x, row) in x.chunks_exact_mut(width).zip(bytes.chunks_exact(cols)) {
        for (x, block) in x.chunks_mut(KV_BLOCK).zip(row.chunks_exact(Q8_BYTES)) {
            from_q8(block, x);
        }
    }
    Tensor::from_vec(x, (t, width), &Device::Cpu)
}

/// A block, filled up with zeros.
fn to_q8(x: &[f32]) -> [u8; Q8_BYTES] {
    let largest = x.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let mut block = [0; Q8_BYTES];
    if largest > Q8_NOTHING {
        let (scale, quants) = block.split_at_mut(4);
        scale.copy_from_slice(&(largest / Q8_MOST).to_le_bytes());
        for (quant, x) in quants.iter_mut().zip(x) {
            *quant = (x * (Q8_MOST / largest)).round_ties_even() as i8 as u8;
        }
    }
    block
}

fn from_q8(block: &[u8], x: &mut [f32]) {
    let (scale, quants) = block.split_at(4);
    let scale = f32::from_le_bytes(scale.try_into().expect("four bytes"));
    for (x, &quant) in x.iter_mut().zip(quants) {
        *x = f32::from(quant as i8) * scale;
    }
}
