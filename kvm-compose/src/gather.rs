//! Brings together what a testbed consists of: reads the files that its files name, and looks variables up.
//!
//! Whatever cannot be had is left to the reading of the testbed, which knows the place that asked for it. Must not know what
//! the files say.

use std::{collections::BTreeMap, path::Path};

use crate::{
    project,
    spec::{
        Sources,
        compose::{self, Missing, dotenv},
        node::MAX_BYTES,
    },
};

/// Names may lead to further names; a testbed whose names go on beyond this is read as far as it was found.
const ROUNDS: usize = 64;
/// The file of the project's folder with values of variables.
const DOTENV: &str = ".env";

/// Where files and variables come from.
pub struct From<'a> {
    /// The project's folder.
    pub folder: &'a Path,
    /// The environment, which goes before the project's `.env`. Servers have none: theirs is nobody's business.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// The sources with everything that they name and that can be had.
pub fn gather(mut sources: Sources, from: &From<'_>) -> Sources {
    let mut dotenv: Option<BTreeMap<String, String>> = None;
    for _ in 0..ROUNDS {
        let asked = compose::asked(&sources);
        if asked == compose::Asked::default() {
            break;
        }
        for path in asked.files {
            match project::read_text(from.folder, &path, MAX_BYTES as u64) {
                Ok(text) => drop(sources.composition.files.insert(path, text)),
                Err((message, hint, outside)) => drop(sources.missing.insert(path, Missing { message, hint, outside })),
            }
        }
        for name in asked.variables {
            let value = (from.environment)(&name).or_else(|| {
                let values = dotenv.get_or_insert_with(|| read_dotenv(&mut sources, from));
                values.get(&name).cloned()
            });
            sources.composition.variables.insert(name, value);
        }
    }
    sources
}

/// The project's `.env`, when there is one. Its faults go to the sources.
fn read_dotenv(sources: &mut Sources, from: &From<'_>) -> BTreeMap<String, String> {
    if !from.folder.join(DOTENV).exists() {
        return BTreeMap::new();
    }
    match project::read_text(from.folder, DOTENV, MAX_BYTES as u64) {
        Ok(text) => {
            let (values, faults) = dotenv::parse(&text, from.environment);
            sources.dotenv = faults;
            values
        }
        Err((message, hint, _)) => {
            let hint = hint.unwrap_or_else(|| "mend or remove it".to_string());
            sources.dotenv = vec![dotenv::Fault { line: 1, message, hint }];
            BTreeMap::new()
        }
    }
}
