// append: keys and values go into a cache, as its type stores them.
//
//   k, v [rows, width] -> keys, values [.., blocks of 32 numbers], from block `first` on
//
// One thread per block of either, keys first, workgroups folded. width is a multiple of 4.
// Dispatch (ceil(2 * rows * blocks / 64), 1, 1), folded.

struct Params { count: u32, blocks: u32, width4: u32, first: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> keys: array<Stored>;
@group(0) @binding(4) var<storage, read_write> values: array<Stored>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let item = (group.x + (group.y << 15u)) * 64u + thread;
    if item >= p.count * 2u {
        return;
    }
    let is_value = item >= p.count;
    let i = select(item, item - p.count, is_value);
    let column = i % p.blocks * 8u;
    let source = i / p.blocks * p.width4 + column;
    var block: array<vec4f, 8>;
    for (var j = 0u; j < 8u; j++) {
        // The last block of a row may be wider than what is left of it.
        if column + j < p.width4 {
            if is_value { block[j] = v[source + j]; } else { block[j] = k[source + j]; }
        }
    }
    var quantized = quantize(block);
    let to = (p.first + i) * BLOCK_STORED;
    for (var j = 0u; j < BLOCK_STORED; j++) {
        if is_value { values[to + j] = quantized[j]; } else { keys[to + j] = quantized[j]; }
    }
}
