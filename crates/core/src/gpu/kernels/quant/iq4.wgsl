// For IQ4_NL and IQ4_XS, whose quants stand for 16 values that are spaced closer around zero.

// Four weights: the values of the low nibbles of `q`, times `d`.
fn low(q: u32, d: f32) -> vec4f {
    return vec4f(value(q & 15u), value((q >> 8u) & 15u), value((q >> 16u) & 15u), value((q >> 24u) & 15u)) * d;
}

// -127 -104 -83 -65 | -49 -35 -22 -10 | 1 13 25 38 | 53 69 89 113, four signed bytes to a word.
fn value(q: u32) -> f32 {
    let upper = select(0x26190d01u, 0x71594535u, (q & 4u) != 0u);
    let lower = select(0xbfad9881u, 0xf6eaddcfu, (q & 4u) != 0u);
    let four = select(lower, upper, q >= 8u);
    return f32(bitcast<i32>(four << (24u - (q & 3u) * 8u)) >> 24u);
}
