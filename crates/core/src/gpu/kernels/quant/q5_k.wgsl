// Q5_K: 256 weights in 176 bytes: f16 scale, f16 minimum, 12 bytes of scales, 32 bytes of fifth
// bits, 128 bytes of quants. As Q4_K; bit s of the 32 bytes of fifth bits belongs to sub-block s.

fn block32(row: u32, b: u32) -> Block {
    let at = row + (b >> 3u) * 176u;
    let sub = b & 7u;
    let scale = scale_min(at + 4u, sub);
    let d = f16_scalar(half(at)) * scale.x;
    let m = f16_scalar(half(at + 2u)) * scale.y;
    let h = words8(at + 16u);
    let q = words8(at + 48u + (sub >> 1u) * 32u);
    let shift = (sub & 1u) * 4u;
    return Block(five(q[0] >> shift, h[0] >> sub, d, m), five(q[1] >> shift, h[1] >> sub, d, m),
                 five(q[2] >> shift, h[2] >> sub, d, m), five(q[3] >> shift, h[3] >> sub, d, m),
                 five(q[4] >> shift, h[4] >> sub, d, m), five(q[5] >> shift, h[5] >> sub, d, m),
                 five(q[6] >> shift, h[6] >> sub, d, m), five(q[7] >> shift, h[7] >> sub, d, m));
}

fn five(q: u32, h: u32, d: f32, m: f32) -> vec4f {
    return unsigned4((q & 0x0f0f0f0fu) | ((h & 0x01010101u) << 4u)) * d - m;
}
