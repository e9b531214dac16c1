// activate: a pointwise function.
//
//   x [count] -> y [count]
//
// One thread per number, workgroups folded. Dispatch (ceil(count / 256), 1, 1), folded.

struct Params { count: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// x * sigmoid(1.702 x). The exponent is bounded, so that nothing overflows.
@compute @workgroup_size(256)
fn quick_gelu(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + (group.y << 15u)) * 256u + thread;
    if i < p.count {
        let v = x[i];
        y[i] = v / (1.0 + exp(min(-1.702 * v, 80.0)));
    }
}

// x / 2 * (1 + erf(x / sqrt 2)).
@compute @workgroup_size(256)
fn gelu(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + (group.y << 15u)) * 256u + thread;
    if i < p.count {
        let v = x[i];
        y[i] = 0.5 * v * (1.0 + erf(v * 0.70710678));
    }
}

// The error function, by Abramowitz and Stegun's formula 7.1.26: within 1.5e-7.
fn erf(v: f32) -> f32 {
    let a = min(abs(v), 5.0);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(v) * (1.0 - poly * exp(-a * a));
}
