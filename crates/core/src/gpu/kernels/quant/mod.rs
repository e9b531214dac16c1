//! How each stored type is read: one WGSL file per type, which goes before a kernel.

use crate::gguf::GgmlType;

/// The buffer of weights, and what the files of all types call.
const WEIGHTS: &str = include_str!("weights.wgsl");

/// The WGSL that defines `head` and `quants` for `ty`, and what they call.
pub(in crate::gpu) fn source(ty: GgmlType) -> [&'static str; 3] {
    let of_several = match ty {
        GgmlType::F16 | GgmlType::BF16 => include_str!("halves.wgsl"),
        GgmlType::Q4_0 | GgmlType::Q4_1 => include_str!("nibbles.wgsl"),
        GgmlType::Q5_0 | GgmlType::Q5_1 => include_str!("fifth_bits.wgsl"),
        GgmlType::Q4K | GgmlType::Q5K => include_str!("scale_min.wgsl"),
        GgmlType::Iq4Nl | GgmlType::Iq4Xs => include_str!("iq4.wgsl"),
        _ => "",
    };
    let own = match ty {
        GgmlType::F32 => include_str!("f32.wgsl"),
        GgmlType::F16 => include_str!("f16.wgsl"),
        GgmlType::BF16 => include_str!("bf16.wgsl"),
        GgmlType::Q4_0 => include_str!("q4_0.wgsl"),
        GgmlType::Q4_1 => include_str!("q4_1.wgsl"),
        GgmlType::Q5_0 => include_str!("q5_0.wgsl"),
        GgmlType::Q5_1 => include_str!("q5_1.wgsl"),
        GgmlType::Q8_0 => include_str!("q8_0.wgsl"),
        GgmlType::Q2K => include_str!("q2_k.wgsl"),
        GgmlType::Q3K => include_str!("q3_k.wgsl"),
        GgmlType::Q4K => include_str!("q4_k.wgsl"),
        GgmlType::Q5K => include_str!("q5_k.wgsl"),
        GgmlType::Q6K => include_str!("q6_k.wgsl"),
        GgmlType::Iq4Nl => include_str!("iq4_nl.wgsl"),
        GgmlType::Iq4Xs => include_str!("iq4_xs.wgsl"),
    };
    [WEIGHTS, of_several, own]
}
