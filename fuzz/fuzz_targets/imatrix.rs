#![no_main]

libfuzzer_sys::fuzz_target!(|file: &[u8]| univi_tests::fuzzed::imatrix(file));
