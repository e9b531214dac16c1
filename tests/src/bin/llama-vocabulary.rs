//! Puts the LLaMA vocabulary among the fixtures, for `univi verify` and the pages that need it.

fn main() {
    univi_tests::llama_vocabulary::bring(&univi_tests::fixtures());
}
