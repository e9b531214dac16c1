//! The server, seen from the other end of a connection.

mod answers;
mod client;
mod faults;
mod folders;

use std::fs;

use tempfile::TempDir;

/// A page, a model, and what lies outside.
fn site() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("page/sub folder")).unwrap();
    fs::create_dir_all(root.join("models")).unwrap();
    for (file, text) in [
        ("page/index.html", "<p>page</p>"),
        ("page/app.js", "1"),
        ("page/app_bg.wasm", "\0asm"),
        ("page/sub folder/index.html", "<p>sub</p>"),
        ("models/m.gguf", "0123456789"),
        ("models/empty.gguf", ""),
        ("models/manifest.json", "{}"),
        ("secret", "secret"),
    ] {
        fs::write(root.join(file), text).unwrap();
    }
    dir
}

/// `size` bytes without a pattern that a shift would hide.
fn weights(size: u32) -> Vec<u8> {
    (0..size)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// A site with one large file among its models.
fn large() -> (TempDir, Vec<u8>) {
    let dir = site();
    let bytes = weights(3_000_000);
    fs::write(dir.path().join("models/large.gguf"), &bytes).unwrap();
    (dir, bytes)
}
