// attention_split: softmax(q k' / sqrt(head_dim)) v for few rows of q over a long context
// (decoding).
//
//   q [t, heads * head_dim], k, v [capacity, 4 kv_stride] as the cache stores them; row r sees keys
//     0 .. pos + r
//   -> parts [t, heads, splits, head_dim + 4]: weighted sum, then its largest score and total
//     weight
//
// One workgroup per 64 keys, head and row. Each thread scores one key; then each thread
// takes every 64th vector of columns and adds up the 64 weighted rows of v.
// Dispatch (ceil((pos + t) / 64), heads, t).
//
// head_dim is a multiple of 4.

struct Params {
    pos: u32,
    heads: u32,
    heads_per_kv: u32,
    dim4: u32,
    kv_stride: u32,
    splits: u32,
    scale: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> parts: array<vec4f>;

var<workgroup> scores: array<f32, 64>;
var<workgroup> weights: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let head = group.y;
    let row = group.z;
    let kv_at = head / p.heads_per_kv * p.dim4;
    let q_at = (row * p.heads + head) * p.dim4;
    let last = p.pos + row;
    let first = group.x * 64u;
    let key = first + thread;

    var score = UNSEEN;
    if key <= last {
        let at = key * p.kv_stride + kv_at;
        var sum = vec4f();
        for (var d = 0u; d < p.dim4; d++) {
            sum += q[q_at + d] * key_at(at + d);
        }
        score = ((sum.x + sum.y) + (sum.z + sum.w)) * p.scale;
    }
    scores[thread] = score;
    workgroupBarrier();
    var largest = UNSEEN;
    for (var i = 0u; i < 64u; i++) {
        largest = max(largest, scores[i]);
    }
    // Of a part that this row does not see at all, every weight is 0.
    weights[thread] = select(0.0, exp(score - largest), key <= last);
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < 64u; i++) {
        total += weights[i];
    }
    let part = ((row * p.heads + head) * p.splits + group.x) * (p.dim4 + 1u);
    // Past the last key the cache may hold anything.
    let count = min(64u, max(last + 1u, first) - first);
    for (var d = thread; d < p.dim4; d += 64u) {
        var sum = vec4f();
        for (var i = 0u; i < count; i++) {
            sum += weights[i] * value_at((first + i) * p.kv_stride + kv_at + d);
        }
        parts[part + d] = sum;
    }
    if thread == 0u {
        parts[part + p.dim4] = vec4f(largest, total, 0.0, 0.0);
    }
}
