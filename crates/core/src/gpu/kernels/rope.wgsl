// rope: rotates neighbouring columns (2 i, 2 i + 1) of each head.
//
//   x [rows, cols] of heads [head_dim], table [context, rotary]: rotary / 2 cosines, as many sines
//   -> y [rows, cols]; row r by row pos + r of the table, columns of a head from `rotary` on
//     unchanged
//
// One thread per pair, workgroups folded. Dispatch (ceil(rows * cols / 2 / 256), 1, 1), folded.

struct Params { pairs: u32, pairs_per_row: u32, head_dim: u32, rotary: u32, pos: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec2f>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec2f>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + (group.y << 15u)) * 256u + thread;
    if i >= p.pairs {
        return;
    }
    let pair = i % p.pairs_per_row % (p.head_dim / 2u);
    y[i] = turned(x[i], pair, p.pos + i / p.pairs_per_row);
}
