// ceiling_read: adds up a buffer, for measuring how fast memory is read.
//
//   x [vectors of 4] -> y [threads of 4]
//
// Each thread adds up every so many vectors; neighbours read neighbours.
// Dispatch (threads / 256, 1, 1).

struct Params { vectors: u32, threads: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let first = group.x * 256u + thread;
    var sum = vec4f();
    for (var i = first; i < p.vectors; i += p.threads) {
        sum += x[i];
    }
    y[first] = sum;
}
