//! `testbed validate`

use std::collections::BTreeMap;

use kvm_compose::{
    diagnostic::{Diagnostic, problem_of},
    error::{Code, Problem},
    orchestrate::host::Cancel,
};
use serde::Serialize;

use crate::{
    args::Format,
    exit::{Exit, Outcome},
    output::problem::print_warnings,
    session::{Session, no_file},
};

#[derive(Serialize)]
struct Valid {
    valid: bool,
    file: String,
    deployment: String,
    guests: usize,
    switches: usize,
    routers: usize,
    warnings: Vec<Diagnostic>,
}

pub fn run(session: &Session) -> Outcome {
    let project = session.project()?.ok_or_else(no_file)?;
    let name = session.name_of(&project)?;
    let (_, mut loaded) = project.load(&name)?;
    let mut named = kvm_compose::project::check(&loaded.topology, &project.folder, &crate::project::catalogue()?);
    named.extend(kvm_compose::rules::judge(&loaded.topology, &Cancel::new())?);
    if let Some(problem) = problem_of(&project.shown(), named.clone()) {
        return Err(Problem { code: Code::InvalidFile, ..problem });
    }
    loaded.warnings.extend(named);
    if session.global.output == Format::Text {
        print_warnings(&session.out, &loaded.warnings);
    }
    let kinds = kinds(loaded.topology.guests.iter().map(|guest| guest.kind.word()));
    let valid = Valid {
        valid: true,
        file: project.file.display().to_string(),
        deployment: name.to_string(),
        guests: loaded.topology.guests.len(),
        switches: loaded.topology.switches.len(),
        routers: loaded.topology.routers.len(),
        warnings: loaded.warnings,
    };
    if session.global.quiet && session.global.output == Format::Text {
        return Ok(Exit::SUCCESS);
    }
    session.out.result(&valid, |valid| {
        format!(
            "`{}` is valid: {}{kinds}, {}, {}",
            valid.file,
            count(valid.guests, "guest", "guests"),
            count(valid.switches, "switch", "switches"),
            count(valid.routers, "router", "routers")
        )
    });
    Ok(Exit::SUCCESS)
}

/// How many there are of each kind, in parentheses.
fn kinds<'k>(words: impl Iterator<Item = &'k str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    let list: Vec<String> = counts.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
    if list.is_empty() { String::new() } else { format!(" ({})", list.join(", ")) }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
