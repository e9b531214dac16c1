// BF16: the upper halves of f32.

fn widen(q: u32) -> vec2f {
    return bitcast<vec2f>(vec2u(q << 16u, q & 0xffff0000u));
}
