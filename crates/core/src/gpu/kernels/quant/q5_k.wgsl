// Q5_K: 256 weights in 176 bytes: f16 scale, f16 minimum, 12 bytes of scales, 32 bytes of fifth bits,
// 128 bytes of quants. As Q4_K; bit s of the 32 bytes of fifth bits belongs to sub-block s.

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

// Scale and minimum of sub-block `sub`: for the first four the low six bits of bytes sub and sub + 4;
// for the others the nibbles of byte sub + 4, and above them the upper two bits of bytes sub - 4 and sub.
fn scale_min(at: u32, sub: u32) -> vec2f {
    let i = sub & 3u;
    let a = byte(at + i);
    let b = byte(at + i + 4u);
    let c = byte(at + i + 8u);
    let first = vec2u(a & 63u, b & 63u);
    let second = vec2u((c & 15u) | ((a >> 6u) << 4u), (c >> 4u) | ((b >> 6u) << 4u));
    return vec2f(select(first, second, sub >= 4u));
}

fn five(q: u32, h: u32, d: f32, m: f32) -> vec4f {
    return unsigned4((q & 0x0f0f0f0fu) | ((h & 0x01010101u) << 4u)) * d - m;
}
