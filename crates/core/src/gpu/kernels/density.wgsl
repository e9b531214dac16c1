// density: how close the k nearest tokens are, and how far the farthest is.
//
//   d [batch, n, rows] of tokens first .. first + rows, noise [batch, n] (read if noisy)
//   -> density [batch, n]: exp(-mean of the k smallest d^2) + 1e-6 noise, farthest [batch, n]
//
// One thread per token keeps the k smallest distances in order, in workgroup memory: an array that
// is indexed does not stay in registers. k <= 32.
// Dispatch (ceil(rows / 64), batch, 1).

struct Params { n: u32, first: u32, rows: u32, k: u32, noisy: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> d: array<f32>;
@group(0) @binding(2) var<storage, read> noise: array<f32>;
@group(0) @binding(3) var<storage, read_write> density: array<f32>;
@group(0) @binding(4) var<storage, read_write> farthest: array<f32>;

// The i-th nearest of a thread is at 64 i + thread.
var<workgroup> nearest: array<f32, 2048>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let r = group.x * 64u + thread;
    if r >= p.rows {
        return;
    }
    let end = thread + p.k * 64u;
    for (var i = thread; i < end; i += 64u) {
        nearest[i] = 1e30;
    }
    var kth = 1e30;
    var far = 0.0;
    for (var j = 0u; j < p.n; j++) {
        let distance = d[(group.y * p.n + j) * p.rows + r];
        far = max(far, distance);
        if distance < kth {
            var i = end - 64u;
            while i > thread && nearest[i - 64u] > distance {
                nearest[i] = nearest[i - 64u];
                i -= 64u;
            }
            nearest[i] = distance;
            kth = nearest[end - 64u];
        }
    }
    var sum = 0.0;
    for (var i = thread; i < end; i += 64u) {
        sum += nearest[i] * nearest[i];
    }
    let at = group.y * p.n + p.first + r;
    var value = exp(-(sum / f32(p.k)));
    if p.noisy != 0u {
        value += 1e-6 * noise[at];
    }
    density[at] = value;
    farthest[at] = far;
}
