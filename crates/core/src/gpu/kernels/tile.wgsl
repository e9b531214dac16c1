// Tiles of 32 columns in workgroup memory.

// The place of columns 4 j .. 4 j + 3 of a row: neighbouring threads meet different banks.
fn place(row: u32, j: u32) -> u32 {
    return row * 8u + (j ^ (row & 7u));
}
