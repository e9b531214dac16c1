// Q4_0: 32 weights in 18 bytes: f16 scale, 16 bytes of quants. Byte j holds weight j in its low
// nibble and weight j + 16 in its high one; weight = (quant - 8) * scale.

fn block32(row: u32, b: u32) -> Block {
    let at = row + b * 18u;
    let d = f16_scalar(half(at));
    let q = words4(at + 2u);
    return Block(low(q.x, d), low(q.y, d), low(q.z, d), low(q.w, d),
                 low(q.x >> 4u, d), low(q.y >> 4u, d), low(q.z >> 4u, d), low(q.w >> 4u, d));
}

fn low(q: u32, d: f32) -> vec4f {
    return (unsigned4(q & 0x0f0f0f0fu) - 8.0) * d;
}
