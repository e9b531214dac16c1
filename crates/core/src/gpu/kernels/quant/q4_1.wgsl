// Q4_1: 32 weights in 20 bytes: f16 scale, f16 minimum, 16 bytes of quants; weight = quant * scale
// + minimum.

const BIAS = vec2f(0.0);
const WHOLE_WORDS = true;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + b * 20u;
    let d = halves(word(at));
    return Head(at + 4u, 0u, vec2f(d.x, d.x * 0.0625), vec2f(d.y));
}
