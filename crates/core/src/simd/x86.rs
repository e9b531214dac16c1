//! AVX2 and AVX-512. What uses instructions is inlined into functions that are compiled for them,
//! by its attribute; closures in `map` or `from_fn` would be called.

use std::arch::x86_64::{__m128i, __m256, __m256i, __m512, _mm_cvtph_ps, _mm256_cvtph_ps};

use bytemuck::cast;

use super::vectors::{LANES, Simd};

pulp::simd_type! {
    /// 256 bits: processors since 2013 (Intel) and 2015 (AMD).
    pub(super) struct Avx2 {
        sse: "sse",
        sse2: "sse2",
        sse4_1: "sse4.1",
        avx: "avx",
        avx2: "avx2",
        fma: "fma",
        f16c: "f16c",
    }

    /// 512 bits.
    pub(super) struct Avx512 {
        sse: "sse",
        sse2: "sse2",
        ssse3: "ssse3",
        avx: "avx",
        avx2: "avx2",
        fma: "fma",
        f16c: "f16c",
        avx512f: "avx512f",
        avx512bw: "avx512bw",
        avx512vl: "avx512vl",
    }
}

/// For each 32-bit lane of a vector of which both halves hold the same sixteen bytes: which of
/// them, from `first` on, becomes its byte `at`. The others become 0.
const fn widening(first: i8, at: usize) -> [i8; 32] {
    let mut order = [-1; 32];
    let mut i = 0;
    while i < 8 {
        order[4 * i + at] = first + i as i8;
        i += 1;
    }
    order
}

impl Simd for Avx2 {
    type F32s = [__m256; 2];
    /// The same sixteen bytes in both halves, so that bytes reach any lane without crossing.
    type Bytes = __m256i;

    const TILE_ROWS: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> [__m256; 2] {
        [self.avx._mm256_set1_ps(x); 2]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> [__m256; 2] {
        cast(*x)
    }

    #[inline(always)]
    fn store(self, x: [__m256; 2], to: &mut [f32; LANES]) {
        *to = cast(x);
    }

    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        [
            self.avx._mm256_add_ps(a[0], b[0]),
            self.avx._mm256_add_ps(a[1], b[1]),
        ]
    }

    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        [
            self.avx._mm256_mul_ps(a[0], b[0]),
            self.avx._mm256_mul_ps(a[1], b[1]),
        ]
    }

    #[inline(always)]
    fn mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        [
            self.fma._mm256_fmadd_ps(a[0], b[0], c[0]),
            self.fma._mm256_fmadd_ps(a[1], b[1], c[1]),
        ]
    }

    #[inline(always)]
    fn sum(self, [a, b]: [__m256; 2]) -> f32 {
        let (avx, sse) = (self.avx, self.sse);
        let x = avx._mm256_add_ps(a, b);
        let x = sse._mm_add_ps(
            avx._mm256_castps256_ps128(x),
            avx._mm256_extractf128_ps::<1>(x),
        );
        let x = sse._mm_add_ps(x, sse._mm_movehl_ps(x, x));
        sse._mm_cvtss_f32(sse._mm_add_ss(x, sse._mm_shuffle_ps::<1>(x, x)))
    }

    #[inline(always)]
    fn transpose(self, from: &[[f32; LANES]; LANES], to: &mut [[f32; LANES]; LANES]) {
        let from: &[[__m256; 2]; LANES] = &cast(*from);
        let to: &mut [[[f32; LANES / 2]; 2]; LANES] = bytemuck::cast_mut(to);
        for rows in 0..2 {
            for columns in 0..2 {
                let mut x = [self.avx._mm256_setzero_ps(); 8];
                for (x, from) in x.iter_mut().zip(&from[8 * rows..]) {
                    *x = from[columns];
                }
                let x = self.transpose_eight(x);
                for (x, to) in x.iter().zip(&mut to[8 * columns..]) {
                    to[rows] = cast(*x);
                }
            }
        }
    }

    #[inline(always)]
    fn half(self, bytes: [u8; 2]) -> f32 {
        let bits = self
            .sse2
            ._mm_cvtsi32_si128(i32::from(u16::from_le_bytes(bytes)));
        // SAFETY: the processor has F16C, or there were no `self`.
        self.sse._mm_cvtss_f32(unsafe { _mm_cvtph_ps(bits) })
    }

    #[inline(always)]
    fn halves(self, bytes: &[u8; 2 * LANES]) -> [__m256; 2] {
        let halves: [__m128i; 2] = cast(*bytes);
        [self.eight_halves(halves[0]), self.eight_halves(halves[1])]
    }

    #[inline(always)]
    fn brain_floats(self, bytes: &[u8; 2 * LANES]) -> [__m256; 2] {
        let halves: [__m128i; 2] = cast(*bytes);
        [
            self.eight_brain_floats(halves[0]),
            self.eight_brain_floats(halves[1]),
        ]
    }

    #[inline(always)]
    fn bytes(self, bytes: &[u8; LANES]) -> __m256i {
        self.avx2._mm256_broadcastsi128_si256(cast(*bytes))
    }

    #[inline(always)]
    fn field(self, x: __m256i, shift: u32, mask: u8) -> __m256i {
        let shift = self.sse2._mm_cvtsi32_si128(shift as i32);
        let shifted = self.avx2._mm256_srl_epi16(x, shift);
        self.avx2
            ._mm256_and_si256(shifted, self.avx._mm256_set1_epi8(mask as i8))
    }

    #[inline(always)]
    fn shift_left(self, x: __m256i, shift: u32) -> __m256i {
        let shift = self.sse2._mm_cvtsi32_si128(shift as i32);
        self.avx2._mm256_sll_epi16(x, shift)
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        self.avx2._mm256_or_si256(a, b)
    }

    #[inline(always)]
    fn sub(self, x: __m256i, y: u8) -> __m256i {
        self.avx2
            ._mm256_sub_epi8(x, self.avx._mm256_set1_epi8(y as i8))
    }

    #[inline(always)]
    fn where_set(self, bits: u16, value: u8) -> __m256i {
        const BYTE: [i8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
        const BIT: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
        let (byte, bit): (__m256i, __m256i) = (cast([BYTE; 2]), cast([BIT; 2]));
        let bits = self.avx._mm256_set1_epi16(bits as i16);
        let bits = self.avx2._mm256_shuffle_epi8(bits, byte);
        let set = self
            .avx2
            ._mm256_cmpeq_epi8(self.avx2._mm256_and_si256(bits, bit), bit);
        self.avx2
            ._mm256_and_si256(set, self.avx._mm256_set1_epi8(value as i8))
    }

    #[inline(always)]
    fn look_up(self, table: &[i8; LANES], x: __m256i) -> __m256i {
        self.avx2
            ._mm256_shuffle_epi8(self.avx2._mm256_broadcastsi128_si256(cast(*table)), x)
    }

    #[inline(always)]
    fn widen(self, x: __m256i) -> [__m256; 2] {
        [
            self.widen_eight(x, const { widening(0, 3) }),
            self.widen_eight(x, const { widening(8, 3) }),
        ]
    }

    #[inline(always)]
    fn widen_unsigned(self, x: __m256i) -> [__m256; 2] {
        let (low, high) = const { (widening(0, 0), widening(8, 0)) };
        let (low, high) = (
            self.avx2._mm256_shuffle_epi8(x, cast(low)),
            self.avx2._mm256_shuffle_epi8(x, cast(high)),
        );
        [
            self.avx._mm256_cvtepi32_ps(low),
            self.avx._mm256_cvtepi32_ps(high),
        ]
    }
}

