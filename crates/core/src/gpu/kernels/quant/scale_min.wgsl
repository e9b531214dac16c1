// For Q4_K and Q5_K, whose 12 bytes hold eight scales and eight minima of 6 bits.

// Scale and minimum of sub-block `sub`: for the first four the low six bits of bytes sub and sub +
// 4; for the others the nibbles of byte sub + 4, and above them the upper two bits of bytes sub - 4
// and sub.
fn scale_min(at: u32, sub: u32) -> vec2f {
    let i = sub & 3u;
    let a = byte(at + i);
    let b = byte(at + i + 4u);
    let c = byte(at + i + 8u);
    let first = vec2u(a & 63u, b & 63u);
    let second = vec2u((c & 15u) | ((a >> 6u) << 4u), (c >> 4u) | ((b >> 6u) << 4u));
    return vec2f(select(first, second, sub >= 4u));
}
