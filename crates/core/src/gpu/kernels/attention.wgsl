// attention: softmax(q k' / sqrt(head_dim)) v for many rows of q.
//
//   q [batch * n, heads * head_dim], k, v [batch * keys, kv_heads * head_dim] -> y like q
//   row r of a set sees keys 0 .. seen - 1, or, causally, 0 .. pos + r
//
// One thread per row of q: its scores and its weighted sum of v stay in the thread, and the keys,
// eight at a time, are the same for the whole workgroup. The softmax is carried along (running
// maximum and total), so no score is ever stored, and nobody waits at a barrier.
// head_dim is a multiple of 4, at most 256. Dispatch (ceil(n / 64), heads, batch).

struct Params {
    n: u32,
    keys: u32,
    pos: u32,
    causal: u32,
    heads: u32,
    heads_per_kv: u32,
    dim4: u32,
    scale: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> k: array<vec4f>;
@group(0) @binding(3) var<storage, read> v: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;

const MAX_DIM4 = 64u;
// Below every score, and finite: shaders may assume that there is no infinity.
const UNSEEN = -1e30;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let head = group.y;
    let kv_head = head / p.heads_per_kv;
    let kv_stride = p.heads / p.heads_per_kv * p.dim4;
    // Rows beyond the last repeat it; what they yield is not written.
    let row = group.x * 64u + thread;
    let q_at = ((group.z * p.n + min(row, p.n - 1u)) * p.heads + head) * p.dim4;

    var query: array<vec4f, MAX_DIM4>;
    var sum: array<vec4f, MAX_DIM4>;
    for (var d = 0u; d < p.dim4; d++) {
        query[d] = q[q_at + d] * p.scale;
        sum[d] = vec4f();
    }
    var seen = p.keys;
    var tile_end = p.keys;
    if p.causal != 0u {
        seen = min(p.pos + row + 1u, p.keys);
        tile_end = min(p.pos + group.x * 64u + 64u, p.keys);
    }
    var largest = UNSEEN;
    var total = 0.0;
    for (var key = 0u; key < tile_end; key += 8u) {
        // Keys beyond the last repeat it, unseen.
        let base = group.z * p.keys;
        let last = p.keys - 1u;
        let at0 = (base + key) * kv_stride + kv_head * p.dim4;
        let at1 = (base + min(key + 1u, last)) * kv_stride + kv_head * p.dim4;
        let at2 = (base + min(key + 2u, last)) * kv_stride + kv_head * p.dim4;
        let at3 = (base + min(key + 3u, last)) * kv_stride + kv_head * p.dim4;
        let at4 = (base + min(key + 4u, last)) * kv_stride + kv_head * p.dim4;
        let at5 = (base + min(key + 5u, last)) * kv_stride + kv_head * p.dim4;
        let at6 = (base + min(key + 6u, last)) * kv_stride + kv_head * p.dim4;
        let at7 = (base + min(key + 7u, last)) * kv_stride + kv_head * p.dim4;
        var a = vec4f();
        var b = vec4f();
        for (var d = 0u; d < p.dim4; d++) {
            let x = query[d];
            a += vec4f(dot(x, k[at0 + d]), dot(x, k[at1 + d]), dot(x, k[at2 + d]), dot(x, k[at3 + d]));
            b += vec4f(dot(x, k[at4 + d]), dot(x, k[at5 + d]), dot(x, k[at6 + d]), dot(x, k[at7 + d]));
        }
        let place = vec4u(key) + vec4u(0u, 1u, 2u, 3u);
        a = select(vec4f(UNSEEN), a, place < vec4u(seen));
        b = select(vec4f(UNSEEN), b, place + vec4u(4u) < vec4u(seen));
        let m = max(a, b);
        let now = max(largest, max(max(m.x, m.y), max(m.z, m.w)));
        let fade = exp(largest - now);
        a = exp(a - now);
        b = exp(b - now);
        total = total * fade + dot(a, vec4f(1.0)) + dot(b, vec4f(1.0));
        for (var d = 0u; d < p.dim4; d++) {
            sum[d] = sum[d] * fade
                + a.x * v[at0 + d] + a.y * v[at1 + d] + a.z * v[at2 + d] + a.w * v[at3 + d]
                + b.x * v[at4 + d] + b.y * v[at5 + d] + b.z * v[at6 + d] + b.w * v[at7 + d];
        }
        largest = now;
    }
    if row < p.n {
        for (var d = 0u; d < p.dim4; d++) {
            y[q_at + d] = sum[d] / total;
        }
    }
}
