//! `testbed validate`

use kvm_compose::{
    diagnostic::{Diagnostic, problem_of},
    error::{Code, Problem},
    orchestrate::host::Cancel,
    topology::GuestKind,
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
    let mut named = kvm_compose::project::check(&loaded.topology, &project.folder);
    named.extend(kvm_compose::rules::judge(&loaded.topology, &Cancel::new())?);
    if let Some(problem) = problem_of(&project.shown(), named.clone()) {
        return Err(Problem { code: Code::InvalidFile, ..problem });
    }
    loaded.warnings.extend(named);
    if session.global.output == Format::Text {
        print_warnings(&session.out, &loaded.warnings);
    }
    let micro = loaded.topology.guests.iter().filter(|guest| matches!(guest.kind, GuestKind::Micro { .. })).count();
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
            "`{}` is valid: {} ({micro} micro), {}, {}",
            valid.file,
            count(valid.guests, "guest", "guests"),
            count(valid.switches, "switch", "switches"),
            count(valid.routers, "router", "routers")
        )
    });
    Ok(Exit::SUCCESS)
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
