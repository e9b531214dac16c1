// Stored weights, in front of every kernel that reads them. After this comes the file of one type:
//
//   fn block32(row: u32, b: u32) -> Block    columns 32 b .. 32 b + 31 of the row at byte `row`
//
// The buffer holds the bytes of the GGUF file as they are. Blocks begin at even bytes, so a word of
// a block may lie across two of the buffer. Nothing is ever read through an f16 view: packed
// integers may look like NaN.

@group(0) @binding(1) var<storage, read> w: array<u32>;

// 32 weights in column order.
struct Block {
    w0: vec4f, w1: vec4f, w2: vec4f, w3: vec4f,
    w4: vec4f, w5: vec4f, w6: vec4f, w7: vec4f,
}

// A word that begins in the middle of `lo`, or, for an even start, `lo` itself.
fn straddle(lo: u32, hi: u32, odd: bool) -> u32 {
    return select(lo, (lo >> 16u) | (hi << 16u), odd);
}

// The 4 bytes at the even byte `at`.
fn word(at: u32) -> u32 {
    let i = at >> 2u;
    return straddle(w[i], w[i + 1u], (at & 2u) != 0u);
}

// The 2 bytes at the even byte `at`.
fn half(at: u32) -> u32 {
    return (w[at >> 2u] >> ((at & 2u) * 8u)) & 0xffffu;
}

// The byte `at`.
fn byte(at: u32) -> u32 {
    return (w[at >> 2u] >> ((at & 3u) * 8u)) & 0xffu;
}

// The 32 bytes at the even byte `at`.
fn words8(at: u32) -> array<u32, 8> {
    let i = at >> 2u;
    let odd = (at & 2u) != 0u;
    let a = w[i];
    let b = w[i + 1u];
    let c = w[i + 2u];
    let d = w[i + 3u];
    let e = w[i + 4u];
    let f = w[i + 5u];
    let g = w[i + 6u];
    let h = w[i + 7u];
    let j = w[i + 8u];
    return array<u32, 8>(
        straddle(a, b, odd), straddle(b, c, odd), straddle(c, d, odd), straddle(d, e, odd),
        straddle(e, f, odd), straddle(f, g, odd), straddle(g, h, odd), straddle(h, j, odd),
    );
}

// The 16 bytes at the even byte `at`.
fn words4(at: u32) -> vec4u {
    let i = at >> 2u;
    let odd = (at & 2u) != 0u;
    let a = w[i];
    let b = w[i + 1u];
    let c = w[i + 2u];
    let d = w[i + 3u];
    let e = w[i + 4u];
    return vec4u(straddle(a, b, odd), straddle(b, c, odd), straddle(c, d, odd), straddle(d, e, odd));
}

// The IEEE half in the low 16 bits of each lane, exactly. Not unpack2x16float, which may flush
// subnormals, and scales of small blocks are subnormal. The exponent is put together by hand and
// the mantissa, with its leading bit if it has one, converted as an integer.
fn f16_to_f32(h: vec4u) -> vec4f {
    let exponent = (h >> vec4u(10u)) & vec4u(31u);
    let mantissa = (h & vec4u(1023u)) | (min(exponent, vec4u(1u)) << vec4u(10u));
    let power = (max(exponent, vec4u(1u)) + vec4u(102u)) << vec4u(23u);
    return vec4f(mantissa) * bitcast<vec4f>(power | ((h & vec4u(0x8000u)) << vec4u(16u)));
}

// The same for one number.
fn f16_scalar(h: u32) -> f32 {
    let exponent = (h >> 10u) & 31u;
    let mantissa = (h & 1023u) | (min(exponent, 1u) << 10u);
    let power = (max(exponent, 1u) + 102u) << 23u;
    return f32(mantissa) * bitcast<f32>(power | ((h & 0x8000u) << 16u));
}

// The four bytes of `q`, lowest first.
fn unsigned4(q: u32) -> vec4f {
    return vec4f((vec4u(q) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u));
}

// The four signed bytes of `q`, lowest first.
fn signed4(q: u32) -> vec4f {
    return vec4f(bitcast<vec4i>(vec4u(q) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
}
