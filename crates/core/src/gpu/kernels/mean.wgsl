// mean: the mean of each run of consecutive rows, added in rising order.
//
//   x [rows * run, cols] -> y [rows, cols]
//
// One thread per number written, workgroups folded. Dispatch (ceil(rows * cols / 256), 1, 1),
// folded.

struct Params { count: u32, cols: u32, run: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + (group.y << 15u)) * 256u + thread;
    if i < p.count {
        let at = i / p.cols * p.run * p.cols + i % p.cols;
        var sum = 0.0;
        for (var r = 0u; r < p.run; r++) {
            sum += x[at + r * p.cols];
        }
        y[i] = sum / f32(p.run);
    }
}
