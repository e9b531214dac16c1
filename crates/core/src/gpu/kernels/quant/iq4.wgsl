// For IQ4_NL and IQ4_XS, whose quants stand for 16 values that are spaced closer around zero. 16
// bytes hold 32 of them: byte j weight j in its low nibble and weight j + 16 in its high one.

const BIAS = vec2f(0.0);

fn quants(h: Head, j: u32) -> vec4f {
    let q = word(h.at + (j & 3u) * 4u) >> ((j >> 2u) * 4u);
    return vec4f(value(q & 15u), value((q >> 8u) & 15u), value((q >> 16u) & 15u),
                 value((q >> 24u) & 15u));
}

// -127 -104 -83 -65 | -49 -35 -22 -10 | 1 13 25 38 | 53 69 89 113, four signed bytes to a word.
fn value(q: u32) -> f32 {
    let upper = select(0x26190d01u, 0x71594535u, (q & 4u) != 0u);
    let lower = select(0xbfad9881u, 0xf6eaddcfu, (q & 4u) != 0u);
    let four = select(lower, upper, q >= 8u);
    return f32(bitcast<i32>(four << (24u - (q & 3u) * 8u)) >> 24u);
}
