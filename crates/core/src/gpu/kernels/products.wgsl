// Products of tiles of 32 columns, whose vectors lie along the columns.

// To four sums, the products of one row with four.
fn add_products(sum: vec4f, x: vec4f, w0: vec4f, w1: vec4f, w2: vec4f, w3: vec4f) -> vec4f {
    return sum
        + x.x * vec4f(w0.x, w1.x, w2.x, w3.x)
        + x.y * vec4f(w0.y, w1.y, w2.y, w3.y)
        + x.z * vec4f(w0.z, w1.z, w2.z, w3.z)
        + x.w * vec4f(w0.w, w1.w, w2.w, w3.w);
}
