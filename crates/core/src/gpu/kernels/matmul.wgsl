// matmul: y = x W' for many rows of x (prefill, vision).
//
//   x [rows, 32 blocks], W part [part_rows, cols] stored
//   -> y [rows, y_cols], columns first .. first + part_rows
//
// A workgroup of 8 x 8 threads computes 64 rows by 64 columns: for each 32 columns of x and W its
// threads dequantize a row of W each, put both tiles into workgroup memory (8 KiB each), and then
// every thread multiplies 8 rows of x by 8 rows of W. Vectors lie along the columns of x, so that
// nothing is transposed; their places are shuffled by row (j ^ row % 8), and a thread's rows are 8
// apart, so that neighbouring threads meet different memory banks. The sums are named, since an
// array of them may end up outside of the registers.
// Dispatch (ceil(part_rows / 64), ceil(rows / 64), 1).
// Truth: plain f64, within 2e-5 (tests/operations.rs).

struct Params { rows: u32, part_rows: u32, row_bytes: u32, blocks: u32, first: u32, y_cols: u32, x_first: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> x_tile: array<vec4f, 512>;
var<workgroup> w_tile: array<vec4f, 512>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let first_row = p.x_first + group.y * 64u;
    // Fewer rows take less time, 16 by 16.
    let rows = min(p.rows - first_row, 64u);
    let first_col = group.x * 64u;
    let stride = p.blocks * 8u;
    // What a thread fetches: a row of W, and of x every eighth row, 4 columns of it. Rows of W
    // beyond the last repeat it, those of x are whatever the tile held; what they yield is not
    // written.
    let w_row = min(first_col + thread, p.part_rows - 1u) * p.row_bytes;
    let j_in = thread & 7u;
    let row_in = thread >> 3u;
    // What it computes: rows down + 8 r, columns across + 8 c.
    let across = thread & 7u;
    let down = thread >> 3u;
    var a0 = vec4f(); // Row 0, columns 0 .. 3.
    var a1 = vec4f();
    var a2 = vec4f();
    var a3 = vec4f();
    var a4 = vec4f();
    var a5 = vec4f();
    var a6 = vec4f();
    var a7 = vec4f();
    var b0 = vec4f(); // Row 0, columns 4 .. 7.
    var b1 = vec4f();
    var b2 = vec4f();
    var b3 = vec4f();
    var b4 = vec4f();
    var b5 = vec4f();
    var b6 = vec4f();
    var b7 = vec4f();
    for (var block = 0u; block < p.blocks; block++) {
        let q = block32(w_row, block);
        put_w(thread, 0u, q.w0);
        put_w(thread, 1u, q.w1);
        put_w(thread, 2u, q.w2);
        put_w(thread, 3u, q.w3);
        put_w(thread, 4u, q.w4);
        put_w(thread, 5u, q.w5);
        put_w(thread, 6u, q.w6);
        put_w(thread, 7u, q.w7);
        for (var r = row_in; r < rows; r += 8u) {
            x_tile[place(r, j_in)] = x[(first_row + r) * stride + block * 8u + j_in];
        }
        workgroupBarrier();
        for (var j = 0u; j < 8u; j++) {
            // Eight rows on, a place is 64 vectors on.
            let x_at = place(down, j);
            let w_at = place(across, j);
            let w0 = w_tile[w_at];
            let w1 = w_tile[w_at + 64u];
            let w2 = w_tile[w_at + 128u];
            let w3 = w_tile[w_at + 192u];
            let w4 = w_tile[w_at + 256u];
            let w5 = w_tile[w_at + 320u];
            let w6 = w_tile[w_at + 384u];
            let w7 = w_tile[w_at + 448u];
            let x0 = x_tile[x_at];
            let x1 = x_tile[x_at + 64u];
            a0 = add_products(a0, x0, w0, w1, w2, w3);
            b0 = add_products(b0, x0, w4, w5, w6, w7);
            a1 = add_products(a1, x1, w0, w1, w2, w3);
            b1 = add_products(b1, x1, w4, w5, w6, w7);
            if rows > 16u {
                let x2 = x_tile[x_at + 128u];
                let x3 = x_tile[x_at + 192u];
                a2 = add_products(a2, x2, w0, w1, w2, w3);
                b2 = add_products(b2, x2, w4, w5, w6, w7);
                a3 = add_products(a3, x3, w0, w1, w2, w3);
                b3 = add_products(b3, x3, w4, w5, w6, w7);
            }
            if rows > 32u {
                let x4 = x_tile[x_at + 256u];
                let x5 = x_tile[x_at + 320u];
                a4 = add_products(a4, x4, w0, w1, w2, w3);
                b4 = add_products(b4, x4, w4, w5, w6, w7);
                a5 = add_products(a5, x5, w0, w1, w2, w3);
                b5 = add_products(b5, x5, w4, w5, w6, w7);
            }
            if rows > 48u {
                let x6 = x_tile[x_at + 384u];
                let x7 = x_tile[x_at + 448u];
                a6 = add_products(a6, x6, w0, w1, w2, w3);
                b6 = add_products(b6, x6, w4, w5, w6, w7);
                a7 = add_products(a7, x7, w0, w1, w2, w3);
                b7 = add_products(b7, x7, w4, w5, w6, w7);
            }
        }
        workgroupBarrier();
    }
    write(first_row + down, first_col + across, a0, b0);
    write(first_row + down + 8u, first_col + across, a1, b1);
    write(first_row + down + 16u, first_col + across, a2, b2);
    write(first_row + down + 24u, first_col + across, a3, b3);
    write(first_row + down + 32u, first_col + across, a4, b4);
    write(first_row + down + 40u, first_col + across, a5, b5);
    write(first_row + down + 48u, first_col + across, a6, b6);
    write(first_row + down + 56u, first_col + across, a7, b7);
}

fn put_w(row: u32, j: u32, v: vec4f) {
    w_tile[place(row, j)] = v;
}

// One row of results, eight columns apart.
fn write(row: u32, col: u32, a: vec4f, b: vec4f) {
    if row >= p.rows {
        return;
    }
    let at = row * p.y_cols + p.first + col;
    if col < p.part_rows { y[at] = a.x; }
    if col + 8u < p.part_rows { y[at + 8u] = a.y; }
    if col + 16u < p.part_rows { y[at + 16u] = a.z; }
    if col + 24u < p.part_rows { y[at + 24u] = a.w; }
    if col + 32u < p.part_rows { y[at + 32u] = b.x; }
    if col + 40u < p.part_rows { y[at + 40u] = b.y; }
    if col + 48u < p.part_rows { y[at + 48u] = b.z; }
    if col + 56u < p.part_rows { y[at + 56u] = b.w; }
}
