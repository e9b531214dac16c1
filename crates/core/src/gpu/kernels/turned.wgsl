// Rotary positions.

// Pair `pair` of a head at a position: turned by row `position` of `table [context, rotary]`, which
// holds rotary / 2 cosines and as many sines; what is behind them stays.
fn turned(v: vec2f, pair: u32, position: u32) -> vec2f {
    if pair >= p.rotary / 2u {
        return v;
    }
    let at = position * p.rotary + pair;
    let c = table[at];
    let s = table[at + p.rotary / 2u];
    return vec2f(v.x * c - v.y * s, v.x * s + v.y * c);
}
