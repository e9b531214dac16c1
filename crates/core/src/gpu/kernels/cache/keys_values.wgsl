// Keys and values, for the kernels of attention.

@group(0) @binding(2) var<storage, read> k: array<Stored>;
@group(0) @binding(3) var<storage, read> v: array<Stored>;

// Below every score, and finite: shaders may assume that there is no infinity.
const UNSEEN = -1e30;

// Four columns of a key, counted along the rows.
fn key_at(four: u32) -> vec4f {
    return dequantize(k[scale_at(four)], k[values_at(four)]);
}

// The same of a value.
fn value_at(four: u32) -> vec4f {
    return dequantize(v[scale_at(four)], v[values_at(four)]);
}
