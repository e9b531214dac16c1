// separation: density times the distance to the nearest denser token.
//
//   d [batch, n, rows] of tokens first .. first + rows, density [batch, n], farthest [batch, n]
//   -> score [batch, n]
//
// j is denser than i if its density is larger, or equal and j < i. The densest token of a set takes
// the largest distance of the whole set. One thread per token. Dispatch (ceil(rows / 64), batch,
// 1).

struct Params { n: u32, first: u32, rows: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> d: array<f32>;
@group(0) @binding(2) var<storage, read> density: array<f32>;
@group(0) @binding(3) var<storage, read> farthest: array<f32>;
@group(0) @binding(4) var<storage, read_write> score: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let r = group.x * 64u + thread;
    if r >= p.rows {
        return;
    }
    let base = group.y * p.n;
    let i = p.first + r;
    let own = density[base + i];
    var delta = 0.0;
    var found = false;
    for (var j = 0u; j < p.n; j++) {
        let other = density[base + j];
        if other > own || (other == own && j < i) {
            let distance = d[(base + j) * p.rows + r];
            delta = select(distance, min(delta, distance), found);
            found = true;
        }
    }
    if !found {
        for (var j = 0u; j < p.n; j++) {
            delta = max(delta, farthest[base + j]);
        }
    }
    score[base + i] = own * delta;
}
