//! How each type of KV cache is stored: one WGSL file per type, which goes before a kernel.
//!
//! ```wgsl
//! alias Stored                                  what a buffer of keys or values is an array of
//! const BLOCK_STORED                            how many of them hold a block of 32 numbers
//! fn scale_at(four: u32) -> u32                 where the scale of the four-th four numbers is,
//!                                               counted along the rows,
//! fn values_at(four: u32) -> u32                where they are themselves,
//! fn dequantize(scale: Stored, values: Stored)  and what they stand for
//! fn quantize(x: array<vec4f, 8>)               a block as it is stored
//! ```
//!
//! Rows are whole blocks, filled up with zeros. Truth: `cpu::KvCache`.

use crate::backend::{KV_BLOCK, KvType};

/// For kernels that read keys and values: their buffers, `key_at` and `value_at`.
pub(in crate::gpu) const KEYS_VALUES: &str = include_str!("keys_values.wgsl");

/// The WGSL for caches of type `ty`.
pub(in crate::gpu) fn source(ty: KvType) -> &'static str {
    match ty {
        KvType::F32 => include_str!("f32.wgsl"),
        KvType::Q8 => include_str!("q8.wgsl"),
    }
}

/// Blocks in a row of `width` numbers.
pub(in crate::gpu) fn blocks(width: usize) -> usize {
    width.div_ceil(KV_BLOCK)
}
