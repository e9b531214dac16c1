// matmul: y = x W' for many rows of x (prefill, vision).
//
//   x [rows, 32 blocks], W stored: rows w_first .. w_first + part_rows of the buffer
//   -> y [rows, y_cols], columns first .. first + part_rows
//
// A workgroup computes 64 rows by 64 columns: for each 32 columns of x and W its threads put both
// tiles into workgroup memory (8 KiB each), W dequantized. 16 x 16 threads multiply four rows of x
// by four of W each, which leaves registers for as many threads at once as GPUs want. A software
// adapter counts reads instead: there 8 x 8 threads multiply eight by eight. Vectors lie along the
// columns of x, so that nothing is transposed; their places are shuffled by row (j ^ row % 8), and
// a thread's rows are as far apart as there are threads along a side, so that neighbouring threads
// meet different memory banks. The sums are named, since an array of them may end up outside of
// the registers.
// Dispatch (ceil(part_rows / 64), ceil(rows / 64), 1).
// Truth: plain f64, within 2e-5 (tests/operations).

struct Params {
    rows: u32,
    part_rows: u32,
    row_bytes: u32,
    blocks: u32,
    w_first: u32,
    first: u32,
    y_cols: u32,
    x_first: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// Threads along a side: 16 or 8.
override SIDE: u32 = 16u;

var<workgroup> x_tile: array<vec4f, 512>;
var<workgroup> w_tile: array<vec4f, 512>;

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let first_row = p.x_first + group.y * 64u;
    // Fewer rows take less time, 16 by 16.
    let rows = min(p.rows - first_row, 64u);
    let first_col = group.x * 64u;
    let stride = p.blocks * 8u;
    // What a thread fetches: `count` vectors of a row of W, and of x every so many rows one vector.
    // Rows of W beyond the last repeat it, those of x are whatever the tile held; what they yield
    // is not written.
    let count = 512u / (SIDE * SIDE);
    let w_row_in = thread * count / 8u;
    let w_j = thread * count % 8u;
    let w_row = (p.w_first + min(first_col + w_row_in, p.part_rows - 1u)) * p.row_bytes;
    let x_j = thread & 7u;
    // What it computes: rows down + SIDE r, columns across + SIDE c.
    let across = thread % SIDE;
    let down = thread / SIDE;
    // Eight rows on, a place is 64 vectors on.
    let next = SIDE * 8u;
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
        let h = head(w_row, block);
        for (var j = w_j; j < w_j + count; j++) {
            w_tile[place(w_row_in, j)] = four(h, j);
        }
        for (var r = thread >> 3u; r < rows; r += SIDE * SIDE / 8u) {
            x_tile[place(r, x_j)] = x[(first_row + r) * stride + block * 8u + x_j];
        }
        workgroupBarrier();
        for (var j = 0u; j < 8u; j++) {
            let x_at = place(down, j);
            let w_at = place(across, j);
            let w0 = w_tile[w_at];
            let w1 = w_tile[w_at + next];
            let w2 = w_tile[w_at + next * 2u];
            let w3 = w_tile[w_at + next * 3u];
            if SIDE == 16u {
                a0 = add_products(a0, x_tile[x_at], w0, w1, w2, w3);
                if rows > 16u { a1 = add_products(a1, x_tile[x_at + next], w0, w1, w2, w3); }
                if rows > 32u { a2 = add_products(a2, x_tile[x_at + next * 2u], w0, w1, w2, w3); }
                if rows > 48u { a3 = add_products(a3, x_tile[x_at + next * 3u], w0, w1, w2, w3); }
                continue;
            }
            let w4 = w_tile[w_at + next * 4u];
            let w5 = w_tile[w_at + next * 5u];
            let w6 = w_tile[w_at + next * 6u];
            let w7 = w_tile[w_at + next * 7u];
            let x0 = x_tile[x_at];
            let x1 = x_tile[x_at + next];
            a0 = add_products(a0, x0, w0, w1, w2, w3);
            b0 = add_products(b0, x0, w4, w5, w6, w7);
            a1 = add_products(a1, x1, w0, w1, w2, w3);
            b1 = add_products(b1, x1, w4, w5, w6, w7);
            if rows > 16u {
                let x2 = x_tile[x_at + next * 2u];
                let x3 = x_tile[x_at + next * 3u];
                a2 = add_products(a2, x2, w0, w1, w2, w3);
                b2 = add_products(b2, x2, w4, w5, w6, w7);
                a3 = add_products(a3, x3, w0, w1, w2, w3);
                b3 = add_products(b3, x3, w4, w5, w6, w7);
            }
            if rows > 32u {
                let x4 = x_tile[x_at + next * 4u];
                let x5 = x_tile[x_at + next * 5u];
                a4 = add_products(a4, x4, w0, w1, w2, w3);
                b4 = add_products(b4, x4, w4, w5, w6, w7);
                a5 = add_products(a5, x5, w0, w1, w2, w3);
                b5 = add_products(b5, x5, w4, w5, w6, w7);
            }
            if rows > 48u {
                let x6 = x_tile[x_at + next * 6u];
                let x7 = x_tile[x_at + next * 7u];
                a6 = add_products(a6, x6, w0, w1, w2, w3);
                b6 = add_products(b6, x6, w4, w5, w6, w7);
                a7 = add_products(a7, x7, w0, w1, w2, w3);
                b7 = add_products(b7, x7, w4, w5, w6, w7);
            }
        }
        workgroupBarrier();
    }
    write(first_row + down, first_col + across, a0);
    write(first_row + down + SIDE, first_col + across, a1);
    write(first_row + down + SIDE * 2u, first_col + across, a2);
    write(first_row + down + SIDE * 3u, first_col + across, a3);
    if SIDE == 8u {
        write(first_row + down + SIDE * 4u, first_col + across, a4);
        write(first_row + down + SIDE * 5u, first_col + across, a5);
        write(first_row + down + SIDE * 6u, first_col + across, a6);
        write(first_row + down + SIDE * 7u, first_col + across, a7);
        write(first_row + down, first_col + across + SIDE * 4u, b0);
        write(first_row + down + SIDE, first_col + across + SIDE * 4u, b1);
        write(first_row + down + SIDE * 2u, first_col + across + SIDE * 4u, b2);
        write(first_row + down + SIDE * 3u, first_col + across + SIDE * 4u, b3);
        write(first_row + down + SIDE * 4u, first_col + across + SIDE * 4u, b4);
        write(first_row + down + SIDE * 5u, first_col + across + SIDE * 4u, b5);
        write(first_row + down + SIDE * 6u, first_col + across + SIDE * 4u, b6);
        write(first_row + down + SIDE * 7u, first_col + across + SIDE * 4u, b7);
    }
}

// Four columns of a row, as far apart as the threads' are.
fn write(row: u32, col: u32, v: vec4f) {
    if row >= p.rows {
        return;
    }
    let at = row * p.y_cols + p.first + col;
    if col < p.part_rows { y[at] = v.x; }
    if col + SIDE < p.part_rows { y[at + SIDE] = v.y; }
    if col + SIDE * 2u < p.part_rows { y[at + SIDE * 2u] = v.z; }
    if col + SIDE * 3u < p.part_rows { y[at + SIDE * 3u] = v.w; }
}
