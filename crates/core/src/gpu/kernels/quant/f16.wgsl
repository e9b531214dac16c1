// F16: IEEE halves.

fn widen(q: u32) -> vec2f {
    return halves(q);
}
