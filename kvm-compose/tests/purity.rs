//! Who may know whom, as a test: pure modules hold no effects, and no module knows one above it.

use std::path::{Path, PathBuf};

/// From the lowest to the highest: a module knows only those before it. `error`, `diagnostic`, `names` and `addr` are one layer.
const LAYERS: &[&[&str]] = &[
    &["error", "diagnostic", "names", "addr"],
    &["api"],
    &["spec"],
    &["catalogue"],
    &["topology"],
    &["picture", "check", "why"],
    &["plan"],
    &["orchestrate"],
    &["project"],
    &["backend", "guest"],
];

/// Modules whose output depends on nothing but their input.
const PURE: &[&str] = &["error", "diagnostic", "names", "addr", "api", "spec", "catalogue", "topology", "picture", "check", "why", "plan"];

/// What a pure module must not mention.
const EFFECTS: &[&str] = &[
    "std::fs",
    "std::process",
    "std::env",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os",
    "std::thread",
    "std::sync",
    "std::time",
    "SystemTime",
    "Instant::",
    "Utc::now",
    "Local::now",
    "new_v4",
    "now_v7",
    "HashMap",
    "HashSet",
    "parking_lot",
    "tokio",
    "tempfile",
    "rustix",
    "virt::",
    "println!",
    "eprintln!",
];

fn sources(module: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![root.join(format!("{module}.rs"))];
    let mut folders = vec![root.join(module)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs") && path.exists());
    assert!(!files.is_empty(), "module {module} has moved");
    files.into_iter().map(|path| (path.clone(), code_of(&std::fs::read_to_string(path).expect("readable")))).collect()
}

/// The code without comments, and without its tests.
fn code_of(source: &str) -> String {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    // What is shared and never changed is no effect.
    let code = code.lines().filter(|line| *line != "use std::sync::Arc;");
    code.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn pure_modules_hold_no_effects() {
    for module in PURE {
        for (path, code) in sources(module) {
            for effect in EFFECTS {
                // An I/O error may be translated, not made.
                assert!(!mentions(&code, effect), "{} mentions `{effect}`", path.display());
            }
        }
    }
}

/// True when the code has the word, and not only as the end of a longer one.
fn mentions(code: &str, word: &str) -> bool {
    let part_of_a_name = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| !part_of_a_name(&code[..at]))
}

#[test]
fn no_module_knows_one_above_it() {
    for (level, layer) in LAYERS.iter().enumerate() {
        for module in *layer {
            for (path, code) in sources(module) {
                for above in LAYERS[level + 1..].iter().flat_map(|layer| layer.iter()) {
                    assert!(!code.contains(&format!("crate::{above}")) && !nested(&code, above), "{} knows `{above}`", path.display());
                }
            }
        }
    }
}

/// True when a `use crate::{ … }` names the module.
fn nested(code: &str, module: &str) -> bool {
    code.split("use crate::{").skip(1).any(|rest| {
        let group = rest.split("\n};").next().unwrap_or_default();
        group
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{module}::")) && line.starts_with("    ") && !line.starts_with("     "))
    })
}

#[test]
fn no_file_is_longer_than_it_should_be() {
    for module in LAYERS.iter().flat_map(|layer| layer.iter()) {
        for (path, _) in sources(module) {
            let lines = std::fs::read_to_string(&path).expect("readable").lines().count();
            assert!(lines <= 450, "{} has {lines} lines: does it hold two rooms?", path.display());
        }
    }
}
