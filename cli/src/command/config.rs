//! `testbed config`

use crate::{
    exit::{Exit, Outcome},
    output::{problem::print_warnings, yaml},
    session::{Session, no_file},
};

pub fn run(session: &Session) -> Outcome {
    let project = session.project()?.ok_or_else(no_file)?;
    let (_, loaded) = project.load(&session.name_of(&project)?)?;
    print_warnings(&session.out, &loaded.warnings);
    session.out.result(&loaded.resolved, yaml::to_yaml);
    Ok(Exit::SUCCESS)
}
