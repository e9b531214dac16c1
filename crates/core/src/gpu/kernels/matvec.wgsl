// matvec: y = x W' for few rows of x (decoding).
//
//   x [rows, 32 blocks], W part [part_rows, cols] stored
//   -> y [rows, y_cols], columns first .. first + part_rows
//
// One workgroup per four rows of W and one row of x. 64 threads sweep the blocks of 32 columns, so
// that neighbours read neighbouring blocks, and use each four numbers of x for the four rows at
// once. Quants are multiplied as they are stored; the sum of each half block is scaled, and what
// the type takes off or adds to every weight goes through the sum of x. The partial sums meet in
// workgroup memory. On a software adapter, where barriers take far longer than reads that lie
// apart, each of 16 threads has four rows of its own.
// Dispatch (ceil(part_rows / 4), rows, 1), or (ceil(part_rows / 64), rows, 1), x folded into z.
// Truth: plain f64, within 2e-5 (tests/operations.rs).

// Threads of a workgroup: 64 that share four rows, or 16 that share none.
override THREADS: u32 = 64u;

struct Params { part_rows: u32, row_bytes: u32, blocks: u32, first: u32, y_cols: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// The same block of four rows.
struct Rows { r0: Head, r1: Head, r2: Head, r3: Head }

// The sums of four rows, of every thread and of every eight.
var<workgroup> partial: array<vec4f, 64>;
var<workgroup> of_eight: array<vec4f, 8>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let sharing = THREADS == 64u;
    let number = group.x + (group.z << 15u);
    let row = select(number * 16u + thread, number, sharing) * 4u;
    let x_row = group.y * p.blocks * 8u;
    // Rows beyond the last repeat it; what they yield is not written.
    let last = p.part_rows - 1u;
    let row0 = min(row, last) * p.row_bytes;
    let row1 = min(row + 1u, last) * p.row_bytes;
    let row2 = min(row + 2u, last) * p.row_bytes;
    let row3 = min(row + 3u, last) * p.row_bytes;
    var sums = vec4f();
    let step = select(1u, 64u, sharing);
    for (var b = select(0u, thread, sharing); b < p.blocks; b += step) {
        let i = x_row + b * 8u;
        let h = Rows(head(row0, b), head(row1, b), head(row2, b), head(row3, b));
        var of_x = sum4((x[i] + x[i + 1u]) + (x[i + 2u] + x[i + 3u]));
        var half = products(h, 0u, x[i], vec4f());
        half = products(h, 1u, x[i + 1u], half);
        half = products(h, 2u, x[i + 2u], half);
        half = products(h, 3u, x[i + 3u], half);
        sums += vec4f(h.r0.scale.x, h.r1.scale.x, h.r2.scale.x, h.r3.scale.x) * (half - BIAS.x * of_x)
            + vec4f(h.r0.offset.x, h.r1.offset.x, h.r2.offset.x, h.r3.offset.x) * of_x;
        of_x = sum4((x[i + 4u] + x[i + 5u]) + (x[i + 6u] + x[i + 7u]));
        half = products(h, 4u, x[i + 4u], vec4f());
        half = products(h, 5u, x[i + 5u], half);
        half = products(h, 6u, x[i + 6u], half);
        half = products(h, 7u, x[i + 7u], half);
        sums += vec4f(h.r0.scale.y, h.r1.scale.y, h.r2.scale.y, h.r3.scale.y) * (half - BIAS.y * of_x)
            + vec4f(h.r0.offset.y, h.r1.offset.y, h.r2.offset.y, h.r3.offset.y) * of_x;
    }
    if sharing {
        partial[thread] = sums;
        workgroupBarrier();
        if thread < 8u {
            let at = thread * 8u;
            of_eight[thread] = partial[at] + partial[at + 1u] + partial[at + 2u] + partial[at + 3u]
                + partial[at + 4u] + partial[at + 5u] + partial[at + 6u] + partial[at + 7u];
        }
        workgroupBarrier();
        if thread != 0u {
            return;
        }
        sums = of_eight[0] + of_eight[1] + of_eight[2] + of_eight[3]
            + of_eight[4] + of_eight[5] + of_eight[6] + of_eight[7];
    }
    let to = group.y * p.y_cols + p.first + row;
    if row <= last { y[to] = sums.x; }
    if row + 1u <= last { y[to + 1u] = sums.y; }
    if row + 2u <= last { y[to + 2u] = sums.z; }
    if row + 3u <= last { y[to + 3u] = sums.w; }
}

// To the sums of four rows, the products of their columns 4 j .. 4 j + 3 with `v`.
fn products(rows: Rows, j: u32, v: vec4f, sums: vec4f) -> vec4f {
    return vec4f(add_product(sums.x, quants(rows.r0, j), v), add_product(sums.y, quants(rows.r1, j), v),
                 add_product(sums.z, quants(rows.r2, j), v), add_product(sums.w, quants(rows.r3, j), v));
}

fn add_product(sum: f32, a: vec4f, b: vec4f) -> f32 {
    return sum + a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}

fn sum4(v: vec4f) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
