// matvec: y = x W' for few rows of x (decoding).
//
//   x [rows, 32 blocks], W part [part_rows, cols] stored
//   -> y [rows, y_cols], columns first .. first + part_rows
//
// One workgroup per eight rows of W and one row of x. 64 threads sweep the blocks of 32 columns, so
// that neighbours read neighbouring blocks, and use each 32 numbers of x eight times; the partial
// sums meet in workgroup memory. The loop over the eight rows is left to the compiler to unroll:
// written out it is so long that software adapters spend their time fetching instructions.
// Dispatch (ceil(part_rows / 8), rows, 1), x folded into z.
// Truth: plain f64, within 2e-5 (tests/operations.rs).

struct Params { part_rows: u32, row_bytes: u32, blocks: u32, first: u32, y_cols: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const ROWS = 8u;

// Sums of rows 0 .. 3 of every thread, then of rows 4 .. 7; and the same of every eight threads.
var<workgroup> partial: array<vec4f, 128>;
var<workgroup> of_eight: array<vec4f, 16>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let row = (group.x + (group.z << 15u)) * ROWS;
    let x_row = group.y * p.blocks * 8u;
    // Rows beyond the last repeat it; what they yield is not written.
    let last = p.part_rows - 1u;
    var sums: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        sums[r] = 0.0;
    }
    for (var b = thread; b < p.blocks; b += 64u) {
        let i = x_row + b * 8u;
        let v = Block(x[i], x[i + 1u], x[i + 2u], x[i + 3u], x[i + 4u], x[i + 5u], x[i + 6u], x[i + 7u]);
        for (var r = 0u; r < ROWS; r++) {
            sums[r] += dot32(block32(min(row + r, last) * p.row_bytes, b), v);
        }
    }
    partial[thread] = vec4f(sums[0], sums[1], sums[2], sums[3]);
    partial[64u + thread] = vec4f(sums[4], sums[5], sums[6], sums[7]);
    workgroupBarrier();
    if thread < 16u {
        of_eight[thread] = partial[thread * 8u] + partial[thread * 8u + 1u]
            + partial[thread * 8u + 2u] + partial[thread * 8u + 3u]
            + partial[thread * 8u + 4u] + partial[thread * 8u + 5u]
            + partial[thread * 8u + 6u] + partial[thread * 8u + 7u];
    }
    workgroupBarrier();
    if thread < 2u {
        let at = thread * 8u;
        let sum = of_eight[at] + of_eight[at + 1u] + of_eight[at + 2u] + of_eight[at + 3u]
            + of_eight[at + 4u] + of_eight[at + 5u] + of_eight[at + 6u] + of_eight[at + 7u];
        let first = row + thread * 4u;
        let to = group.y * p.y_cols + p.first + first;
        if first <= last { y[to] = sum.x; }
        if first + 1u <= last { y[to + 1u] = sum.y; }
        if first + 2u <= last { y[to + 2u] = sum.z; }
        if first + 3u <= last { y[to + 3u] = sum.w; }
    }
}

fn dot32(a: Block, b: Block) -> f32 {
    let v = a.w0 * b.w0 + a.w1 * b.w1 + a.w2 * b.w2 + a.w3 * b.w3
          + a.w4 * b.w4 + a.w5 * b.w5 + a.w6 * b.w6 + a.w7 * b.w7;
    return (v.x + v.y) + (v.z + v.w);
}
