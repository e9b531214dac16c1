// Q4_0: weight = (quant - 8) * scale.

fn low(q: u32, d: f32) -> vec4f {
    return (unsigned4(q & 0x0f0f0f0fu) - 8.0) * d;
}
