// matvec: y = x W' for few rows of x (decoding).
//
//   x [rows, 32 blocks], W part [part_rows, cols] stored -> y [rows, y_cols], columns first .. first + part_rows
//
// One workgroup per four rows of W and one row of x. 64 threads sweep the blocks of 32 columns, so
// that neighbours read neighbouring blocks, and use each 32 numbers of x four times; the partial
// sums meet in workgroup memory. Dispatch (ceil(part_rows / 4), rows, 1), x folded into z.
// Truth: plain f64, within 2e-5 (tests/operations.rs).

struct Params { part_rows: u32, row_bytes: u32, blocks: u32, first: u32, y_cols: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> partial: array<vec4f, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let row = (group.x + (group.z << 15u)) * 4u;
    let x_row = group.y * p.blocks * 8u;
    // Rows beyond the last repeat it; what they yield is not written.
    let last = p.part_rows - 1u;
    let row0 = min(row, last) * p.row_bytes;
    let row1 = min(row + 1u, last) * p.row_bytes;
    let row2 = min(row + 2u, last) * p.row_bytes;
    let row3 = min(row + 3u, last) * p.row_bytes;
    var sum0 = vec4f();
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    for (var b = thread; b < p.blocks; b += 64u) {
        let i = x_row + b * 8u;
        let v = Block(x[i], x[i + 1u], x[i + 2u], x[i + 3u], x[i + 4u], x[i + 5u], x[i + 6u], x[i + 7u]);
        sum0 += products(block32(row0, b), v);
        sum1 += products(block32(row1, b), v);
        sum2 += products(block32(row2, b), v);
        sum3 += products(block32(row3, b), v);
    }
    partial[thread] = vec4f(total(sum0), total(sum1), total(sum2), total(sum3));
    workgroupBarrier();
    if thread < 4u && row + thread <= last {
        var sum = 0.0;
        for (var i = 0u; i < 64u; i++) {
            sum += partial[i][thread];
        }
        y[group.y * p.y_cols + p.first + row + thread] = sum;
    }
}

fn products(a: Block, b: Block) -> vec4f {
    return a.w0 * b.w0 + a.w1 * b.w1 + a.w2 * b.w2 + a.w3 * b.w3
         + a.w4 * b.w4 + a.w5 * b.w5 + a.w6 * b.w6 + a.w7 * b.w7;
}

fn total(v: vec4f) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
