// ceiling_multiply: multiplies and adds in registers, for measuring how fast a device computes.
//
//   -> y [threads of 4]
//
// Eight chains of vectors a thread, which don't wait for each other.
// Dispatch (threads / 256, 1, 1).

struct Params { rounds: u32, factor: f32, addend: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let factor = vec4f(p.factor);
    let addend = vec4f(p.addend);
    var a0 = vec4f(f32(thread));
    var a1 = a0 + 1.0;
    var a2 = a0 + 2.0;
    var a3 = a0 + 3.0;
    var a4 = a0 + 4.0;
    var a5 = a0 + 5.0;
    var a6 = a0 + 6.0;
    var a7 = a0 + 7.0;
    for (var round = 0u; round < p.rounds; round++) {
        a0 = fma(a0, factor, addend);
        a1 = fma(a1, factor, addend);
        a2 = fma(a2, factor, addend);
        a3 = fma(a3, factor, addend);
        a4 = fma(a4, factor, addend);
        a5 = fma(a5, factor, addend);
        a6 = fma(a6, factor, addend);
        a7 = fma(a7, factor, addend);
    }
    y[group.x * 256u + thread] = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7;
}
