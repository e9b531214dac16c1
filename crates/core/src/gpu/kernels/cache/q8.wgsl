// A cache of 32 numbers in 36 bytes: a f32 scale, then signed bytes, four in a word, lowest first;
// number = byte * scale. The number farthest from zero becomes 127 or -127.

alias Stored = u32;
const BLOCK_STORED = 9u;

// A block of numbers no larger than this is zero: its scale would lose its precision, or be
// nothing.
const NOTHING = 1e-30;

fn scale_at(four: u32) -> u32 {
    return (four >> 3u) * 9u;
}

// One scale for every eight words, and one before them.
fn values_at(four: u32) -> u32 {
    return four + (four >> 3u) + 1u;
}

fn dequantize(scale: u32, values: u32) -> vec4f {
    return vec4f(bitcast<vec4i>(vec4u(values) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u)) * bitcast<f32>(scale);
}

fn quantize(x: array<vec4f, 8>) -> array<u32, 9> {
    let largest4 = max(max(max(abs(x[0]), abs(x[1])), max(abs(x[2]), abs(x[3]))),
                       max(max(abs(x[4]), abs(x[5])), max(abs(x[6]), abs(x[7]))));
    let largest = max(max(largest4.x, largest4.y), max(largest4.z, largest4.w));
    if !(largest > NOTHING) {
        return array<u32, 9>();
    }
    let s = 127.0 / largest;
    return array<u32, 9>(bitcast<u32>(largest / 127.0),
        bytes(x[0] * s), bytes(x[1] * s), bytes(x[2] * s), bytes(x[3] * s),
        bytes(x[4] * s), bytes(x[5] * s), bytes(x[6] * s), bytes(x[7] * s));
}

fn bytes(x: vec4f) -> u32 {
    let b = bitcast<vec4u>(vec4i(round(x))) & vec4u(255u);
    return b.x | (b.y << 8u) | (b.z << 16u) | (b.w << 24u);
}
