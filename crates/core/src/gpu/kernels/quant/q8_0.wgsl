// Q8_0: 32 weights in 34 bytes: f16 scale, 32 signed bytes; weight = quant * scale.

fn block32(row: u32, b: u32) -> Block {
    let at = row + b * 34u;
    let d = f16_scalar(half(at));
    let q = words8(at + 2u);
    return Block(signed4(q[0]) * d, signed4(q[1]) * d, signed4(q[2]) * d, signed4(q[3]) * d,
                 signed4(q[4]) * d, signed4(q[5]) * d, signed4(q[6]) * d, signed4(q[7]) * d);
}
