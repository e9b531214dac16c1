// silu_mul: gate * sigmoid(gate) * up, the heart of SwiGLU.
//
//   gate [count], up [count] -> y [count]
//
// One thread per number, workgroups folded. Dispatch (ceil(count / 256), 1, 1), folded.

struct Params { count: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gate: array<f32>;
@group(0) @binding(2) var<storage, read> up: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + (group.y << 15u)) * 256u + thread;
    if i < p.count {
        let g = gate[i];
        // The exponent is bounded, so that nothing overflows.
        y[i] = g / (1.0 + exp(min(-g, 80.0))) * up[i];
    }
}
