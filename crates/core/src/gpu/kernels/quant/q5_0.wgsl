// Q5_0: 32 weights in 22 bytes: f16 scale, then fifth bits and quants; weight = (quant - 16) *
// scale.

const BIAS = vec2f(16.0);
const WHOLE_WORDS = false;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + b * 22u;
    return Head(at + 2u, 0u, vec2f(halves(half(at)).x), vec2f(0.0));
}
