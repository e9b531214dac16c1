// layer_norm: each row to mean 0 and variance 1 (of x + eps), times weight, plus bias.
//
//   x [rows, cols], weight [cols], bias [cols] -> y [rows, cols]
//
// One workgroup per row: 64 threads stride over it, then each of them adds up all 64 partial sums.
// The variance is that of the differences from the mean, a second sweep: E[x^2] - E[x]^2 would
// cancel. Dispatch (rows, 1, 1), folded.

struct Params { rows: u32, cols: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> partial: array<f32, 64>;
var<workgroup> partial_squares: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let row = group.x + (group.y << 15u);
    if row >= p.rows {
        return;
    }
    let at = row * p.cols;
    var sum = 0.0;
    for (var i = thread; i < p.cols; i += 64u) {
        sum += x[at + i];
    }
    partial[thread] = sum;
    workgroupBarrier();
    var mean = 0.0;
    for (var i = 0u; i < 64u; i++) {
        mean += partial[i];
    }
    mean /= f32(p.cols);
    var squares = 0.0;
    for (var i = thread; i < p.cols; i += 64u) {
        let difference = x[at + i] - mean;
        squares += difference * difference;
    }
    partial_squares[thread] = squares;
    workgroupBarrier();
    var variance = 0.0;
    for (var i = 0u; i < 64u; i++) {
        variance += partial_squares[i];
    }
    let scale = 1.0 / sqrt(variance / f32(p.cols) + p.eps);
    for (var i = thread; i < p.cols; i += 64u) {
        y[at + i] = (x[at + i] - mean) * scale * weight[i] + bias[i];
    }
}
