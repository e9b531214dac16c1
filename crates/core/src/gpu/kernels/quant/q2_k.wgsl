// Q2_K: 256 weights in 84 bytes: 16 bytes of scales, 64 bytes of quants, f16 scale, f16 minimum. A
// sub-block of 16 weights has a scale in the low nibble of its byte and a minimum in the high one;
// weight = d * scale * quant - dmin * minimum. Of each 128 weights, 32 bytes hold columns l, l +
// 32, l + 64 and l + 96 in two bits each.

const BIAS = vec2f(0.0);
const WHOLE_WORDS = true;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + (b >> 3u) * 84u;
    let sub = b & 7u;
    let d = halves(word(at + 80u));
    let scales = half(at + sub * 2u);
    return Head(at + 16u + (sub >> 2u) * 32u, sub,
                d.x * vec2f(f32(scales & 15u), f32((scales >> 8u) & 15u)),
                -d.y * vec2f(f32((scales >> 4u) & 15u), f32(scales >> 12u)));
}

fn quants(h: Head, j: u32) -> vec4f {
    return unsigned4((word(h.at + j * 4u) >> ((h.sub & 3u) * 2u)) & 0x03030303u);
}
