// Types of 32 weights whose byte j holds weight j in its low nibble and weight j + 16 in its high
// one. High nibbles stay where they are, and count 16 times.

fn quants(h: Head, j: u32) -> vec4f {
    let mask = select(0x0f0f0f0fu, 0xf0f0f0f0u, j >= 4u);
    return unsigned4(word(h.at + (j & 3u) * 4u) & mask);
}
