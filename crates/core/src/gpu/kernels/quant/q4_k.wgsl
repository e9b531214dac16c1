// Q4_K: 256 weights in 144 bytes: f16 scale, f16 minimum, 12 bytes of scales, 128 bytes of quants.
// weight = d * scale * quant - dmin * minimum, a 6-bit scale and minimum for 32 weights. 32 bytes
// of quants hold sub-block 2 i in their low nibbles and 2 i + 1 in their high ones, where they
// count 16 times.

const BIAS = vec2f(0.0);
const WHOLE_WORDS = true;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + (b >> 3u) * 144u;
    let sub = b & 7u;
    let d = halves(word(at)) * scale_min(at + 4u, sub);
    let scale = select(d.x, d.x * 0.0625, (sub & 1u) != 0u);
    return Head(at + 16u + (sub >> 1u) * 32u, sub, vec2f(scale), vec2f(-d.y));
}

fn quants(h: Head, j: u32) -> vec4f {
    return unsigned4(word(h.at + j * 4u) & (0x0f0f0f0fu << ((h.sub & 1u) * 4u)));
}
