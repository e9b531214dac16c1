// copy_rows: rows of other widths.
//
//   from [rows, from_cols] -> to [rows, to_cols], cut or filled up with zeros
//
// One thread per word written, workgroups folded. Dispatch (ceil(rows * to_cols / 256), 1, 1),
// folded.

struct Params { count: u32, from_cols: u32, to_cols: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read_write> copied: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + (group.y << 15u)) * 256u + thread;
    if i < p.count {
        let col = i % p.to_cols;
        if col < p.from_cols {
            copied[i] = source[i / p.to_cols * p.from_cols + col];
        } else {
            copied[i] = 0.0;
        }
    }
}
