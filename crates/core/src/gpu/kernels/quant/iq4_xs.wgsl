// IQ4_XS: 256 weights in 136 bytes: f16 scale, 16 upper and 4 bytes of lower bits of scales, 128
// bytes of quants. Each 32 weights lie as in IQ4_NL, in 16 bytes; weight = d * (scale - 32) * value
// of the quant.

fn block32(row: u32, b: u32) -> Block {
    let at = row + (b >> 3u) * 136u;
    let sub = b & 7u;
    let high = (half(at + 2u) >> (sub * 2u)) & 3u;
    let low_bits = (byte(at + 4u + (sub >> 1u)) >> ((sub & 1u) * 4u)) & 15u;
    let d = f16_scalar(half(at)) * (f32(low_bits | (high << 4u)) - 32.0);
    let q = words4(at + 8u + sub * 16u);
    return Block(low(q.x, d), low(q.y, d), low(q.z, d), low(q.w, d),
                 low(q.x >> 4u, d), low(q.y >> 4u, d), low(q.z >> 4u, d), low(q.w >> 4u, d));
}
