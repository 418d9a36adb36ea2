//! `testbed config`

use kvm_compose::topology::Assignment;

use crate::{
    args::Format,
    exit::{Exit, Outcome},
    output::{error_line, problem::print_warnings, yaml},
    session::{Session, no_file},
};

pub fn run(session: &Session) -> Outcome {
    let project = session.project()?.ok_or_else(no_file)?;
    let (_, loaded) = project.load(&session.name_of(&project)?)?;
    print_warnings(&session.out, &loaded.warnings);
    session.out.result(&loaded.resolved(), yaml::to_yaml);
    let nics = loaded.topology.guests.iter().flat_map(|guest| &guest.nics);
    let leased = nics.flat_map(|nic| &nic.addresses).any(|address| address.assignment == Assignment::Dhcp);
    if leased && session.global.output == Format::Text && !session.global.quiet {
        error_line("note: `dynamic` stays where a DHCP rule hands the address out; `testbed plan` and `testbed ps` show which one it is");
    }
    Ok(Exit::SUCCESS)
}
