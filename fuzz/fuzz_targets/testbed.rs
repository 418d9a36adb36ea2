//! Coverage-guided fuzzing of everything between a text and a plan. What must hold is in `kvm-compose/tests/sound`.
#![no_main]

#[path = "../../kvm-compose/tests/sound/mod.rs"]
mod sound;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The command refuses other bytes before anything reads them.
    if let Ok(text) = std::str::from_utf8(data) {
        sound::check(text, limit());
    }
});

/// A second on a machine of one's own; `FUZZ_LIMIT_MS` says otherwise for a busy one.
fn limit() -> Duration {
    let told = std::env::var("FUZZ_LIMIT_MS").ok().and_then(|text| text.parse().ok());
    Duration::from_millis(told.unwrap_or(1000))
}
