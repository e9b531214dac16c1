//! Every shader is within its budget, as far as drivers are installed.

use std::path::Path;

use univi_shaders::{GPUS, faults};

#[test]
fn shaders_are_within_their_budgets() {
    let program = Path::new(env!("CARGO_BIN_EXE_univi-shaders"));
    let mut found = Vec::new();
    for gpu in GPUS {
        let compiled = gpu.compile(program, None, "");
        match compiled.unwrap_or_else(|error| panic!("{}: {error:#}", gpu.name)) {
            Ok(statistics) => {
                assert!(!statistics.is_empty());
                found.extend(faults(gpu, &statistics));
            }
            Err(unavailable) => println!("{} was not checked: {unavailable}", gpu.name),
        }
    }
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}
