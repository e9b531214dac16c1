// Q8_0: 32 weights in 34 bytes: f16 scale, 32 signed bytes; weight = byte * scale. With its upper
// bit the other way around, a byte counts from -128, and GPUs convert unsigned bytes in one step.

const BIAS = vec2f(128.0);
const WHOLE_WORDS = false;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + b * 34u;
    return Head(at + 2u, 0u, vec2f(halves(half(at)).x), vec2f(0.0));
}

fn quants(h: Head, j: u32) -> vec4f {
    return unsigned4(word(h.at + j * 4u) ^ 0x80808080u);
}