impl Avx2 {
    /// Eight of sixteen signed bytes, which [`widening`] puts into the highest bits.
    #[inline(always)]
    fn widen_eight(self, x: __m256i, order: [i8; 32]) -> __m256 {
        let bytes = self.avx2._mm256_shuffle_epi8(x, cast(order));
        self.avx
            ._mm256_cvtepi32_ps(self.avx2._mm256_srai_epi32::<24>(bytes))
    }

    #[inline(always)]
    fn eight_halves(self, halves: __m128i) -> __m256 {
        // SAFETY: the processor has F16C, or there were no `self`.
        unsafe { _mm256_cvtph_ps(halves) }
    }

    #[inline(always)]
    fn eight_brain_floats(self, halves: __m128i) -> __m256 {
        let wide = self.avx2._mm256_cvtepu16_epi32(halves);
        cast(self.avx2._mm256_slli_epi32::<16>(wide))
    }

    /// Exchanges rows and columns of eight rows of eight: pairs, fours, then halves of vectors.
    #[inline(always)]
    fn transpose_eight(self, x: [__m256; 8]) -> [__m256; 8] {
        let avx = self.avx;
        let fours = [
            self.transpose_fours(x[0], x[1], x[2], x[3]),
            self.transpose_fours(x[4], x[5], x[6], x[7]),
        ];
        let [low, high] = fours;
        [
            avx._mm256_permute2f128_ps::<0x20>(low[0], high[0]),
            avx._mm256_permute2f128_ps::<0x20>(low[1], high[1]),
            avx._mm256_permute2f128_ps::<0x20>(low[2], high[2]),
            avx._mm256_permute2f128_ps::<0x20>(low[3], high[3]),
            avx._mm256_permute2f128_ps::<0x31>(low[0], high[0]),
            avx._mm256_permute2f128_ps::<0x31>(low[1], high[1]),
            avx._mm256_permute2f128_ps::<0x31>(low[2], high[2]),
            avx._mm256_permute2f128_ps::<0x31>(low[3], high[3]),
        ]
    }

