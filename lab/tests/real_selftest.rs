//! `selftest.sh`, so that it runs wherever the tests run.

use std::{path::Path, process::Command};

#[test]
fn the_lab_is_what_the_tests_take_it_for() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("selftest.sh");
    let output = Command::new(script).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.ends_with("passed, 0 failed\n"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
