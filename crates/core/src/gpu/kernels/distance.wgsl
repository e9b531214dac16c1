// distance: |a_j - x_i| / sqrt(c) between tokens of the same set, from their differences.
//
//   a [batch, m, 4 cols4], x [batch, n, 4 cols4]; i = first .. first + rows -> d [batch, m, rows]
//
// One thread per token i and eight tokens j, whose addresses are the same for the whole workgroup.
// d(i, j) and d(j, i) are sums of the same squares in the same order, so they are equal to the bit.
// Neighbouring threads of all that reads d are neighbouring tokens i. Dispatch (ceil(rows / 64), ceil(m / 8), batch).

struct Params { m: u32, n: u32, first: u32, rows: u32, cols4: u32, scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> x: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> d: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let r = group.x * 64u + thread;
    let i = (group.z * p.n + p.first + min(r, p.rows - 1u)) * p.cols4;
    // Tokens beyond the last repeat it; what they yield is not written.
    let j = group.y * 8u;
    let last = p.m - 1u;
    let base = group.z * p.m;
    let j0 = (base + j) * p.cols4;
    let j1 = (base + min(j + 1u, last)) * p.cols4;
    let j2 = (base + min(j + 2u, last)) * p.cols4;
    let j3 = (base + min(j + 3u, last)) * p.cols4;
    let j4 = (base + min(j + 4u, last)) * p.cols4;
    let j5 = (base + min(j + 5u, last)) * p.cols4;
    let j6 = (base + min(j + 6u, last)) * p.cols4;
    let j7 = (base + min(j + 7u, last)) * p.cols4;
    var sum0 = vec4f();
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    var sum4 = vec4f();
    var sum5 = vec4f();
    var sum6 = vec4f();
    var sum7 = vec4f();
    for (var c = 0u; c < p.cols4; c++) {
        let own = x[i + c];
        sum0 += square(a[j0 + c] - own);
        sum1 += square(a[j1 + c] - own);
        sum2 += square(a[j2 + c] - own);
        sum3 += square(a[j3 + c] - own);
        sum4 += square(a[j4 + c] - own);
        sum5 += square(a[j5 + c] - own);
        sum6 += square(a[j6 + c] - own);
        sum7 += square(a[j7 + c] - own);
    }
    if r < p.rows {
        let at = (base + j) * p.rows + r;
        d[at] = size(sum0);
        if j + 1u <= last { d[at + p.rows] = size(sum1); }
        if j + 2u <= last { d[at + p.rows * 2u] = size(sum2); }
        if j + 3u <= last { d[at + p.rows * 3u] = size(sum3); }
        if j + 4u <= last { d[at + p.rows * 4u] = size(sum4); }
        if j + 5u <= last { d[at + p.rows * 5u] = size(sum5); }
        if j + 6u <= last { d[at + p.rows * 6u] = size(sum6); }
        if j + 7u <= last { d[at + p.rows * 7u] = size(sum7); }
    }
}

fn square(v: vec4f) -> vec4f {
    return v * v;
}

fn size(squares: vec4f) -> f32 {
    return sqrt((squares.x + squares.y) + (squares.z + squares.w)) * p.scale;
}
