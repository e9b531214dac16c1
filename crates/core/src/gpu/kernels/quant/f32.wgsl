// F32: the numbers themselves.

const BIAS = vec2f(0.0);
const WHOLE_WORDS = true;
const PLAIN = true;

fn head(row: u32, b: u32) -> Head {
    return Head((row >> 2u) + b * 32u, 0u, vec2f(1.0), vec2f(0.0));
}

fn quants(h: Head, j: u32) -> vec4f {
    let i = h.at + j * 4u;
    return bitcast<vec4f>(vec4u(w[i], w[i + 1u], w[i + 2u], w[i + 3u]));
}
