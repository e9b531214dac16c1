// Stored weights, in front of every kernel that reads them. After this comes the file of one type:
//
//   fn head(row: u32, b: u32) -> Head       of columns 32 b .. 32 b + 31 of the row at byte `row`
//   fn quants(h: Head, j: u32) -> vec4f     columns 4 j .. 4 j + 3 of them, as they are stored
//   const BIAS                              quant - bias is what the scale multiplies
//   const WHOLE_WORDS                       whether blocks begin and end at whole words
//   const PLAIN                             whether quants are the weights
//
//   weight = (quant - bias) * scale + offset, each of them a pair: columns 0 .. 15 and 16 .. 31
//
// A product with one row multiplies quants and applies the other three to their sum.
//
// The buffer holds the bytes of the GGUF file as they are. Blocks begin at even bytes, so a word of
// a block may lie across two of the buffer. Nothing is ever read through an f16 view: packed
// integers may look like NaN.

@group(0) @binding(1) var<storage, read> w: array<u32>;

// Whether unpack2x16float is exact: it may flush subnormals, and scales of small blocks are
// subnormal. The device is asked when it is opened.
override HALVES_ARE_EXACT: bool = false;

struct Head {
    // The byte where the quants begin, or what the type wants.
    at: u32,
    // Which 32 columns of 256, where a block has so many.
    sub: u32,
    scale: vec2f,
    offset: vec2f,
}

// Four weights.
fn four(h: Head, j: u32) -> vec4f {
    if PLAIN {
        return quants(h, j); // Arithmetic may flush subnormals.
    }
    let second = j >= 4u;
    return (quants(h, j) - select(BIAS.x, BIAS.y, second)) * select(h.scale.x, h.scale.y, second)
        + select(h.offset.x, h.offset.y, second);
}

// A word that begins in the middle of `lo`, or, for an even start, `lo` itself.
fn straddle(lo: u32, hi: u32, odd: bool) -> u32 {
    return select(lo, (lo >> 16u) | (hi << 16u), odd);
}

// The 4 bytes at the even byte `at`.
fn word(at: u32) -> u32 {
    let i = at >> 2u;
    if WHOLE_WORDS {
        return w[i];
    }
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

// Two IEEE halves, exactly. Without unpack2x16float the exponent is put together by hand, and the
// mantissa, with its leading bit if it has one, converted as an integer.
fn halves(h: u32) -> vec2f {
    if HALVES_ARE_EXACT {
        return unpack2x16float(h);
    }
    let bits = vec2u(h, h >> 16u);
    let exponent = (bits >> vec2u(10u)) & vec2u(31u);
    let mantissa = (bits & vec2u(1023u)) | (min(exponent, vec2u(1u)) << vec2u(10u));
    let power = (max(exponent, vec2u(1u)) + vec2u(102u)) << vec2u(23u);
    return vec2f(mantissa) * bitcast<vec2f>(power | ((bits & vec2u(0x8000u)) << vec2u(16u)));
}

// The four bytes of `q`, lowest first.
fn unsigned4(q: u32) -> vec4f {
    return vec4f((vec4u(q) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u));
}
