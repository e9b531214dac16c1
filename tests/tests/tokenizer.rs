//! Texts and their ids, in every form in which a vocabulary comes.

use univi_tests::{assert_report, folder_with_vocabulary};

#[test]
fn ids_match_the_reference() {
    assert_report(
        &univi::verify::tokenizer::check(&folder_with_vocabulary()),
        20,
    );
}
