// Q4_1: 32 weights in 20 bytes: f16 scale, f16 minimum, 16 bytes of quants. Byte j holds weight j
// in its low nibble and weight j + 16 in its high one; weight = quant * scale + minimum.

fn block32(row: u32, b: u32) -> Block {
    let at = row + b * 20u;
    let d = f16_scalar(half(at));
    let m = f16_scalar(half(at + 2u));
    let q = words4(at + 4u);
    return Block(low(q.x, d, m), low(q.y, d, m), low(q.z, d, m), low(q.w, d, m),
                 low(q.x >> 4u, d, m), low(q.y >> 4u, d, m), low(q.z >> 4u, d, m), low(q.w >> 4u, d, m));
}

fn low(q: u32, d: f32, m: f32) -> vec4f {
    return unsigned4(q & 0x0f0f0f0fu) * d + m;
}
