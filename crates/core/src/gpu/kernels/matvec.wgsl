// matvec: y = x W' for few rows of x (decoding), with what stands before and behind such a product
// in a layer.
//
//   x [rows, 32 blocks], W stored: rows w_first .. w_first + part_rows of the buffer
//   -> y [rows, y_cols], columns first .. first + part_rows
//
//   NORMS   y = RMSNorm(x) W', with the norm's weights [1, 32 blocks] in `other`: the product of
//           x * weights is divided by the root mean square of x, which is summed up on the way;
//           every workgroup does so for itself, which a software adapter is spared
//   ADDS    y = other + x W', with other [rows, y_cols], y_cols % 4 == 0
//   GATES   y = silu(x G') * (x U'), where the rows of U follow those of G
//
// One workgroup per four rows of W, or two of G and two of U, and one row of x. 64 threads sweep
// the blocks of 32 columns, so that neighbours read neighbouring blocks, and use each four numbers
// of x for the four rows at once. Quants are multiplied as they are stored; the sum of each half
// block is scaled, and what the type takes off or adds to every weight goes through the sum of x.
// The partial sums meet in workgroup memory. On a software adapter, where barriers take far longer
// than reads that lie apart, each of 16 threads has four rows of its own.
// Dispatch (ceil(part_rows / 4), rows, 1), or (ceil(part_rows / 64), rows, 1), x folded into z;
// half as many rows at a time where it GATES.
// Truth: plain f64, within 2e-5 (tests/operations).

// Threads of a workgroup: 64 that share four rows, or 16 that share none.
override THREADS: u32 = 64u;
override NORMS: bool = false;
override ADDS: bool = false;
override GATES: bool = false;

struct Params {
    part_rows: u32,
    row_bytes: u32,
    blocks: u32,
    w_first: u32,
    first: u32,
    y_cols: u32,
    eps: f32,
    halves: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4f>;
@group(0) @binding(3) var<storage, read> other: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

// The same block of four rows.
struct Rows { r0: Head, r1: Head, r2: Head, r3: Head }

// The sums of four rows, of every thread and of every eight; and those of the squares of x.
var<workgroup> partial: array<vec4f, 64>;
var<workgroup> of_eight: array<vec4f, 8>;
var<workgroup> partial_squares: array<f32, 64>;
var<workgroup> squares_of_eight: array<f32, 8>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let sharing = THREADS == 64u;
    let number = group.x + (group.z << 15u);
    let row = select(number * 16u + thread, number, sharing) * select(4u, 2u, GATES);
    let x_row = group.y * p.blocks * 8u;
    // Rows beyond the last repeat it; what they yield is not written.
    let last = p.part_rows - 1u;
    let third = select(min(row + 2u, last), min(row, last) + p.part_rows, GATES);
    let fourth = select(min(row + 3u, last), min(row + 1u, last) + p.part_rows, GATES);
    let row0 = (p.w_first + min(row, last)) * p.row_bytes;
    let row1 = (p.w_first + min(row + 1u, last)) * p.row_bytes;
    let row2 = (p.w_first + third) * p.row_bytes;
    let row3 = (p.w_first + fourth) * p.row_bytes;
    var sums = vec4f();
    var squares = 0.0;
    let step = select(1u, 64u, sharing);
    for (var b = select(0u, thread, sharing); b < p.blocks; b += step) {
        let i = x_row + b * 8u;
        let h = Rows(head(row0, b), head(row1, b), head(row2, b), head(row3, b));
        var half = half_products(h, i, b * 8u, 0u, &squares);
        sums += vec4f(h.r0.scale.x, h.r1.scale.x, h.r2.scale.x, h.r3.scale.x) * (half.sums - BIAS.x * half.of_x)
            + vec4f(h.r0.offset.x, h.r1.offset.x, h.r2.offset.x, h.r3.offset.x) * half.of_x;
        // Always, which no compiler knows: what is read for both halves at once takes so many
        // registers that half as many threads run.
        if p.halves > 1u {
            half = half_products(h, i, b * 8u, 4u, &squares);
            sums += vec4f(h.r0.scale.y, h.r1.scale.y, h.r2.scale.y, h.r3.scale.y) * (half.sums - BIAS.y * half.of_x)
                + vec4f(h.r0.offset.y, h.r1.offset.y, h.r2.offset.y, h.r3.offset.y) * half.of_x;
        }
    }
    if sharing {
        partial[thread] = sums;
        if NORMS { partial_squares[thread] = squares; }
        workgroupBarrier();
        if thread < 8u {
            let at = thread * 8u;
            of_eight[thread] = partial[at] + partial[at + 1u] + partial[at + 2u] + partial[at + 3u]
                + partial[at + 4u] + partial[at + 5u] + partial[at + 6u] + partial[at + 7u];
            if NORMS {
                var sum = 0.0;
                for (var j = 0u; j < 8u; j++) {
                    sum += partial_squares[at + j];
                }
                squares_of_eight[thread] = sum;
            }
        }
        workgroupBarrier();
        if thread != 0u {
            return;
        }
        sums = of_eight[0] + of_eight[1] + of_eight[2] + of_eight[3]
            + of_eight[4] + of_eight[5] + of_eight[6] + of_eight[7];
        if NORMS {
            squares = 0.0;
            for (var j = 0u; j < 8u; j++) {
                squares += squares_of_eight[j];
            }
        }
    }
    if NORMS {
        sums *= 1.0 / sqrt(squares / f32(p.blocks * 32u) + p.eps);
    }
    let to = group.y * p.y_cols + p.first + row;
    if GATES {
        // The exponents are bounded, so that nothing overflows.
        let silu = sums.xy / (1.0 + exp(min(-sums.xy, vec2f(80.0)))) * sums.zw;
        if row <= last { y[to] = silu.x; }
        if row + 1u <= last { y[to + 1u] = silu.y; }
        return;
    }
    if row <= last { write(to, sums.x); }
    if row + 1u <= last { write(to + 1u, sums.y); }
    if row + 2u <= last { write(to + 2u, sums.z); }
    if row + 3u <= last { write(to + 3u, sums.w); }
}

// Columns 4 first .. 4 first + 15 of a block that begins at `i` of x and at `column` of the norm:
// the products with four rows, and the sum of x.
struct Half { sums: vec4f, of_x: f32 }

fn half_products(h: Rows, i: u32, column: u32, first: u32, squares: ptr<function, f32>) -> Half {
    var v0 = x[i + first];
    var v1 = x[i + first + 1u];
    var v2 = x[i + first + 2u];
    var v3 = x[i + first + 3u];
    if NORMS {
        *squares += sum4((v0 * v0 + v1 * v1) + (v2 * v2 + v3 * v3));
        v0 *= other[column + first];
        v1 *= other[column + first + 1u];
        v2 *= other[column + first + 2u];
        v3 *= other[column + first + 3u];
    }
    var sums = products(h, first, v0, vec4f());
    sums = products(h, first + 1u, v1, sums);
    sums = products(h, first + 2u, v2, sums);
    sums = products(h, first + 3u, v3, sums);
    return Half(sums, sum4((v0 + v1) + (v2 + v3)));
}

fn write(to: u32, sum: f32) {
    if ADDS { y[to] = other[to >> 2u][to & 3u] + sum; } else { y[to] = sum; }
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
