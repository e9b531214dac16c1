// Q4_0: 32 weights in 18 bytes: f16 scale, 16 bytes of quants; weight = (quant - 8) * scale.

const BIAS = vec2f(8.0, 128.0);
const WHOLE_WORDS = false;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + b * 18u;
    let d = halves(half(at)).x;
    return Head(at + 2u, 0u, vec2f(d, d * 0.0625), vec2f(0.0));
}
