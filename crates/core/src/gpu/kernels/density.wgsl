// density: how close the k nearest tokens are, and how far the farthest is.
//
//   d [batch, n, rows] of tokens first .. first + rows, noise [batch, n] (read if noisy)
//   -> density [batch, n]: exp(-mean of the k smallest d^2) + 1e-6 noise, farthest [batch, n]
//
// One thread per token keeps the k smallest distances in order. k <= 32.
// Dispatch (ceil(rows / 64), batch, 1).

struct Params { n: u32, first: u32, rows: u32, k: u32, noisy: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> d: array<f32>;
@group(0) @binding(2) var<storage, read> noise: array<f32>;
@group(0) @binding(3) var<storage, read_write> density: array<f32>;
@group(0) @binding(4) var<storage, read_write> farthest: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let r = group.x * 64u + thread;
    if r >= p.rows {
        return;
    }
    var nearest: array<f32, 32>;
    for (var i = 0u; i < p.k; i++) {
        nearest[i] = 1e30;
    }
    var kth = 1e30;
    var far = 0.0;
    for (var j = 0u; j < p.n; j++) {
        let distance = d[(group.y * p.n + j) * p.rows + r];
        far = max(far, distance);
        if distance < kth {
            var i = p.k - 1u;
            while i > 0u && nearest[i - 1u] > distance {
                nearest[i] = nearest[i - 1u];
                i--;
            }
            nearest[i] = distance;
            kth = nearest[p.k - 1u];
        }
    }
    var sum = 0.0;
    for (var i = 0u; i < p.k; i++) {
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
