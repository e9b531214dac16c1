//! Writes a checkpoint of random weights in the layout in which Chat-UniVi is published:
//!
//! ```text
//! random-checkpoint DIR torch|safetensors small|7b
//! ```

use std::path::Path;

use univi_tests::random_checkpoint::{Layout, Sizes, write};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, layout, sizes] = &arguments[..] else {
        panic!("random-checkpoint DIR torch|safetensors small|7b");
    };
    let layout = match &**layout {
        "torch" => Layout::Torch,
        "safetensors" => Layout::Safetensors,
        other => panic!("{other} is neither torch nor safetensors"),
    };
    let sizes = match &**sizes {
        "small" => Sizes::SMALL,
        "7b" => Sizes::SEVEN_BILLION,
        other => panic!("{other} is neither small nor 7b"),
    };
    write(Path::new(folder), layout, &sizes).expect("it can be written");
}
