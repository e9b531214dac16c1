// BF16: the upper halves of f32.

fn four(a: u32, b: u32) -> vec4f {
    return bitcast<vec4f>(vec4u(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
}
