//! Conversations written down, and where answers end.

use univi_tests::{assert_report, folder_with_vocabulary};

#[test]
fn prompts_match_the_reference() {
    assert_report(&univi::verify::prompt::check(&folder_with_vocabulary()), 20);
}
