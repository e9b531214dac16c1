// argmax: the column of the largest value in each row, the first on ties.
//
//   x [rows, cols] -> ids [rows]
//
// One workgroup per row: 256 threads stride over it and keep their first largest, then every thread
// looks at all of them. Dispatch (rows, 1, 1), folded.

struct Params { rows: u32, cols: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;

var<workgroup> values: array<f32, 256>;
var<workgroup> columns: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let row = group.x + (group.y << 15u);
    if row >= p.rows {
        return;
    }
    let at = row * p.cols;
    // A thread beyond the last column repeats the last column, which changes nothing.
    var column = min(thread, p.cols - 1u);
    var value = x[at + column];
    for (var i = thread + 256u; i < p.cols; i += 256u) {
        if x[at + i] > value {
            value = x[at + i];
            column = i;
        }
    }
    values[thread] = value;
    columns[thread] = column;
    workgroupBarrier();
    for (var i = 0u; i < 256u; i++) {
        if values[i] > value || (values[i] == value && columns[i] < column) {
            value = values[i];
            column = columns[i];
        }
    }
    if thread == 0u {
        ids[row] = column;
    }
}
