// F32: the numbers themselves.

fn block32(row: u32, b: u32) -> Block {
    let i = (row >> 2u) + b * 32u;
    return Block(four(i), four(i + 4u), four(i + 8u), four(i + 12u),
                 four(i + 16u), four(i + 20u), four(i + 24u), four(i + 28u));
}

fn four(i: u32) -> vec4f {
    return bitcast<vec4f>(vec4u(w[i], w[i + 1u], w[i + 2u], w[i + 3u]));
}
