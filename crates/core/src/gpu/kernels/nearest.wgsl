// nearest: the nearest centre of each token, the first on ties; a centre joins itself.
//
//   d [batch, clusters, n], centres [batch, clusters] -> groups [batch, n]
//
// One thread per token. Dispatch (ceil(n / 64), batch, 1).

struct Params { n: u32, clusters: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> d: array<f32>;
@group(0) @binding(2) var<storage, read> centres: array<u32>;
@group(0) @binding(3) var<storage, read_write> groups: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = group.x * 64u + thread;
    if i >= p.n {
        return;
    }
    let base = group.y * p.clusters;
    var best = 0u;
    var shortest = d[base * p.n + i];
    var own = p.clusters;
    for (var c = 0u; c < p.clusters; c++) {
        let distance = d[(base + c) * p.n + i];
        if distance < shortest {
            shortest = distance;
            best = c;
        }
        if centres[base + c] == i {
            own = c;
        }
    }
    groups[group.y * p.n + i] = select(best, own, own < p.clusters);
}
