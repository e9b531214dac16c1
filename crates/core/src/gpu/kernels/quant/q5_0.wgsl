// Q5_0: 32 weights in 22 bytes: f16 scale, 32 fifth bits, 16 bytes of quants. Byte j holds weight j
// in its low nibble and weight j + 16 in its high one; weight = (quant - 16) * scale.

fn block32(row: u32, b: u32) -> Block {
    let at = row + b * 22u;
    let d = f16_scalar(half(at));
    let h = word(at + 2u);
    let q = words4(at + 6u);
    return Block(five(q.x, h, d), five(q.y, h >> 4u, d), five(q.z, h >> 8u, d), five(q.w, h >> 12u, d),
                 five(q.x >> 4u, h >> 16u, d), five(q.y >> 4u, h >> 20u, d),
                 five(q.z >> 4u, h >> 24u, d), five(q.w >> 4u, h >> 28u, d));
}

// The low nibbles of `q` with bits 0..3 of `h` above them.
fn five(q: u32, h: u32, d: f32) -> vec4f {
    let high = (vec4u(h) << vec4u(4u, 3u, 2u, 1u)) & vec4u(16u);
    let low = (vec4u(q) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(15u);
    return (vec4f(low | high) - 16.0) * d;
}
