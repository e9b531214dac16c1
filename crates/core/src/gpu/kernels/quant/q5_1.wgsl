// Q5_1: 32 weights in 24 bytes: f16 scale, f16 minimum, then fifth bits and quants; weight = quant
// * scale + minimum.

const BIAS = vec2f(0.0);
const WHOLE_WORDS = true;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + b * 24u;
    let d = halves(word(at));
    return Head(at + 4u, 0u, vec2f(d.x), vec2f(d.y));
}
