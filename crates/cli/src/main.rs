//! The `univi` command.
fn main() {}
