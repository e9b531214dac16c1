// IQ4_NL: 32 weights in 18 bytes, as Q4_0; weight = value of the quant * scale, the 16 values being
// spaced closer around zero.

fn block32(row: u32, b: u32) -> Block {
    let at = row + b * 18u;
    let d = f16_scalar(half(at));
    let q = words4(at + 2u);
    return Block(low(q.x, d), low(q.y, d), low(q.z, d), low(q.w, d),
                 low(q.x >> 4u, d), low(q.y >> 4u, d), low(q.z >> 4u, d), low(q.w >> 4u, d));
}

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
