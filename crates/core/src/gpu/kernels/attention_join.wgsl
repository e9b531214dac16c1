// attention_join: the parts of attention_split, brought to a common maximum and added.
//
//   parts [rows, splits, head_dim + 4]: weighted sum, then its largest score and total weight
//   -> y [rows, head_dim]
//
// One thread per four columns; `rows` counts rows times heads. Dispatch (ceil(rows * dim4 / 64), 1,
// 1), folded.

struct Params { count: u32, dim4: u32, splits: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> parts: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + (group.y << 15u)) * 64u + thread;
    if i >= p.count {
        return;
    }
    let first = i / p.dim4 * p.splits * (p.dim4 + 1u);
    let column = i % p.dim4;
    // The first part holds key 0, which every row sees.
    var largest = parts[first + p.dim4].x;
    for (var s = 1u; s < p.splits; s++) {
        largest = max(largest, parts[first + s * (p.dim4 + 1u) + p.dim4].x);
    }
    var sum = vec4f();
    var total = 0.0;
    for (var s = 0u; s < p.splits; s++) {
        let part = first + s * (p.dim4 + 1u);
        let own = parts[part + p.dim4];
        let fade = exp(own.x - largest);
        sum += parts[part + column] * fade;
        total += own.y * fade;
    }
    y[i] = sum / total;
}
