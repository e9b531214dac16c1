//! Loops over sixteen numbers, which compilers turn into the vectors of any processor.

use std::array::from_fn;

use super::vectors::{LANES, Simd, half};

/// Instructions of any processor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

impl Simd for Portable {
    type F32s = [f32; LANES];
    type Bytes = [u8; LANES];

    const TILE_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; LANES] {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> [f32; LANES] {
        *x
    }

    #[inline(always)]
    fn store(self, x: [f32; LANES], to: &mut [f32; LANES]) {
        *to = x;
    }

    #[inline(always)]
    fn add(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn sum(self, x: [f32; LANES]) -> f32 {
        x.iter().sum()
    }

    #[inline(always)]
    fn transpose(self, from: &[[f32; LANES]; LANES], to: &mut [[f32; LANES]; LANES]) {
        for (i, to) in to.iter_mut().enumerate() {
            *to = from_fn(|j| from[j][i]);
        }
    }

    #[inline(always)]
    fn halves(self, bytes: &[u8; 2 * LANES]) -> [f32; LANES] {
        from_fn(|i| half(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])))
    }

    #[inline(always)]
    fn brain_floats(self, bytes: &[u8; 2 * LANES]) -> [f32; LANES] {
        from_fn(|i| f32::from_le_bytes([0, 0, bytes[2 * i], bytes[2 * i + 1]]))
    }

    #[inline(always)]
    fn bytes(self, bytes: &[u8; LANES]) -> [u8; LANES] {
        *bytes
    }

    #[inline(always)]
    fn field(self, x: [u8; LANES], shift: u32, mask: u8) -> [u8; LANES] {
        x.map(|x| x >> shift & mask)
    }

    #[inline(always)]
    fn shift_left(self, x: [u8; LANES], shift: u32) -> [u8; LANES] {
        x.map(|x| x << shift)
    }

    #[inline(always)]
    fn or(self, a: [u8; LANES], b: [u8; LANES]) -> [u8; LANES] {
        from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn sub(self, x: [u8; LANES], y: u8) -> [u8; LANES] {
        x.map(|x| x.wrapping_sub(y))
    }

    #[inline(always)]
    fn where_set(self, bits: u16, value: u8) -> [u8; LANES] {
        from_fn(|i| if bits >> i & 1 == 1 { value } else { 0 })
    }

    #[inline(always)]
    fn look_up(self, table: &[i8; LANES], x: [u8; LANES]) -> [u8; LANES] {
        x.map(|x| table[usize::from(x & 15)] as u8)
    }

    #[inline(always)]
    fn widen(self, x: [u8; LANES]) -> [f32; LANES] {
        x.map(|x| f32::from(x as i8))
    }

    #[inline(always)]
    fn widen_unsigned(self, x: [u8; LANES]) -> [f32; LANES] {
        x.map(f32::from)
    }
}
