// Q6_K: 256 weights in 210 bytes: 128 bytes of low nibbles, 64 bytes of upper two bits, 16 signed
// scales, f16 scale. weight = d * scale * (quant - 32), a scale for 16 weights. Of each 128
// weights, 64 bytes hold columns l in their low nibbles and l + 64 in their high ones, and 32 bytes
// hold the upper bits of columns l, l + 32, l + 64 and l + 96.

fn block32(row: u32, b: u32) -> Block {
    let at = row + (b >> 3u) * 210u;
    let sub = b & 7u;
    let half_block = sub >> 2u;
    let quarter = sub & 3u;
    let d = f16_scalar(half(at + 208u));
    let scales = half(at + 192u + sub * 2u);
    let d0 = d * f32(i32(scales << 24u) >> 24u);
    let d1 = d * f32(i32(scales << 16u) >> 24u);
    let q = words8(at + half_block * 64u + (quarter & 1u) * 32u);
    let h = words8(at + 128u + half_block * 32u);
    let low = (quarter >> 1u) * 4u;
    let high = quarter * 2u;
    return Block(six(q[0] >> low, h[0] >> high, d0), six(q[1] >> low, h[1] >> high, d0),
                 six(q[2] >> low, h[2] >> high, d0), six(q[3] >> low, h[3] >> high, d0),
                 six(q[4] >> low, h[4] >> high, d1), six(q[5] >> low, h[5] >> high, d1),
                 six(q[6] >> low, h[6] >> high, d1), six(q[7] >> low, h[7] >> high, d1));
}

fn six(q: u32, h: u32, d: f32) -> vec4f {
    return (unsigned4((q & 0x0f0f0f0fu) | ((h & 0x03030303u) << 4u)) - 32.0) * d;
}
