// copy: words from one buffer to a place in another.
//
//   from [count] -> to [to_offset ..]
//
// One thread per word, workgroups folded into two dimensions. Dispatch (ceil(count / 256), 1, 1),
// folded.

struct Params { count: u32, from_offset: u32, to_offset: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> copied: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + (group.y << 15u)) * 256u + thread;
    if i < p.count {
        copied[p.to_offset + i] = source[p.from_offset + i];
    }
}
