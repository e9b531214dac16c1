// merge: sum of each cluster's members over (members + 1e-6), added in rising order.
//
//   x [batch * n, cols], groups [batch * n] -> y [batch * clusters, cols]
//
// One thread per number written looks at all n groups; neighbouring threads read neighbouring
// columns. No atomics. Workgroups folded. Dispatch (ceil(batch * clusters * cols / 64), 1, 1),
// folded.

struct Params { count: u32, n: u32, cols: u32, clusters: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> groups: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + (group.y << 15u)) * 64u + thread;
    if i >= p.count {
        return;
    }
    let col = i % p.cols;
    let cluster = i / p.cols % p.clusters;
    let first = i / p.cols / p.clusters * p.n;
    var sum = 0.0;
    var members = 0.0;
    for (var row = first; row < first + p.n; row++) {
        if groups[row] == cluster {
            sum += x[row * p.cols + col];
            members += 1.0;
        }
    }
    y[i] = sum / (members + 1e-6);
}
