//! The number formats of GGUF tensors: block layouts and exact dequantization.

use std::marker::PhantomData;

use super::blocks::{self, BlockWork, Blocks, row_sixteens};
use crate::{
    Error, Result,
    simd::{LANES, Simd, SimdWork, dispatch},
};

/// How a tensor's numbers are stored. Quantized types pack `block_len` numbers of one row into
/// `block_bytes` bytes: small integers that share one or two scales.
///
/// Layouts are those of ggml (all little-endian, fields in file order; `d`, `m`, `dmin` are f16):
///
/// | type | numbers | bytes | fields |
/// |---|---|---|---|
/// | `Q4_0` | 32 | 18 | d, nibbles\[16\] |
/// | `Q4_1` | 32 | 20 | d, m, nibbles\[16\] |
/// | `Q5_0` | 32 | 22 | d, high bits u32, nibbles\[16\] |
/// | `Q5_1` | 32 | 24 | d, m, high bits u32, nibbles\[16\] |
/// | `Q8_0` | 32 | 34 | d, i8\[32\] |
/// | `Q2_K` | 256 | 84 | scale and minimum nibbles\[16\], 2-bit\[64\], d, dmin |
/// | `Q3_K` | 256 | 110 | high bits\[32\], 2-bit\[64\], 6-bit scales\[12\], d |
/// | `Q4_K` | 256 | 144 | d, dmin, 6-bit scales and minima\[12\], nibbles\[128\] |
/// | `Q5_K` | 256 | 176 | d, dmin, 6-bit scales and minima\[12\], high bits\[32\], nibbles\[128\] |
/// | `Q6_K` | 256 | 210 | nibbles\[128\], high 2 bits\[64\], i8 scales\[16\], d |
/// | `IQ4_NL` | 32 | 18 | d, nibbles\[16\] that index a table |
/// | `IQ4_XS` | 256 | 136 | d, scales' high bits u16, scales' low nibbles\[4\], nibbles\[128\] that index a table |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // The table above documents them.
pub enum GgmlType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
}

/// Numbers in a block of the 256-wide types.
const SUPER: usize = 256;

impl GgmlType {
    /// Every type that this library reads.
    pub const ALL: [GgmlType; 15] = [
        GgmlType::F32,
        GgmlType::F16,
        GgmlType::BF16,
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::Q8_0,
        GgmlType::Q2K,
        GgmlType::Q3K,
        GgmlType::Q4K,
        GgmlType::Q5K,
        GgmlType::Q6K,
        GgmlType::Iq4Nl,
        GgmlType::Iq4Xs,
    ];

    /// (number in the file, name, numbers per block, bytes per block)
    const fn facts(self) -> (u32, &'static str, usize, usize) {
        match self {
            GgmlType::F32 => (0, "F32", 1, 4),
            GgmlType::F16 => (1, "F16", 1, 2),
            GgmlType::Q4_0 => (2, "Q4_0", 32, 18),
            GgmlType::Q4_1 => (3, "Q4_1", 32, 20),
            GgmlType::Q5_0 => (6, "Q5_0", 32, 22),
            GgmlType::Q5_1 => (7, "Q5_1", 32, 24),
            GgmlType::Q8_0 => (8, "Q8_0", 32, 34),
            GgmlType::Q2K => (10, "Q2_K", SUPER, 84),
            GgmlType::Q3K => (11, "Q3_K", SUPER, 110),
            GgmlType::Q4K => (12, "Q4_K", SUPER, 144),
            GgmlType::Q5K => (13, "Q5_K", SUPER, 176),
            GgmlType::Q6K => (14, "Q6_K", SUPER, 210),
            GgmlType::Iq4Nl => (20, "IQ4_NL", 32, 18),
            GgmlType::Iq4Xs => (23, "IQ4_XS", SUPER, 136),
            GgmlType::BF16 => (30, "BF16", 1, 2),
        }
    }

    /// Returns the type of this number in a GGUF file, if this library reads it.
    pub fn from_id(id: u32) -> Option<GgmlType> {
        GgmlType::ALL.into_iter().find(|ty| ty.id() == id)
    }

    /// Returns the type's number in GGUF files.
    pub const fn id(self) -> u32 {
        self.facts().0
    }

