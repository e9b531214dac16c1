// Q4_0 and IQ4_NL: 32 weights in 18 bytes: f16 scale, 16 bytes of quants. Byte j holds weight j in
// its low nibble and weight j + 16 in its high one. `low` makes weights of quants and the scale.

fn block32(row: u32, b: u32) -> Block {
    let at = row + b * 18u;
    let d = f16_scalar(half(at));
    let q = words4(at + 2u);
    return Block(low(q.x, d), low(q.y, d), low(q.z, d), low(q.w, d),
                 low(q.x >> 4u, d), low(q.y >> 4u, d), low(q.z >> 4u, d), low(q.w >> 4u, d));
}
