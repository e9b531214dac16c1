//! Serves folders as the Hugging Face Hub does, for tests that are not written in Rust:
//!
//! ```text
//! test-hub ROOT [--port N] [--token TOKEN] [--gated OWNER/NAME] [--page-files N]
//!               [--bytes-per-s N] [--signature-uses N]
//! ```
//!
//! Prints the address that `HF_ENDPOINT` takes, and runs until it is killed.
//! `univi_tests::test_hub` has what it answers, and what tests can have go wrong.

use std::path::Path;

use univi_tests::test_hub::{TestHub, TestHubOptions};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().expect("the folder of OWNER/NAME folders");
    let (mut options, mut port) = (TestHubOptions::default(), 0);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .unwrap_or_else(|| panic!("{name} wants a value"));
        let number = || {
            value
                .parse()
                .unwrap_or_else(|_| panic!("{value} is no number"))
        };
        match &*name {
            "--port" => port = number() as u16,
            "--token" => options.token = Some(value),
            "--gated" => options.gated.push(value),
            "--page-files" => options.page_files = number() as usize,
            "--bytes-per-s" => options.bytes_per_s = number(),
            "--signature-uses" => options.signature_uses = number() as u32,
            name => panic!("{name} is no option"),
        }
    }
    let hub = TestHub::start_at(Path::new(&root), options, port);
    println!("{}", hub.endpoint());
    loop {
        std::thread::park();
    }
}
