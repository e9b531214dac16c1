// IQ4_XS: 256 weights in 136 bytes: f16 scale, 16 upper and 4 bytes of lower bits of scales, 128
// bytes of quants. Each 32 weights lie as in IQ4_NL, in 16 bytes; weight = d * (scale - 32) * value
// of the quant.

const WHOLE_WORDS = true;
const PLAIN = false;

fn head(row: u32, b: u32) -> Head {
    let at = row + (b >> 3u) * 136u;
    let sub = b & 7u;
    let high = (half(at + 2u) >> (sub * 2u)) & 3u;
    let low_bits = (byte(at + 4u + (sub >> 1u)) >> ((sub & 1u) * 4u)) & 15u;
    let d = halves(half(at)).x * (f32(low_bits | (high << 4u)) - 32.0);
    return Head(at + 8u + sub * 16u, 0u, vec2f(d), vec2f(0.0));
}
