// rms_norm: x / sqrt(mean(x^2) + eps) * weight, per row.
//
//   x [rows, cols], weight [cols] -> y [rows, cols]
//
// One workgroup per row: 64 threads stride over it, then each of them adds up all 64 partial sums:
// one barrier, and the same total everywhere. Dispatch (rows, 1, 1), folded.

struct Params { rows: u32, cols: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let row = group.x + (group.y << 15u);
    if row >= p.rows {
        return;
    }
    let at = row * p.cols;
    var squares = 0.0;
    for (var i = thread; i < p.cols; i += 64u) {
        squares += x[at + i] * x[at + i];
    }
    partial[thread] = squares;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < 64u; i++) {
        total += partial[i];
    }
    let scale = 1.0 / sqrt(total / f32(p.cols) + p.eps);
    for (var i = thread; i < p.cols; i += 64u) {
        y[at + i] = x[at + i] * scale * weight[i];
    }
}