    /// Exchanges rows and columns of four rows of four, in both halves of vectors.
    #[inline(always)]
    fn transpose_fours(self, a: __m256, b: __m256, c: __m256, d: __m256) -> [__m256; 4] {
        let avx = self.avx;
        let (ab_low, ab_high) = (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (avx._mm256_unpacklo_ps(c, d), avx._mm256_unpackhi_ps(c, d));
        [
            avx._mm256_shuffle_ps::<0x44>(ab_low, cd_low),
            avx._mm256_shuffle_ps::<0xee>(ab_low, cd_low),
            avx._mm256_shuffle_ps::<0x44>(ab_high, cd_high),
            avx._mm256_shuffle_ps::<0xee>(ab_high, cd_high),
        ]
    }
}

impl Simd for Avx512 {
    type F32s = __m512;
    type Bytes = __m128i;

    const TILE_ROWS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        self.avx512f._mm512_set1_ps(x)
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        cast(*x)
    }

    #[inline(always)]
    fn store(self, x: __m512, to: &mut [f32; LANES]) {
        *to = cast(x);
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        self.avx512f._mm512_add_ps(a, b)
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        self.avx512f._mm512_mul_ps(a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.avx512f._mm512_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        self.avx512f._mm512_reduce_add_ps(x)
    }

    #[inline(always)]
    fn transpose(self, from: &[[f32; LANES]; LANES], to: &mut [[f32; LANES]; LANES]) {
        self.avx2().transpose(from, to);
    }

    #[inline(always)]
    fn half(self, bytes: [u8; 2]) -> f32 {
        self.avx2().half(bytes)
    }

    #[inline(always)]
    fn halves(self, bytes: &[u8; 2 * LANES]) -> __m512 {
        self.avx512f._mm512_cvtph_ps(cast(*bytes))
    }

    #[inline(always)]
    fn brain_floats(self, bytes: &[u8; 2 * LANES]) -> __m512 {
        let wide = self.avx512f._mm512_cvtepu16_epi32(cast(*bytes));
        cast(self.avx512f._mm512_slli_epi32::<16>(wide))
    }

    #[inline(always)]
    fn bytes(self, bytes: &[u8; LANES]) -> __m128i {
        cast(*bytes)
    }

    #[inline(always)]
    fn field(self, x: __m128i, shift: u32, mask: u8) -> __m128i {
        let shift = self.sse2._mm_cvtsi32_si128(shift as i32);
        let shifted = self.sse2._mm_srl_epi16(x, shift);
        self.sse2
            ._mm_and_si128(shifted, self.sse2._mm_set1_epi8(mask as i8))
    }

    #[inline(always)]
    fn shift_left(self, x: __m128i, shift: u32) -> __m128i {
        self.sse2
            ._mm_sll_epi16(x, self.sse2._mm_cvtsi32_si128(shift as i32))
    }

    #[inline(always)]
    fn or(self, a: __m128i, b: __m128i) -> __m128i {
        self.sse2._mm_or_si128(a, b)
    }

    #[inline(always)]
    fn sub(self, x: __m128i, y: u8) -> __m128i {
        self.sse2._mm_sub_epi8(x, self.sse2._mm_set1_epi8(y as i8))
    }

    #[inline(always)]
    fn where_set(self, bits: u16, value: u8) -> __m128i {
        let set = self.avx512bw._mm_movm_epi8(bits);
        self.sse2
            ._mm_and_si128(set, self.sse2._mm_set1_epi8(value as i8))
    }

    #[inline(always)]
    fn look_up(self, table: &[i8; LANES], x: __m128i) -> __m128i {
        self.ssse3._mm_shuffle_epi8(cast(*table), x)
    }

    #[inline(always)]
    fn widen(self, x: __m128i) -> __m512 {
        self.avx512f
            ._mm512_cvtepi32_ps(self.avx512f._mm512_cvtepi8_epi32(x))
    }

    #[inline(always)]
    fn widen_unsigned(self, x: __m128i) -> __m512 {
        self.avx512f
            ._mm512_cvtepi32_ps(self.avx512f._mm512_cvtepu8_epi32(x))
    }
}

impl Avx512 {
    /// Whoever has 512 bits has 256.
    #[inline(always)]
    fn avx2(self) -> Avx2 {
        // SAFETY: all of its features are among this one's, or imply them (SSE4.1 by AVX).
        unsafe { Avx2::new_unchecked() }
    }
}
