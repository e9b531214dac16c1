// add: x + y, with y repeated along the rows of x.
//
//   x [count], y [repeat], count % repeat == 0 -> z [count]
//
// One thread per number, workgroups folded. Dispatch (ceil(count / 256), 1, 1), folded.

struct Params { count: u32, repeat: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> z: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + (group.y << 15u)) * 256u + thread;
    if i < p.count {
        z[i] = x[i] + y[i % p.repeat];
    }
}
