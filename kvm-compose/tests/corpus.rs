//! What the fuzzer found worth keeping: texts that reach all corners, and those that once broke something.

mod sound;

use std::time::Duration;

#[test]
fn every_text_of_the_corpus_is_refused_with_places_or_planned() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        let path = entry.expect("an entry").path();
        // The fuzzer also feeds bytes that are no text; nobody reads those.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let found = std::panic::catch_unwind(|| sound::check(&text, Duration::from_secs(1)));
        found.unwrap_or_else(|_| panic!("{}:\n{text}", path.display()));
        count += 1;
    }
    assert!(count >= 50, "{count} texts");
}
