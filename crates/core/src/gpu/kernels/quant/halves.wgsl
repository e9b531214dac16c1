// Types of 16 bits a weight: `widen` makes two of a word.

const BIAS = vec2f(0.0);
const WHOLE_WORDS = false;
const PLAIN = true;

fn head(row: u32, b: u32) -> Head {
    return Head(row + b * 64u, 0u, vec2f(1.0), vec2f(0.0));
}

fn quants(h: Head, j: u32) -> vec4f {
    let at = h.at + j * 8u;
    return vec4f(widen(word(at)), widen(word(at + 4u)));
}
