// IQ4_NL: 32 weights in 18 bytes: f16 scale, 16 bytes of quants; weight = value of the quant *
// scale.

const WHOLE_WORDS = false;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + b * 18u;
    return Head(at + 2u, 0u, vec2f(halves(half(at)).x), vec2f(0.0));
}
