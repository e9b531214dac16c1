// Q3_K: 256 weights in 110 bytes: 32 bytes of third bits, 64 bytes of quants, 12 bytes of scales,
// f16 scale. weight = d * (scale - 32) * (quant - 4), a scale for 16 weights. Quants lie as in
// Q2_K; bit s of the 32 bytes of third bits belongs to sub-block s of 32 weights. The scales' low
// nibbles fill 8 bytes, scale i + 8 above scale i; their upper two bits fill 4 bytes, scale i in
// bits 2 (i / 4) of byte i % 4.

const BIAS = vec2f(4.0);
const WHOLE_WORDS = false;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + (b >> 3u) * 110u;
    let sub = b & 7u;
    let d = halves(half(at + 108u)).x;
    let scales = vec2f(scale(at + 96u, sub * 2u), scale(at + 96u, sub * 2u + 1u));
    return Head(at, sub, d * scales, vec2f(0.0));
}

fn scale(at: u32, i: u32) -> f32 {
    let low = (byte(at + (i & 7u)) >> ((i >> 3u) * 4u)) & 15u;
    let high = (byte(at + 8u + (i & 3u)) >> ((i >> 2u) * 2u)) & 3u;
    return f32(low | (high << 4u)) - 32.0;
}

fn quants(h: Head, j: u32) -> vec4f {
    let low = word(h.at + 32u + (h.sub >> 2u) * 32u + j * 4u) >> ((h.sub & 3u) * 2u);
    let high = word(h.at + j * 4u) >> h.sub;
    return unsigned4((low & 0x03030303u) | ((high & 0x01010101u) << 2u));
}
