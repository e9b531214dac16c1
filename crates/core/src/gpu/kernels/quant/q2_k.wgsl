// Q2_K: 256 weights in 84 bytes: 16 bytes of scales, 64 bytes of quants, f16 scale, f16 minimum. A
// sub-block of 16 weights has a scale in the low nibble of its byte and a minimum in the high one;
// weight = d * scale * quant - dmin * minimum. Of each 128 weights, 32 bytes hold columns l, l +
// 32, l + 64 and l + 96 in two bits each.

fn block32(row: u32, b: u32) -> Block {
    let at = row + (b >> 3u) * 84u;
    let sub = b & 7u;
    let d = f16_scalar(half(at + 80u));
    let dmin = f16_scalar(half(at + 82u));
    let scales = half(at + sub * 2u);
    let d0 = d * f32(scales & 15u);
    let m0 = dmin * f32((scales >> 4u) & 15u);
    let d1 = d * f32((scales >> 8u) & 15u);
    let m1 = dmin * f32(scales >> 12u);
    let q = words8(at + 16u + (sub >> 2u) * 32u);
    let shift = (sub & 3u) * 2u;
    return Block(two(q[0] >> shift, d0, m0), two(q[1] >> shift, d0, m0),
                 two(q[2] >> shift, d0, m0), two(q[3] >> shift, d0, m0),
                 two(q[4] >> shift, d1, m1), two(q[5] >> shift, d1, m1),
                 two(q[6] >> shift, d1, m1), two(q[7] >> shift, d1, m1));
}

fn two(q: u32, d: f32, m: f32) -> vec4f {
    return unsigned4(q & 0x03030303u) * d - m;
}
