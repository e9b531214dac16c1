// F16: IEEE halves.

fn four(a: u32, b: u32) -> vec4f {
    return f16_to_f32(vec4u(a, a >> 16u, b, b >> 16u) & vec4u(0xffffu));
}
