// Q6_K: 256 weights in 210 bytes: 128 bytes of low nibbles, 64 bytes of upper two bits, 16 signed
// scales, f16 scale. weight = d * scale * (quant - 32), a scale for 16 weights. Of each 128
// weights, 64 bytes hold columns l in their low nibbles and l + 64 in their high ones, and 32 bytes
// hold the upper bits of columns l, l + 32, l + 64 and l + 96.

const BIAS = vec2f(32.0);
const WHOLE_WORDS = false;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + (b >> 3u) * 210u;
    let sub = b & 7u;
    let d = halves(half(at + 208u)).x;
    let scales = half(at + 192u + sub * 2u);
    let two = vec2f(vec2i(bitcast<i32>(scales << 24u), bitcast<i32>(scales << 16u)) >> vec2u(24u));
    return Head(at + (sub >> 2u) * 32u, sub, d * two, vec2f(0.0));
}

fn quants(h: Head, j: u32) -> vec4f {
    // `at` is where the upper bits begin, less 128; the low ones begin as far from the block again.
    let quarter = h.sub & 3u;
    let low_at = h.at + (h.sub >> 2u) * 32u + (quarter & 1u) * 32u;
    let low = word(low_at + j * 4u) >> ((quarter >> 1u) * 4u);
    let high = word(h.at + 128u + j * 4u) >> (quarter * 2u);
    return unsigned4((low & 0x0f0f0f0fu) | ((high & 0x03030303u) << 4u));
}
