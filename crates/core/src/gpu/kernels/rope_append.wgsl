// rope_append: queries and keys are rotated as by rope, keys and values cached as by append.
//
//   qkv [rows, q_width + 2 * kv_width], table [context, rotary]
//   -> q [rows, q_width]; keys, values [.., blocks of 32 numbers], from block `first` on
//
// One thread per 32 columns of one of the three, workgroups folded. Widths and heads are multiples
// of 4. Dispatch (ceil(rows * (q_blocks + 2 * kv_blocks) / 64), 1, 1), folded.

struct Params {
    rows: u32,
    q_width4: u32,
    q_blocks: u32,
    kv_width4: u32,
    kv_blocks: u32,
    first: u32,
    head_dim: u32,
    rotary: u32,
    pos: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4f>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read_write> q: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> keys: array<Stored>;
@group(0) @binding(5) var<storage, read_write> values: array<Stored>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let item = (group.x + (group.y << 15u)) * 64u + thread;
    let row = item / (p.q_blocks + p.kv_blocks * 2u);
    if row >= p.rows {
        return;
    }
    var block = item % (p.q_blocks + p.kv_blocks * 2u);
    var start = row * (p.q_width4 + p.kv_width4 * 2u);
    let is_query = block < p.q_blocks;
    let is_value = block >= p.q_blocks + p.kv_blocks;
    if is_value {
        block -= p.q_blocks + p.kv_blocks;
        start += p.q_width4 + p.kv_width4;
    } else if !is_query {
        block -= p.q_blocks;
        start += p.q_width4;
    }
    let width4 = select(p.kv_width4, p.q_width4, is_query);
    let column = block * 8u;
    var numbers: array<vec4f, 8>;
    for (var j = 0u; j < 8u; j++) {
        // The last block of a row may be wider than what is left of it.
        if column + j >= width4 {
            break;
        }
        var v = qkv[start + column + j];
        if !is_value {
            let pair = (column + j) * 2u % (p.head_dim / 2u);
            let position = p.pos + row;
            v = vec4f(turned(v.xy, pair, position), turned(v.zw, pair + 1u, position));
        }
        numbers[j] = v;
        if is_query {
            q[row * p.q_width4 + column + j] = v;
        }
    }
    if is_query {
        return;
    }
    var quantized = quantize(numbers);
    let to = (p.first + row * p.kv_blocks + block) * BLOCK_STORED;
    for (var j = 0u; j < BLOCK_STORED; j++) {
        if is_value { values[to + j] = quantized[j]; } else { keys[to + j] = quantized[j]; }
    }
}
