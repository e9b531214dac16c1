// IQ4_NL: 32 weights in 18 bytes, as Q4_0; weight = value of the quant * scale, the 16 values being
// spaced closer around zero.

fn block32(row: u32, b: u32) -> Block {
    let at = row + b * 18u;
    let d = f16_scalar(half(at));
    let q = words4(at + 2u);
    return Block(low(q.x, d), low(q.y, d), low(q.z, d), low(q.w, d),
                 low(q.x >> 4u, d), low(q.y >> 4u, d), low(q.z >> 4u, d), low(q.w >> 4u, d));
}
