//! WebAssembly's vectors of 128 bits.

use std::arch::wasm32::*;

use bytemuck::cast;

use super::vectors::{LANES, Simd};

/// The instructions that this module was compiled for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Simd128;

impl Simd for Simd128 {
    type F32s = [v128; 4];
    type Bytes = v128;

    const TILE_ROWS: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> [v128; 4] {
        [f32x4_splat(x); 4]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> [v128; 4] {
        cast(*x)
    }

    #[inline(always)]
    fn store(self, x: [v128; 4], to: &mut [f32; LANES]) {
        *to = cast(x);
    }

    #[inline(always)]
    fn add(self, a: [v128; 4], b: [v128; 4]) -> [v128; 4] {
        each(
            #[inline(always)]
            |i| f32x4_add(a[i], b[i]),
        )
    }

    #[inline(always)]
    fn mul(self, a: [v128; 4], b: [v128; 4]) -> [v128; 4] {
        each(
            #[inline(always)]
            |i| f32x4_mul(a[i], b[i]),
        )
    }

    #[inline(always)]
    fn mul_add(self, a: [v128; 4], b: [v128; 4], c: [v128; 4]) -> [v128; 4] {
        each(
            #[inline(always)]
            |i| f32x4_add(f32x4_mul(a[i], b[i]), c[i]),
        )
    }

    #[inline(always)]
    fn sum(self, [a, b, c, d]: [v128; 4]) -> f32 {
        let x: [f32; 4] = cast(f32x4_add(f32x4_add(a, b), f32x4_add(c, d)));
        (x[0] + x[1]) + (x[2] + x[3])
    }

    #[inline(always)]
    fn transpose(self, from: &[[f32; LANES]; LANES], to: &mut [[f32; LANES]; LANES]) {
        let from: &[[v128; 4]; LANES] = &cast(*from);
        let mut columns = [[f32x4_splat(0.); 4]; LANES];
        for row in 0..4 {
            for column in 0..4 {
                let x = each(
                    #[inline(always)]
                    |i| from[row * 4 + i][column],
                );
                let low = [
                    i32x4_shuffle::<0, 4, 1, 5>(x[0], x[1]),
                    i32x4_shuffle::<0, 4, 1, 5>(x[2], x[3]),
                ];
                let high = [
                    i32x4_shuffle::<2, 6, 3, 7>(x[0], x[1]),
                    i32x4_shuffle::<2, 6, 3, 7>(x[2], x[3]),
                ];
                columns[column * 4][row] = i64x2_shuffle::<0, 2>(low[0], low[1]);
                columns[column * 4 + 1][row] = i64x2_shuffle::<1, 3>(low[0], low[1]);
                columns[column * 4 + 2][row] = i64x2_shuffle::<0, 2>(high[0], high[1]);
                columns[column * 4 + 3][row] = i64x2_shuffle::<1, 3>(high[0], high[1]);
            }
        }
        *to = cast(columns);
    }

    #[inline(always)]
    fn halves(self, bytes: &[u8; 2 * LANES]) -> [v128; 4] {
        let bits = four_u16s(cast(*bytes));
        each(
            #[inline(always)]
            |i| half(bits[i]),
        )
    }

    #[inline(always)]
    fn brain_floats(self, bytes: &[u8; 2 * LANES]) -> [v128; 4] {
        let bits = four_u16s(cast(*bytes));
        each(
            #[inline(always)]
            |i| u32x4_shl(bits[i], 16),
        )
    }

    #[inline(always)]
    fn bytes(self, bytes: &[u8; LANES]) -> v128 {
        cast(*bytes)
    }

    #[inline(always)]
    fn field(self, x: v128, shift: u32, mask: u8) -> v128 {
        v128_and(u16x8_shr(x, shift), u8x16_splat(mask))
    }

    #[inline(always)]
    fn shift_left(self, x: v128, shift: u32) -> v128 {
        u16x8_shl(x, shift)
    }

    #[inline(always)]
    fn or(self, a: v128, b: v128) -> v128 {
        v128_or(a, b)
    }

    #[inline(always)]
    fn sub(self, x: v128, y: u8) -> v128 {
        i8x16_sub(x, u8x16_splat(y))
    }

    #[inline(always)]
    fn where_set(self, bits: u16, value: u8) -> v128 {
        let bits = u8x16_swizzle(
            u16x8_splat(bits),
            i8x16(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
        );
        let bit = u8x16(1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128);
        v128_and(u8x16_eq(v128_and(bits, bit), bit), u8x16_splat(value))
    }

    #[inline(always)]
    fn look_up(self, table: &[i8; LANES], x: v128) -> v128 {
        u8x16_swizzle(cast(*table), x)
    }

    #[inline(always)]
    fn widen(self, x: v128) -> [v128; 4] {
        let (low, high) = (i16x8_extend_low_i8x16(x), i16x8_extend_high_i8x16(x));
        [
            f32x4_convert_i32x4(i32x4_extend_low_i16x8(low)),
            f32x4_convert_i32x4(i32x4_extend_high_i16x8(low)),
            f32x4_convert_i32x4(i32x4_extend_low_i16x8(high)),
            f32x4_convert_i32x4(i32x4_extend_high_i16x8(high)),
        ]
    }

    #[inline(always)]
    fn widen_unsigned(self, x: v128) -> [v128; 4] {
        let x = four_u16s([u16x8_extend_low_u8x16(x), u16x8_extend_high_u8x16(x)]);
        each(
            #[inline(always)]
            |i| f32x4_convert_i32x4(x[i]),
        )
    }
}

#[inline(always)]
fn each(f: impl Fn(usize) -> v128) -> [v128; 4] {
    [f(0), f(1), f(2), f(3)]
}

/// Sixteen u16 as u32.
#[inline(always)]
fn four_u16s(x: [v128; 2]) -> [v128; 4] {
    [
        u32x4_extend_low_u16x8(x[0]),
        u32x4_extend_high_u16x8(x[0]),
        u32x4_extend_low_u16x8(x[1]),
        u32x4_extend_high_u16x8(x[1]),
    ]
}

/// Four halves, as [`super::vectors::half`] has one.
#[inline(always)]
fn half(bits: v128) -> v128 {
    let magnitude = u32x4_shl(v128_and(bits, u32x4_splat(0x7fff)), 13);
    let exponent = v128_and(bits, u32x4_splat(0x7c00));
    let fraction = v128_and(bits, u32x4_splat(0x3ff));
    let normal = u32x4_add(magnitude, u32x4_splat(112 << 23));
    let subnormal = f32x4_mul(f32x4_convert_u32x4(fraction), f32x4_splat(1. / 16_777_216.));
    let infinite = v128_or(magnitude, u32x4_splat(0x7f80_0000));
    let is = |value| u32x4_eq(exponent, u32x4_splat(value));
    let finite = v128_bitselect(subnormal, normal, is(0));
    let magnitude = v128_bitselect(infinite, finite, is(0x7c00));
    v128_or(
        magnitude,
        u32x4_shl(v128_and(bits, u32x4_splat(0x8000)), 16),
    )
}
