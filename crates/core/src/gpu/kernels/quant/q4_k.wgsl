// Q4_K: 256 weights in 144 bytes: f16 scale, f16 minimum, 12 bytes of scales, 128 bytes of quants.
// weight = d * scale * quant - dmin * minimum, a 6-bit scale and minimum for 32 weights. 32 bytes
// of quants hold sub-block 2 i in their low nibbles and 2 i + 1 in their high ones.

fn block32(row: u32, b: u32) -> Block {
    let at = row + (b >> 3u) * 144u;
    let sub = b & 7u;
    let scale = scale_min(at + 4u, sub);
    let d = f16_scalar(half(at)) * scale.x;
    let m = f16_scalar(half(at + 2u)) * scale.y;
    let q = words8(at + 16u + (sub >> 1u) * 32u);
    let shift = (sub & 1u) * 4u;
    return Block(four(q[0] >> shift, d, m), four(q[1] >> shift, d, m),
                 four(q[2] >> shift, d, m), four(q[3] >> shift, d, m),
                 four(q[4] >> shift, d, m), four(q[5] >> shift, d, m),
                 four(q[6] >> shift, d, m), four(q[7] >> shift, d, m));
}

fn four(q: u32, d: f32, m: f32) -> vec4f {
    return unsigned4(q & 0x0f0f0f0fu) * d - m;
}