    /// Returns the type's name as llama.cpp writes it, such as `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.facts().1
    }

    /// Returns the type of this name; upper and lower case are the same.
    pub fn parse(name: &str) -> Option<GgmlType> {
        GgmlType::ALL
            .into_iter()
            .find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// Numbers per block; 1 for the plain types.
    pub const fn block_len(self) -> usize {
        self.facts().2
    }

    /// Returns the bytes per block.
    pub const fn block_bytes(self) -> usize {
        self.facts().3
    }

    /// Returns whether numbers share scales.
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Returns the bytes of `numbers` numbers of one or several whole rows.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where `numbers` is not a multiple of the block, or the result
    /// overflows.
    pub fn row_bytes(self, values: usize) -> Result<usize> {
        let bytes = values
            .is_multiple_of(self.block_len())
            .then(|| (values / self.block_len()).checked_mul(self.block_bytes()))
            .flatten();
        bytes.ok_or_else(|| Error::BadRequest {
            reason: format!(
                "a row of {values} numbers can't be stored as {}: blocks hold {}",
                self.name(),
                self.block_len()
            ),
        })
    }

    /// Turns blocks into numbers, bit-equal to ggml's reference code (no fused multiply-add).
    ///
    /// # Panics
    /// Where `bytes` is not exactly the blocks of `out.len()` numbers: a fault of the caller, who
    /// has [`GgmlType::row_bytes`].
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        assert!(
            out.len().is_multiple_of(self.block_len())
                && out.len() / self.block_len() * self.block_bytes() == bytes.len(),
            "{} bytes of {} for {} numbers",
            bytes.len(),
            self.name(),
            out.len()
        );
        self.with_blocks(Dequantize { bytes, out });
    }

    /// Does `work` with the blocks of this type, in the best instructions that there are.
    pub(crate) fn with_blocks<W: BlockWork>(self, work: W) -> W::Output {
        fn run<B: Blocks, W: BlockWork>(work: W) -> W::Output {
            dispatch(OfType::<B, W>(work, PhantomData))
        }
        match self {
            GgmlType::F32 => run::<blocks::F32, W>(work),
            GgmlType::F16 => run::<blocks::F16, W>(work),
            GgmlType::BF16 => run::<blocks::Bf16, W>(work),
            GgmlType::Q4_0 => run::<blocks::Q4_0, W>(work),
            GgmlType::Q4_1 => run::<blocks::Q4_1, W>(work),
            GgmlType::Q5_0 => run::<blocks::Q5_0, W>(work),
            GgmlType::Q5_1 => run::<blocks::Q5_1, W>(work),
            GgmlType::Q8_0 => run::<blocks::Q8_0, W>(work),
            GgmlType::Q2K => run::<blocks::Q2K, W>(work),
            GgmlType::Q3K => run::<blocks::Q3K, W>(work),
            GgmlType::Q4K => run::<blocks::Q4K, W>(work),
            GgmlType::Q5K => run::<blocks::Q5K, W>(work),
            GgmlType::Q6K => run::<blocks::Q6K, W>(work),
            GgmlType::Iq4Nl => run::<blocks::Iq4Nl, W>(work),
            GgmlType::Iq4Xs => run::<blocks::Iq4Xs, W>(work),
        }
    }

    /// Returns the index of the first block that holds NaN or an infinity, looking at scales alone
    /// where there are scales. `bytes` holds whole blocks; a last part of one is not looked at.
    pub fn first_not_finite(self, bytes: &[u8]) -> Option<usize> {
        // An exponent of all ones is what makes a half float infinite or NaN.
        let half = |b: &[u8], at: usize| u16::from_le_bytes([b[at], b[at + 1]]) & 0x7c00 != 0x7c00;
        let finite: &dyn Fn(&[u8]) -> bool = match self {
            GgmlType::F32 => &|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite(),
            GgmlType::BF16 => &|b| u16::from_le_bytes([b[0], b[1]]) & 0x7f80 != 0x7f80,
            GgmlType::F16
            | GgmlType::Q4_0
            | GgmlType::Q5_0
            | GgmlType::Q8_0
            | GgmlType::Iq4Nl
            | GgmlType::Iq4Xs => &|b| half(b, 0),
            GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4K | GgmlType::Q5K => {
                &|b| half(b, 0) && half(b, 2)
            }
            GgmlType::Q2K => &|b| half(b, 80) && half(b, 82),
            GgmlType::Q3K => &|b| half(b, 108),
            GgmlType::Q6K => &|b| half(b, 208),
        };
        bytes
            .chunks_exact(self.block_bytes())
            .position(|block| !finite(block))
    }
}

/// Writes what `bytes` stand for.
struct Dequantize<'a> {
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl BlockWork for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<B: Blocks, S: Simd>(self, simd: S) {
        let Dequantize { bytes, out } = self;
        row_sixteens::<B, S>(
            simd,
            bytes,
            #[inline(always)]
            |i, x| match out[i * LANES..].first_chunk_mut() {
                Some(out) => simd.store(x, out),
                None => {
                    let mut last = [0.; LANES];
                    simd.store(x, &mut last);
                    let out = &mut out[i * LANES..];
                    out.copy_from_slice(&last[..out.len()]);
                }
            },
        );
    }
}

/// Work on numbers of one type.
struct OfType<B, W>(W, PhantomData<B>);

impl<B: Blocks, W: BlockWork> SimdWork for OfType<B, W> {
    type Output = W::Output;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> W::Output {
        self.0.run::<B, S>(simd)
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// The names of all types, for messages.
pub(crate) fn supported_types() -> String {
    GgmlType::ALL.map(GgmlType::name).join(", ")
}

/// The name that ggml has for a type that this library does not read, for messages.
pub(crate) fn foreign_type_name(id: u32) -> String {
    let name = match id {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("type {id}"),
    };
    format!("{name} (type {id})")
}
