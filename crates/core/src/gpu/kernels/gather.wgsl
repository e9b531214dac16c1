// gather: row ids[i] of x, or of the set that i belongs to, becomes row i. An id beyond the last
// row means the last row.
//
//   x [sets, rows, cols], ids [sets, ids_per_set] -> y [sets, ids_per_set, cols]
//
// One thread per number written, workgroups folded. Dispatch (ceil(count / 256), 1, 1), folded.

struct Params { count: u32, rows: u32, cols: u32, ids_per_set: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let at = (group.x + (group.y << 15u)) * 256u + thread;
    if at < p.count {
        let i = at / p.cols;
        let row = i / p.ids_per_set * p.rows + min(ids[i], p.rows - 1u);
        y[at] = x[row * p.cols + at % p.cols];
    }
}
