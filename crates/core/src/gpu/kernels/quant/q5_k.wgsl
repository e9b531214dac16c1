// Q5_K: 256 weights in 176 bytes: f16 scale, f16 minimum, 12 bytes of scales, 32 bytes of fifth
// bits, 128 bytes of quants. As Q4_K; bit s of the 32 bytes of fifth bits belongs to sub-block s.

const BIAS = vec2f(0.0);
const WHOLE_WORDS = true;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + (b >> 3u) * 176u;
    let sub = b & 7u;
    let d = halves(word(at)) * scale_min(at + 4u, sub);
    return Head(at + 16u, sub, vec2f(d.x), vec2f(-d.y));
}

fn quants(h: Head, j: u32) -> vec4f {
    let low = word(h.at + 32u + (h.sub >> 1u) * 32u + j * 4u) >> ((h.sub & 1u) * 4u);
    let high = word(h.at + j * 4u) >> h.sub;
    return unsigned4((low & 0x0f0f0f0fu) | ((high & 0x01010101u) << 4u));
}
