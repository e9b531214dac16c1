// Q5_1: 32 weights in 24 bytes: f16 scale, f16 minimum, 32 fifth bits, 16 bytes of quants. Byte j
// holds weight j in its low nibble and weight j + 16 in its high one; weight = quant * scale +
// minimum.

fn block32(row: u32, b: u32) -> Block {
    let at = row + b * 24u;
    let d = f16_scalar(half(at));
    let m = f16_scalar(half(at + 2u));
    let h = word(at + 4u);
    let q = words4(at + 8u);
    return Block(five(q.x, h, d, m), five(q.y, h >> 4u, d, m), five(q.z, h >> 8u, d, m), five(q.w, h >> 12u, d, m),
                 five(q.x >> 4u, h >> 16u, d, m), five(q.y >> 4u, h >> 20u, d, m),
                 five(q.z >> 4u, h >> 24u, d, m), five(q.w >> 4u, h >> 28u, d, m));
}

// The low nibbles of `q` with bits 0..3 of `h` above them.
fn five(q: u32, h: u32, d: f32, m: f32) -> vec4f {
    let high = (vec4u(h) << vec4u(4u, 3u, 2u, 1u)) & vec4u(16u);
    let low = (vec4u(q) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(15u);
    return vec4f(low | high) * d + m;
}
