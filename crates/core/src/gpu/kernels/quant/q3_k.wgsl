// Q3_K: 256 weights in 110 bytes: 32 bytes of third bits, 64 bytes of quants, 12 bytes of scales,
// f16 scale. weight = d * (scale - 32) * (quant - 4), a scale for 16 weights. Quants lie as in
// Q2_K; bit s of the 32 bytes of third bits belongs to sub-block s of 32 weights. The scales' low
// nibbles fill 8 bytes, scale i + 8 above scale i; their upper two bits fill 4 bytes, scale i in
// bits 2 (i / 4) of byte i % 4.

fn block32(row: u32, b: u32) -> Block {
    let at = row + (b >> 3u) * 110u;
    let sub = b & 7u;
    let d = f16_scalar(half(at + 108u));
    let d0 = d * scale(at + 96u, sub * 2u);
    let d1 = d * scale(at + 96u, sub * 2u + 1u);
    let h = words8(at);
    let q = words8(at + 32u + (sub >> 2u) * 32u);
    let shift = (sub & 3u) * 2u;
    return Block(three(q[0] >> shift, h[0] >> sub, d0), three(q[1] >> shift, h[1] >> sub, d0),
                 three(q[2] >> shift, h[2] >> sub, d0), three(q[3] >> shift, h[3] >> sub, d0),
                 three(q[4] >> shift, h[4] >> sub, d1), three(q[5] >> shift, h[5] >> sub, d1),
                 three(q[6] >> shift, h[6] >> sub, d1), three(q[7] >> shift, h[7] >> sub, d1));
}

fn scale(at: u32, i: u32) -> f32 {
    let low = (byte(at + (i & 7u)) >> ((i >> 3u) * 4u)) & 15u;
    let high = (byte(at + 8u + (i & 3u)) >> ((i >> 2u) * 2u)) & 3u;
    return f32(low | (high << 4u)) - 32.0;
}

fn three(q: u32, h: u32, d: f32) -> vec4f {
    return (unsigned4((q & 0x03030303u) | ((h & 0x01010101u) << 2u)) - 4.0) * d;
}
