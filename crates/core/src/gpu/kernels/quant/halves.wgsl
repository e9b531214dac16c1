// Types of 16 bits a weight: `four` widens the four weights of two words.

fn block32(row: u32, b: u32) -> Block {
    let lo = words8(row + b * 64u);
    let hi = words8(row + b * 64u + 32u);
    return Block(four(lo[0], lo[1]), four(lo[2], lo[3]), four(lo[4], lo[5]), four(lo[6], lo[7]),
                 four(hi[0], hi[1]), four(hi[2], hi[3]), four(hi[4], hi[5]), four(hi[6], hi[7]));
}
