// For Q5_0 and Q5_1: 32 fifth bits before 16 bytes of quants. Byte j holds weight j in its low
// nibble and weight j + 16 in its high one; bit i is above weight i.

fn quants(h: Head, j: u32) -> vec4f {
    let low = (word(h.at + 4u + (j & 3u) * 4u) >> ((j >> 2u) * 4u)) & 0x0f0f0f0fu;
    let bits = word(h.at) >> (j * 4u);
    let high = ((bits & 1u) << 4u) | ((bits & 2u) << 11u) | ((bits & 4u) << 18u)
        | ((bits & 8u) << 25u);
    return unsigned4(low | high);
}
