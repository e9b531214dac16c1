// rank: the tokens of the largest scores, falling, lower index first on ties.
//
//   score [batch, n] -> centres [batch, clusters]
//
// One thread per token counts those before it. Dispatch (ceil(n / 64), batch, 1).

struct Params { n: u32, clusters: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> score: array<f32>;
@group(0) @binding(2) var<storage, read_write> centres: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = group.x * 64u + thread;
    if i >= p.n {
        return;
    }
    let base = group.y * p.n;
    let own = score[base + i];
    var before = 0u;
    for (var j = 0u; j < p.n; j++) {
        let other = score[base + j];
        before += u32(other > own || (other == own && j < i));
    }
    if before < p.clusters {
        centres[group.y * p.clusters + before] = i;
    }
}
