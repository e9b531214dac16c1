// distance: |a_j - x_i| / sqrt(c) between tokens of the same set, from their differences.
//
//   a [batch, m, 32 blocks], x [batch, n, 32 blocks]; i = first .. first + rows
//   -> d [batch, m, rows]
//
// A workgroup of 8 x 8 threads compares 32 tokens j with 32 tokens i: 32 columns of both at once go
// through workgroup memory (see matmul), and each thread compares four with four. d(i, j) and
// d(j, i) are sums of the same squares in the same order. Neighbouring threads of all that reads d
// are neighbouring tokens i. Dispatch (ceil(rows / 32), ceil(m / 32), batch).

struct Params { m: u32, n: u32, first: u32, rows: u32, blocks: u32, scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> x: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> d: array<f32>;

var<workgroup> a_tile: array<vec4f, 256>;
var<workgroup> x_tile: array<vec4f, 256>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let first_i = group.x * 32u;
    let first_j = group.y * 32u;
    let stride = p.blocks * 8u;
    // A thread's tokens i are across + 8 c, its tokens j are down + 8 r. Tokens beyond the last
    // repeat it; what they yield is not written.
    let across = thread & 7u;
    let down = thread >> 3u;
    var sum0 = vec4f();
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    for (var block = 0u; block < p.blocks; block++) {
        let column = block * 8u + across;
        for (var r = down; r < 32u; r += 8u) {
            let j = group.z * p.m + min(first_j + r, p.m - 1u);
            let i = group.z * p.n + p.first + min(first_i + r, p.rows - 1u);
            a_tile[place(r, across)] = a[j * stride + column];
            x_tile[place(r, across)] = x[i * stride + column];
        }
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            // Eight tokens on, a place is 64 vectors on.
            let a_at = place(down, k);
            let x_at = place(across, k);
            let x0 = x_tile[x_at];
            let x1 = x_tile[x_at + 64u];
            let x2 = x_tile[x_at + 128u];
            let x3 = x_tile[x_at + 192u];
            sum0 = add_squares(sum0, a_tile[a_at], x0, x1, x2, x3);
            sum1 = add_squares(sum1, a_tile[a_at + 64u], x0, x1, x2, x3);
            sum2 = add_squares(sum2, a_tile[a_at + 128u], x0, x1, x2, x3);
            sum3 = add_squares(sum3, a_tile[a_at + 192u], x0, x1, x2, x3);
        }
        workgroupBarrier();
    }
    write(group.z * p.m, first_j + down, first_i + across, sum0);
    write(group.z * p.m, first_j + down + 8u, first_i + across, sum1);
    write(group.z * p.m, first_j + down + 16u, first_i + across, sum2);
    write(group.z * p.m, first_j + down + 24u, first_i + across, sum3);
}

// To four sums, the squares of the differences between one token and four.
fn add_squares(sum: vec4f, v: vec4f, x0: vec4f, x1: vec4f, x2: vec4f, x3: vec4f) -> vec4f {
    let e0 = v.x - vec4f(x0.x, x1.x, x2.x, x3.x);
    let e1 = v.y - vec4f(x0.y, x1.y, x2.y, x3.y);
    let e2 = v.z - vec4f(x0.z, x1.z, x2.z, x3.z);
    let e3 = v.w - vec4f(x0.w, x1.w, x2.w, x3.w);
    return sum + e0 * e0 + e1 * e1 + e2 * e2 + e3 * e3;
}

// Distances of one token j to four tokens i, eight apart.
fn write(first: u32, j: u32, i: u32, squares: vec4f) {
    if j >= p.m {
        return;
    }
    let at = (first + j) * p.rows + i;
    let sizes = sqrt(squares) * p.scale;
    if i < p.rows { d[at] = sizes.x; }
    if i + 8u < p.rows { d[at + 8u] = sizes.y; }
    if i + 16u < p.rows { d[at + 16u] = sizes.z; }
    if i + 24u < p.rows { d[at + 24u] = sizes.w; }
}
