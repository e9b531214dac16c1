// A cache of f32, in vectors of four.

alias Stored = vec4f;
const BLOCK_STORED = 8u;

fn scale_at(four: u32) -> u32 {
    return four;
}

fn values_at(four: u32) -> u32 {
    return four;
}

fn dequantize(scale: vec4f, values: vec4f) -> vec4f {
    return values;
}

fn quantize(x: array<vec4f, 8>) -> array<vec4f, 8> {
    return x;
}
