// embed: row ids[i] of a stored table, dequantized, becomes row i.
//
//   table part: rows first .. first + rows, ids [n]
//   -> y [n, cols]; ids outside the part are left to others,
//   ids beyond the last row of the table mean the last row
//
// One thread per 32 columns, workgroups folded. Dispatch (ceil(n * ceil(cols / 32) / 64), 1, 1),
// folded.
// Truth: GgmlType::dequantize, to a unit in the last place.

struct Params { count: u32, cols: u32, blocks: u32, row_bytes: u32, first: u32, rows: u32, table_rows: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let item = (group.x + (group.y << 15u)) * 64u + thread;
    if item >= p.count {
        return;
    }
    let i = item / p.blocks;
    let b = item % p.blocks;
    let id = min(ids[i], p.table_rows - 1u);
    if id < p.first || id - p.first >= p.rows {
        return;
    }
    let h = head((id - p.first) * p.row_bytes, b);
    let at = i * p.cols;
    for (var j = 0u; j < 8u; j++) {
        write4(at, b * 32u + j * 4u, four(h, j));
    }
}

fn write4(at: u32, col: u32, v: vec4f) {
    if col < p.cols { y[at + col] = v.x; }
    if col + 1u < p.cols { y[at + col + 1u] = v.y; }
    if col + 2u < p.cols { y[at + col + 2u] = v.z; }
    if col + 3u < p.cols { y[at + col + 3u] = v.w; }
}
